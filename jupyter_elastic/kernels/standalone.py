"""Processes without a server: the command line, and lone clients such as nbclient.

They read the configuration that a Jupyter server on this machine would read, and open a service
of their own on the same cluster.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, TypeVar

from traitlets.config import Config

from .lone import lone_thread
from .service import ElasticService
from .settings import ElasticKernels, ElasticKubernetes, ElasticLocal

_T = TypeVar("_T")


async def with_lone_service(
    state_dir: str, carried: bool, work: Callable[[ElasticService], Coroutine[Any, Any, _T]]
) -> _T:
    """Do ``work`` with the service of a client that has no server, on its own thread.

    There is one per process and state directory. ``carried``: kernelspecs carry their templates,
    and ``work`` offers them; else these must be in the configuration of this machine, whose
    capacity and other settings hold in any case.
    """
    thread = lone_thread()

    async def make() -> ElasticService:
        config = load_config()
        if state_dir:
            config.ElasticLocal.state_dir = state_dir
        if carried:  # nothing to read, nothing to look at again and again
            config.ElasticKernels.templates = []
            service = ElasticService(
                ElasticKernels(config=config),
                ElasticLocal(config=config),
                ElasticKubernetes(config=config),
            )
        else:
            service = make_service(config)
        await service.open(pool=False)
        return service

    async def there() -> _T:
        return await work(await thread.service((state_dir, carried), make))

    return await thread.run(there)


def make_service(
    config: Config,
    *,
    find_specs: Callable[[], Mapping[str, Any]] | None = None,
    log: logging.Logger | None = None,
) -> ElasticService:
    """A service from a loaded configuration, not yet open."""
    return ElasticService(
        ElasticKernels(config=config),
        ElasticLocal(config=config),
        ElasticKubernetes(config=config),
        find_specs=find_specs or partial(installed_specs, config),
        log=log,
    )


def installed_specs(config: Config) -> Mapping[str, Any]:
    """Kernelspecs that jupyter_client finds on this machine and that may be used by ``config``."""
    from jupyter_client.kernelspec import KernelSpecManager

    specs: Mapping[str, Any] = KernelSpecManager(config=config).get_all_specs()
    return specs


def load_config() -> Config:
    """The configuration a Jupyter server on this machine would read, for other processes."""
    from jupyter_core.application import JupyterApp

    class Loader(JupyterApp):
        name = "jupyter-elastic"
        config_file_name = "jupyter_elastic_config"

    config = Config()
    for name in ("jupyter_server_config", "jupyter_lab_config", "jupyter_elastic_config"):
        loader = Loader()
        loader.config_file_name = name
        loader.load_config_file()
        config.merge(loader.config)
    return config
