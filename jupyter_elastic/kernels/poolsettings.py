"""What an admin may set about the pool's controller: ``c.ElasticPool``."""

from __future__ import annotations

from traitlets import Float, Int
from traitlets.config import Configurable

from ..pool.actor import Pace


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

    scale_down_after = Float(
        300.0,
        help="""Seconds for which fewer pods must have been predicted before pods are given back.
        What you set yourself, and what the quota demands, holds at once.""",
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
            scale_down_after=self.scale_down_after,
        )
