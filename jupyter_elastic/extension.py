"""The Jupyter Server extension: composes mixins at link time, opens the service, serves the API.

At link time the server's managers do not exist yet, so it is enough to choose their classes; that
is why ``pip install`` is the only step. Behind a gateway (``--gateway-url``) the kernels are the
gateway's affair: nothing is changed, and the API is the gateway's.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Mapping
from typing import Any

from jupyter_server.extension.application import ExtensionApp
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from tornado.ioloop import IOLoop
from traitlets import default

from . import __version__
from .api.events import EventBridge, register_events
from .api.forward import forwarding_routes
from .api.handlers import routes
from .api.jupyter import jupyter_routes
from .errors import ElasticError, Opening, Unsupported
from .kernels.compose import chosen_class, compose
from .kernels.manager import ElasticMappingMixin
from .kernels.misspelt import misspelt_sections
from .kernels.poolsettings import ElasticPool
from .kernels.service import ElasticService
from .kernels.sessions import ElasticSessionMixin
from .kernels.settings import ElasticKernels, ElasticKubernetes, ElasticLocal
from .kernels.specs import ElasticKernelSpecMixin
from .kernels.websocket import ElasticWebsocketMixin
from .kernels.whose import WhoseAuthorizerMixin
from .waits import within

MIXINS = {
    "kernel_spec_manager_class": ElasticKernelSpecMixin,
    "kernel_manager_class": ElasticMappingMixin,
    "session_manager_class": ElasticSessionMixin,
    "kernel_websocket_connection_class": ElasticWebsocketMixin,
}
FOR_SEVERAL = {"authorizer_class": WhoseAuthorizerMixin}
"""Besides, where one server serves several people."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds between two tries to open a cluster that does not answer."""
BEHIND = {"kernel_manager_class": AsyncMappingKernelManager}
"""What an admin's subclass does around these classes' methods holds for elastic kernels too."""


class ElasticExtension(ExtensionApp):
    """``jupyter_elastic`` in a Jupyter Server."""

    name = "jupyter_elastic"
    app_name = "Jupyter Elastic"
    description = "Pooled, resizable kernels."
    version = __version__
    load_other_extensions = True
    classes = [ElasticKernels, ElasticPool, ElasticLocal, ElasticKubernetes]

    @default("config_file_name")
    def _default_config_file_name(self) -> str:
        return "jupyter_elastic_config"

    service: ElasticService | None = None
    _bridge: EventBridge | None = None
    _opening: asyncio.Task[None] | None = None

    # -- link: before the server's managers exist ------------------------------------------

    def _link_jupyter_server_extension(self, serverapp: Any) -> None:
        super()._link_jupyter_server_extension(serverapp)
        if behind_gateway(serverapp):
            self.log.info("jupyter_elastic: kernels come from a gateway; so does the API.")
            return
        for sentence in misspelt_sections(serverapp.config):  # of options traitlets warns
            self.log.warning("%s", sentence)
        settings = ElasticKernels(parent=serverapp)
        mixins = MIXINS | (FOR_SEVERAL if settings.owner_from == "identity" else {})
        chosen = {trait: chosen_class(serverapp, trait) for trait in mixins}
        self.service = serverapp.elastic_service = ElasticService(
            settings,
            ElasticLocal(parent=serverapp),
            ElasticKubernetes(parent=serverapp),
            find_specs=self._native_specs,
            log=self.log,
        )
        self.service.version = __version__
        for trait, mixin in mixins.items():
            composed = compose(mixin, chosen[trait], behind=BEHIND.get(trait))
            # Also into the configuration: a later update of it would set the trait again.
            serverapp.config.ServerApp[trait] = composed
            setattr(serverapp, trait, composed)

    @property
    def _server(self) -> Any:
        """The server, whose managers have our mixins."""
        return self.serverapp

    def _native_specs(self) -> Mapping[str, Any]:
        specs: Mapping[str, Any] = self._server.kernel_spec_manager.native_specs()
        return specs

    # -- load ------------------------------------------------------------------------------

    def initialize_settings(self) -> None:
        """Hand the service to the REST handlers."""
        if self.service is not None:
            self.settings["elastic_service"] = Opening("The cluster is being opened.")
            register_events(self._server.event_logger)

    def initialize_handlers(self) -> None:
        """Serve the API under ``/elastic/api``, and failures of Jupyter's own with their status."""
        if self.service is None:
            self.handlers.extend(forwarding_routes())
        else:
            self.handlers.extend([*routes(), *jupyter_routes()])

    # -- start and stop --------------------------------------------------------------------

    def initialize(self, argv: Any = None) -> None:
        """Set up settings and routes; the service is opened as soon as the loop runs."""
        super().initialize()  # type: ignore[no-untyped-call]
        if self.service is not None:
            # Not _start_jupyter_server_extension: jupyter_server 2.14 does not call it.
            IOLoop.current().add_callback(self._begin)

    def _begin(self) -> None:
        self._opening = asyncio.ensure_future(self._open())

    async def _open(self) -> None:
        """Open the service; what may pass is tried again, and plain kernels work meanwhile."""
        assert self.service is not None
        manager = self._server.kernel_manager
        pause = FIRST_PAUSE
        while True:
            try:
                await self.service.open(pool=True)
                await manager.open_adoption()
                break
            except ElasticError as error:
                manager.give_up_adoption()
                self._server.web_app.settings["elastic_service"] = error
                self.log.error("Elastic kernels are not available: %s", error)
                if not error.retry:
                    return
            except Exception as error:
                manager.give_up_adoption()
                self.log.exception("Elastic kernels could not be opened")
                self._server.web_app.settings["elastic_service"] = Unsupported(
                    f"Elastic kernels could not be opened ({type(error).__name__}).",
                    "Look into the server's log; plain kernels work.",
                )
                return
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))
            pause = min(2 * pause, LONGEST_PAUSE)
        self._bridge = EventBridge(
            self.service,
            self._server.event_logger,
            discreet=self.service.settings.owner_from == "identity",
        )
        self._bridge.open()
        self._server.web_app.settings["elastic_service"] = self.service

    async def stop_extension(self) -> None:
        """End the owner's kernels or leave them running, as configured; let go of the cluster."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        if self._bridge is not None:
            self._bridge.close()
        if self.service is not None:
            await self._server.kernel_manager.close_elastic()
            await within(self.service.close(), 10)


def behind_gateway(serverapp: Any) -> bool:
    """Whether kernels come from a gateway server; its managers must stay as they are."""
    configured = serverapp.config.get("GatewayClient", {}).get("url")
    return bool(configured or os.environ.get("JUPYTER_GATEWAY_URL"))


main = ElasticExtension.launch_instance
