"""What an admin may set about the pool's controller: ``c.ElasticPool``, ``c.ElasticNamespaces``."""

from __future__ import annotations

import time
from typing import Any

from traitlets import Bool, Dict, Float, Int, List, TraitError, Unicode, validate
from traitlets.config import Configurable

from ..errors import BadRequest
from ..pool.actor import Pace
from ..pool.foresight import Foresight
from ..pool.schedule import parse_floor
from ..pool.targets import Settings


class ElasticPool(Configurable):
    """How the pool of warm pods is kept, on any cluster."""

    create_rate = Float(
        10.0, min=0.01, help="Warm pods created per second, on average; after a burst of claims."
    ).tag(config=True)

    create_burst = Int(
        20, min=1, help="Warm pods created at once after a quiet time, before `create_rate` holds."
    ).tag(config=True)

    warming_grace = Float(
        300.0,
        help="""Seconds after which a pod that is not warm counts as failed: it is given back, and
        its template is tried again after a pause. More than it takes to pull the largest image.""",
    ).tag(config=True)

    quota_share = Float(
        Settings().share,
        min=0.0,
        max=1.0,
        help="""Part of the quota that predicted warm pods may take together (templates with
        `pool.predict`). There is always room for one.""",
    ).tag(config=True)

    quota_ceiling = Float(
        Settings().ceiling,
        min=0.0,
        max=1.0,
        help="Part of the quota below which warm pods and all other pods stay together.",
    ).tag(config=True)

    patience = Float(
        Settings().patience,
        min=60.0,
        help="""Seconds within which a predicted pod must be likely to serve a start. More keeps
        more pods: fewer cold starts, more idle pods. `jupyter elastic simulate` shows both.""",
    ).tag(config=True)

    predicted_for = Float(
        Settings().stabilise,
        min=0.0,
        help="Seconds for which a predicted target is kept before it falls.",
    ).tag(config=True)

    schedule = Dict(
        value_trait=List(Unicode()),
        key_trait=Unicode(),
        help="""By template with `pool.predict`, what you know beforehand: `{"course": ["40 by
        Monday 9:00", "10 by Mon-Fri 8:30 for 2h"]}`, by the clock of the machine that keeps the
        pool. Without `for`, they are kept half an hour.""",
    ).tag(config=True)

    metrics_owners = Int(
        0,
        min=0,
        help="""How many owners the metrics name, those with most kernels first. 0: none. Each is a
        time series, and whoever may read metrics reads these names.""",
    ).tag(config=True)

    def pace(self) -> Pace:
        """As the controller takes it."""
        return Pace(
            rate=self.create_rate,
            burst=self.create_burst,
            warming_grace=self.warming_grace,
        )

    @validate("schedule")
    def _readable(self, proposal: Any) -> dict[str, list[str]]:
        schedule: dict[str, list[str]] = proposal["value"]
        try:
            for lines in schedule.values():
                for line in lines:
                    parse_floor(line)
        except BadRequest as error:
            raise TraitError(f"c.ElasticPool.schedule: {error}") from None
        return schedule

    def foresight(self, *, gives_gpus: bool) -> Foresight:
        """What the controller asks for the templates that are predicted."""
        return Foresight(
            Settings(
                share=self.quota_share,
                ceiling=self.quota_ceiling,
                patience=self.patience,
                stabilise=self.predicted_for,
                refill_rate=self.create_rate,
            ),
            offset=time.localtime().tm_gmtoff,
            gives_gpus=gives_gpus,
            schedule={
                template: [parse_floor(line) for line in lines]
                for template, lines in self.schedule.items()
            },
        )


class ElasticNamespaces(Configurable):
    """Which namespaces `jupyter elastic controller` keeps the pools of; on Kubernetes only.

    With none of `namespaces` and `everywhere`: that of `c.ElasticKubernetes.namespace`, by the same
    lease as its Jupyter servers.
    """

    namespaces = List(
        Unicode(),
        help="These, and no others; rights are needed only in them (`--namespaces a,b`). For up to "
        "some 50: each has watches of its own.",
    ).tag(config=True)

    everywhere = Bool(
        False,
        help="""Those that are found in the whole cluster, as they come and go
        (`--all-namespaces`). A namespace with the label `elastic.jupyter.org/pool=disabled` is
        left alone.""",
    ).tag(config=True)

    selector = Unicode(
        "elastic.jupyter.org/pool=enabled",
        help="""With `everywhere`: the label selector by which a namespace is found
        (`--selector`). Empty: every namespace of the cluster.""",
    ).tag(config=True)

    by_pool = Bool(
        True,
        help="With `everywhere`: whether a KernelPool that somebody made in a namespace is enough.",
    ).tag(config=True)

    by_quota = Bool(
        False,
        help="With `everywhere`: whether a ResourceQuota in a namespace is enough (`--by-quota`).",
    ).tag(config=True)

    requests_per_second = Float(
        200.0,
        min=1.0,
        help="Requests to the API server per second, on average, for all namespaces together; "
        "bursts of twice as many.",
    ).tag(config=True)

    shards = Int(
        1,
        min=1,
        max=100,
        help="""Into how many shards the namespaces are divided (`--shards`). Each has a lease, and
        may be kept by another replica. The same for all replicas.""",
    ).tag(config=True)
