"""REST under ``/elastic/api``: parse, call the service, reply. The document is ``openapi.yaml``."""

from __future__ import annotations

import asyncio
from functools import cache
from pathlib import Path

from jupyter_server.utils import url_path_join
from msgspec import UNSET
from tornado import web
from tornado.iostream import StreamClosedError

from ..errors import BadRequest, Forbidden
from ..model import Kernel
from ..templates import icon_for
from . import views
from .base import ElasticHandler, protected
from .bodies import ChangeBody, StartBody, kernel_id_of_body, wish_of
from .stream import encode_event, progress_of

_NAME = r"(?P<name>[^/]+)"
_KERNEL = r"(?P<kernel_id>[^/]+)"


class StatusHandler(ElasticHandler):
    """The cluster in use."""

    @protected
    async def get(self) -> None:
        """``getStatus``."""
        self.reply(views.status_view(self.service, self.owner))


class TemplatesHandler(ElasticHandler):
    """All templates."""

    @protected
    async def get(self) -> None:
        """``listTemplates``."""
        self.reply(views.template_list_view(self.service, self.base_url))


class TemplateHandler(ElasticHandler):
    """One template."""

    @protected
    async def get(self, name: str) -> None:
        """``getTemplate``."""
        template = self.service.templates.get(name)
        self.reply(views.template_view(self.service, template, self.base_url))


class TemplateIconHandler(ElasticHandler):
    """A template's icon."""

    @property
    def content_security_policy(self) -> str:
        """An SVG that somebody opens by itself runs nothing and reaches nothing."""
        return "default-src 'none'; style-src 'unsafe-inline'; sandbox"

    @protected
    async def get(self, name: str) -> None:
        """``getTemplateIcon``."""
        path = icon_for(self.service.templates.get(name))
        kind = "image/png" if path.suffix.lower() == ".png" else "image/svg+xml"
        self.set_header("Cache-Control", "private, max-age=300")
        self.finish(await asyncio.to_thread(path.read_bytes), set_content_type=kind)


class KernelsHandler(ElasticHandler):
    """My kernels."""

    @protected
    async def get(self) -> None:
        """``listKernels``: mine, or for an administrator everybody's."""
        given = self.get_query_argument("all", None)
        if given not in (None, "1", "true"):
            raise BadRequest(
                f"all: {given[:60]!r} is neither 1 nor true.",
                "Leave it out for your own kernels.",
                field="all",
            )
        everybody = given is not None
        if everybody and not await self.is_admin():
            raise Forbidden(
                "Only an administrator may list the kernels of others.",
                "Ask for your own, or have the server's authorizer allow `elastic-others`.",
            )
        kernels = self.service.kernels_of(None if everybody else self.owner)
        self.reply({"kernels": [views.kernel_view(self.service, kernel) for kernel in kernels]})

    @protected
    async def post(self) -> None:
        """``startKernel``: answers at once."""
        body = self.body(StartBody)
        kernel = await self.service.start_kernel(
            body.template,
            wish_of(body.resources),
            owner=self.owner,
            name=body.name,
            path=body.path,
            kernel_id=kernel_id_of_body(body.kernel_id),
        )
        self.set_status(202)
        location = url_path_join(self.base_url, "elastic/api/kernels", kernel.kernel_id)
        self.set_header("Location", location)
        self.reply(views.kernel_view(self.service, kernel))


class KernelHandler(ElasticHandler):
    """One of my kernels."""

    @protected
    async def get(self, kernel_id: str) -> None:
        """``getKernel``."""
        self.reply(views.kernel_view(self.service, await self.my_kernel(kernel_id)))

    @protected
    async def patch(self, kernel_id: str) -> None:
        """``changeKernel``."""
        kernel = await self.my_kernel(kernel_id)
        body = self.body(ChangeBody)
        wish = wish_of(body.resources)
        name = None if body.name is UNSET else body.name
        if wish is None and name is None:
            raise BadRequest("Nothing to change was given.", "Send resources, name, or both.")
        kernel = await self.service.change_kernel(
            kernel.kernel_id, wish=wish, name=name, replace_pod=body.replace
        )
        self.reply(views.kernel_view(self.service, kernel))

    @protected
    async def delete(self, kernel_id: str) -> None:
        """``stopKernel``."""
        await self.service.stop_kernel((await self.my_kernel(kernel_id)).kernel_id)
        self.set_status(204)
        self.finish()


class ProgressHandler(ElasticHandler):
    """The steps of a start."""

    def initialize(self) -> None:
        """Nobody has hung up yet."""
        self._stream: asyncio.Task[None] | None = None

    @protected
    async def get(self, kernel_id: str) -> None:
        """``getProgress``: at once, or as a stream of server-sent events."""
        kernel = await self.my_kernel(kernel_id)
        if "text/event-stream" not in self.request.headers.get("Accept", ""):
            self.reply(views.progress_view(self.service, kernel))
            return
        self._stream = asyncio.create_task(self._send(kernel))
        try:
            await asyncio.wait([self._stream])
        finally:
            self._stream.cancel()
        if not self._stream.cancelled():
            self._stream.result()  # Raises what it failed with.

    async def _send(self, kernel: Kernel) -> None:
        self.set_header("Content-Type", "text/event-stream")
        self.set_header("Cache-Control", "no-cache")
        self.set_header("X-Accel-Buffering", "no")
        try:
            async for progress in progress_of(self.service, kernel.owner, kernel.kernel_id):
                self.write(encode_event(progress))
                await self.flush()
            await self.finish(set_content_type="text/event-stream")
        except StreamClosedError:
            return  # The client went away; that is how streams end.

    def on_connection_close(self) -> None:
        """Do not wait for a change that nobody will read."""
        if self._stream is not None:
            self._stream.cancel()
        super().on_connection_close()


class UsageHandler(ElasticHandler):
    """What a kernel uses."""

    @protected
    async def get(self, kernel_id: str) -> None:
        """``getUsage``."""
        self.reply(await self.service.usage((await self.my_kernel(kernel_id)).kernel_id))


class KeepaliveHandler(ElasticHandler):
    """The idle clock of a kernel."""

    @protected
    async def post(self, kernel_id: str) -> None:
        """``keepAlive``."""
        await self.service.keepalive((await self.my_kernel(kernel_id)).kernel_id)
        self.set_status(204)
        self.finish()


class PoolHandler(ElasticHandler):
    """The warm pods."""

    @protected
    async def get(self) -> None:
        """``getPool``."""
        report = await self.service.cluster.pool_report()
        self.reply(views.pool_view(self.service, self.owner, report))


class CapacityHandler(ElasticHandler):
    """The quota and what of it is taken."""

    @protected
    async def get(self) -> None:
        """``getCapacity``."""
        self.reply(views.capacity_view(await self.service.cluster.capacity()))


class OpenapiHandler(ElasticHandler):
    """The document that describes all this."""

    @protected
    async def get(self) -> None:
        """``getOpenapi``."""
        self.finish(openapi_document(), set_content_type="application/yaml; charset=utf-8")


class NothingHandler(ElasticHandler):
    """All other paths."""

    def _nothing(self) -> None:
        raise web.HTTPError(404, f"Nothing is served under {self.request.path[:200]}.")

    @protected
    async def get(self) -> None:
        """Refuse."""
        self._nothing()

    @protected
    async def head(self) -> None:
        """Refuse."""
        self._nothing()

    @protected
    async def post(self) -> None:
        """Refuse."""
        self._nothing()

    @protected
    async def put(self) -> None:
        """Refuse."""
        self._nothing()

    @protected
    async def patch(self) -> None:
        """Refuse."""
        self._nothing()

    @protected
    async def delete(self) -> None:
        """Refuse."""
        self._nothing()


@cache
def openapi_document() -> str:
    """The text of ``openapi.yaml``."""
    return (Path(__file__).parent / "openapi.yaml").read_text(encoding="utf-8")


def routes(base_url: str = "") -> list[tuple[str, type[ElasticHandler]]]:
    """All handlers, each below ``<base_url>/elastic/api``.

    Jupyter's extension points add the server's base URL themselves; leave it out there.
    """
    prefix = f"{base_url.rstrip('/')}/elastic/api"
    handlers: list[tuple[str, type[ElasticHandler]]] = [
        ("/status", StatusHandler),
        ("/templates", TemplatesHandler),
        (f"/templates/{_NAME}", TemplateHandler),
        (f"/templates/{_NAME}/icon", TemplateIconHandler),
        ("/kernels", KernelsHandler),
        (f"/kernels/{_KERNEL}", KernelHandler),
        (f"/kernels/{_KERNEL}/progress", ProgressHandler),
        (f"/kernels/{_KERNEL}/usage", UsageHandler),
        (f"/kernels/{_KERNEL}/keepalive", KeepaliveHandler),
        ("/pool", PoolHandler),
        ("/capacity", CapacityHandler),
        (r"/openapi\.yaml", OpenapiHandler),
        ("(?:/.*)?", NothingHandler),
    ]
    return [(prefix + path, handler) for path, handler in handlers]
