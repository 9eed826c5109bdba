"""The pools of many namespaces in one process: a service for each, and what they share.

Imports the Kubernetes adapter, so it is imported where it is needed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping

from traitlets.config import Config

from ..cluster.kubernetes import KubernetesCluster
from ..cluster.kubernetes.api import KubeApi
from ..cluster.kubernetes.fleet import Fleet
from ..cluster.kubernetes.namespaces import Choice, Namespaces
from ..errors import BadRequest
from ..pool.shards import lease_name, shard_of
from ..pool.term import Term
from ..waits import within
from .poolsettings import ElasticNamespaces, ElasticPool
from .service import ElasticService
from .settings import ElasticKernels, ElasticKubernetes, ElasticLocal
from .supervisor import Supervisor

SPREAD = 10.0
"""Seconds over which what can wait is spread when all pools begin to be kept at once."""
SETTLE = 0.1
"""Seconds in which changes of namespaces are gathered: they come in dozens."""
OTHERS_BEGIN = 2.0
"""Seconds in which nothing is done after the hand-over: to end hundreds of pools takes the CPU that
whoever follows needs, where that is on the same machine."""
CLOSE_WITHIN = 6.0
"""Seconds that all pools together may take to be put in order, before they are handed over."""


class ManyPools:
    """See the module. Belongs to the running loop.

    Parameters
    ----------
    config
        As a Jupyter server would read it.
    """

    def __init__(self, config: Config, log: logging.Logger | None = None) -> None:
        self.log = log or logging.getLogger("jupyter_elastic")
        self._config = config
        self._chosen = ElasticNamespaces(config=config)
        ElasticPool(config=config)  # what is wrong in it is to be said now
        self._settings = ElasticKernels(config=config)
        self._kubernetes = ElasticKubernetes(config=config)
        if self._settings.cluster != "kubernetes":
            raise BadRequest(
                "Namespaces are of Kubernetes, and c.ElasticKernels.cluster is 'local'.",
                "Set c.ElasticKernels.cluster = 'kubernetes'.",
            )
        self._supervisor = Supervisor(self._make, self.log)
        self._fleet: Fleet | None = None
        self._found: Namespaces | None = None
        self._task: asyncio.Task[None] | None = None

    # -- life ------------------------------------------------------------------------------

    async def open(self) -> None:
        """Find the namespaces, and begin to keep their pools. May be called again if it failed.

        Raises
        ------
        ElasticError
            The cluster cannot be asked; no namespace is looked after.
        """
        options = self._kubernetes.options()
        qps = self._chosen.requests_per_second
        api = await KubeApi.connect(
            kubeconfig=options["kubeconfig"],
            context=options["context"],
            namespace=options["namespace"],
            qps=qps,
            burst=int(2 * qps),
        )
        cluster_wide = self._chosen.everywhere and not self._chosen.namespaces
        self._fleet = fleet = Fleet(api, cluster_wide=cluster_wide, log=self.log)
        try:
            await fleet.open()
            if cluster_wide:
                choice = Choice(
                    selector=self._chosen.selector,
                    by_pool=self._chosen.by_pool,
                    by_quota=self._chosen.by_quota,
                )
                self._found = Namespaces(fleet, choice, self.log)
                await self._found.start()
        except BaseException:
            await self._let_go()
            raise
        if self._found is None:
            self._want(dict.fromkeys(self._chosen.namespaces, True))
        else:
            self._want(self._found.now())
            self._task = asyncio.create_task(self._follow(self._found), name="elastic-namespaces")

    async def close(self) -> None:
        """Hand over all pools; pods and kernels run on. Idempotent.

        Others may begin as soon as nothing is done here any more; what is left to write down comes
        after that.
        """
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        services = self.services().values()
        await asyncio.gather(
            *(one.controller.halt() for one in services), *(one.takeover.stop() for one in services)
        )
        if self._fleet is not None:
            await self._fleet.hand_over()
            await asyncio.sleep(OTHERS_BEGIN)
        try:
            await within(self._supervisor.close(), CLOSE_WITHIN)
        except asyncio.TimeoutError:
            self.log.warning("Some pools could not be put in order; others take over all the same.")
        await self._let_go()

    async def _let_go(self) -> None:
        found, self._found = self._found, None
        fleet, self._fleet = self._fleet, None
        if found is not None:
            await found.close()
        if fleet is not None:
            await fleet.close()

    async def _follow(self, found: Namespaces) -> None:
        while True:
            await found.changed()
            await asyncio.sleep(SETTLE)
            self._want(found.now())

    def _want(self, names: Mapping[str, bool]) -> None:
        for name in sorted(names.keys() - self._supervisor.keepers.keys()):
            self.log.debug("Namespace %s has a pool that is kept here.", name)
        self._supervisor.want(names)

    # -- what is there ---------------------------------------------------------------------

    def services(self) -> Mapping[str, ElasticService]:
        """The service of each namespace that is looked after now."""
        keepers = self._supervisor.keepers.items()
        return {name: one.service for name, one in keepers if isinstance(one, NamespacePool)}

    def terms(self) -> Iterator[Term]:
        """How the leases of all of them are."""
        return (service.controller.term for service in self.services().values())

    def lacks(self) -> str:
        """What is still to be done before this process can take over from another."""
        unprepared = [one for one in self.services().values() if not one.controller.is_prepared]
        left = self._supervisor.untried() + len(unprepared)
        return f"{left} namespaces are yet to be looked at." if left else ""

    def _make(self, namespace: str) -> NamespacePool:
        assert self._fleet is not None
        log = self.log.getChild(f"in.{namespace}")
        shards = self._chosen.shards
        cluster = KubernetesCluster(
            **{**self._kubernetes.options(), "namespace": namespace}, fleet=self._fleet, log=log
        )
        service = ElasticService(
            ElasticKernels(config=self._config),
            ElasticLocal(config=self._config),
            self._kubernetes,
            cluster=cluster,
            lease=lease_name(shard_of(namespace, shards), shards),
            spread=SPREAD,
            log=log,
        )
        # What servers are told does not hold for whom they leave it to.
        service.settings.keep_pool = True
        service.controller.namespace = namespace
        # Hundreds of terms begin and end with one lease, which is told once.
        service.controller.term.log = log.getChild("term")
        service.controller.term.log.setLevel(logging.ERROR)
        return NamespacePool(service, cluster)


class NamespacePool:
    """One namespace's pool: what :class:`.Supervisor` keeps going."""

    def __init__(self, service: ElasticService, cluster: KubernetesCluster) -> None:
        self.service = service
        self._cluster = cluster

    async def open(self) -> None:
        """See :class:`.Keeper`."""
        await self.service.open(pool=True)

    def want(self, wanted: bool) -> None:
        """See :class:`.Keeper`."""
        self._cluster.leave(not wanted)

    async def close(self) -> None:
        """See :class:`.Keeper`."""
        await self.service.close()
