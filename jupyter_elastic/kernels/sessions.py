"""Sessions: they wait for adoption, carry the notebook's wish, and survive the server.

A session is stored with its kernel's record, so that the server started next (or a second one)
shows the same session under the same id, and an open notebook reconnects.
"""

from __future__ import annotations

import asyncio
import contextlib
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace
from tornado.web import HTTPError

from ..errors import ElasticError, UnknownKernel
from ..model import Kernel, SessionRef
from .problems import as_http
from .whose import trusted
from .wishes import current_origin, document_path, read_origin

if TYPE_CHECKING:
    from .service import ElasticService

COLUMNS = {"session_id", "path", "name", "type", "kernel_id"}
"""What jupyter_server's table of sessions has."""


class ElasticSessionMixin:
    """In front of the configured session manager."""

    if TYPE_CHECKING:
        log: Any
        kernel_manager: Any
        contents_manager: Any
        cursor: Any

    @property
    def _elastic(self) -> ElasticService | None:
        return getattr(getattr(self, "parent", None), "elastic_service", None)

    async def _adopted(self) -> None:
        if not _restoring.get():
            await self.kernel_manager.elastic_ready()

    # -- reading waits for adoption --------------------------------------------------------

    async def session_exists(self, path: str) -> bool:
        """Whether a session for this path exists, restored ones included."""
        await self._adopted()
        if self.kernel_manager.elastic_is_limited:
            for session_id in self._seen(own=True, path=path):
                with contextlib.suppress(HTTPError):  # its kernel is gone, and now the session is
                    await super().get_session(session_id=session_id)  # type: ignore[misc]
                    return True
            return False
        return bool(await super().session_exists(path))  # type: ignore[misc]

    async def list_sessions(self) -> Any:
        """All sessions, restored ones included."""
        await self._adopted()
        with trusted():  # else those of others would be taken for culled, and removed
            models = await super().list_sessions()  # type: ignore[misc]
        if not self.kernel_manager.elastic_is_limited:
            return models
        return [m for m in models if self.kernel_manager.elastic_sees(m["kernel"]["id"])]

    async def get_session(self, **kwargs: Any) -> Any:
        """One session, restored ones included."""
        await self._adopted()
        if self.kernel_manager.elastic_is_limited and kwargs.keys() <= COLUMNS:
            # Several people may have a session of one path: theirs is meant, whoever they are.
            own = not kwargs.keys() & {"session_id", "kernel_id"}
            seen = self._seen(own=own, **kwargs)
            if not seen:
                what = ", ".join(f"{column}={value!r}" for column, value in kwargs.items())
                raise HTTPError(404, f"Session not found: {what}")
            kwargs = {**kwargs, "session_id": seen[0]}
        return await super().get_session(**kwargs)  # type: ignore[misc]

    def _seen(self, *, own: bool, **wanted: Any) -> list[str]:
        """Ids of the sessions with these values that are there for whoever asks."""
        self.cursor.execute("SELECT session_id, path, name, type, kernel_id FROM session")
        return [
            str(row["session_id"])
            for row in self.cursor.fetchall()
            if all(row[column] == value for column, value in wanted.items())
            and self.kernel_manager.elastic_sees(row["kernel_id"], own=own)
        ]

    # -- starting --------------------------------------------------------------------------

    async def create_session(self, *args: Any, **kwargs: Any) -> Any:
        """Create a session, on a new kernel or on one that the user may see."""
        self._check_kernel(kwargs.get("kernel_id"))
        return await super().create_session(*args, **kwargs)  # type: ignore[misc]

    def _check_kernel(self, kernel_id: str | None) -> None:
        """Refuse a kernel that is there, but not for whoever asks."""
        manager = self.kernel_manager
        if kernel_id in manager._kernels and not manager.elastic_sees(kernel_id):
            raise as_http(UnknownKernel(f"You have no kernel {kernel_id}."))

    async def start_kernel_for_session(
        self,
        session_id: str,
        path: str | None,
        name: str | None,
        type: str | None,
        kernel_name: str | None,
        *args: Any,
        **kwargs: Any,
    ) -> str:
        """Start a kernel with the resources that the notebook's metadata asks for."""
        await self._adopted()
        service = self._elastic
        manager = self.kernel_manager
        if service is None or manager.elastic_template(kernel_name) is None:
            return await super().start_kernel_for_session(  # type: ignore[misc,no-any-return]
                session_id, path, name, type, kernel_name, *args, **kwargs
            )
        try:
            origin = await read_origin(
                self.contents_manager,
                document_path(path or "", name or ""),
                size_limit=service.settings.notebook_size_limit,
                log=self.log,
            )
        except ElasticError as error:
            raise as_http(error) from error
        token = current_origin.set(origin)
        try:
            kernel_id: str = await super().start_kernel_for_session(  # type: ignore[misc]
                session_id, path, name, type, kernel_name, *args, **kwargs
            )
        finally:
            current_origin.reset(token)
        if self._is_stored(session_id):
            # The session has a kernel, which is shut down once this returns: keep it until the
            # new one answers, also with pending kernels.
            await manager.elastic_started(kernel_id)
        return kernel_id

    def _is_stored(self, session_id: str) -> bool:
        self.cursor.execute("SELECT 1 FROM session WHERE session_id=?", (session_id,))
        return self.cursor.fetchone() is not None

    # -- writing is mirrored to the kernel's record ----------------------------------------

    async def save_session(
        self,
        session_id: str,
        path: str | None = None,
        name: str | None = None,
        type: str | None = None,
        kernel_id: str | None = None,
    ) -> Any:
        """Save a session, here and with its kernel."""
        model = await super().save_session(  # type: ignore[misc]
            session_id, path=path, name=name, type=type, kernel_id=kernel_id
        )
        self._mirror(model)
        return model

    async def update_session(self, session_id: str, **kwargs: Any) -> None:
        """Update a session, here and with its kernel (and no longer with its former one)."""
        before = await self.get_session(session_id=session_id)
        self._check_kernel(kwargs.get("kernel_id"))
        await super().update_session(session_id, **kwargs)  # type: ignore[misc]
        after = await self.get_session(session_id=session_id)
        if before["kernel"]["id"] != after["kernel"]["id"]:
            self._unmirror(before)
        self._mirror(after)

    def _mirror(self, model: dict[str, Any]) -> None:
        ref = SessionRef(
            id=model["id"],
            path=model["path"] or "",
            name=model["name"] or "",
            type=model["type"] or "notebook",
        )

        def change(kernel: Kernel) -> Kernel:
            if ref in kernel.sessions:
                return kernel
            others = tuple(s for s in kernel.sessions if s.id != ref.id)
            return replace(kernel, sessions=(*others, ref), path=kernel.path or ref.path)

        self._update_record(model["kernel"]["id"], change)

    def _unmirror(self, model: dict[str, Any]) -> None:
        def change(kernel: Kernel) -> Kernel:
            rest = tuple(s for s in kernel.sessions if s.id != model["id"])
            return kernel if rest == kernel.sessions else replace(kernel, sessions=rest)

        self._update_record(model["kernel"]["id"], change)

    def _update_record(self, kernel_id: str, change: Any) -> None:
        service = self._elastic
        if service is None or kernel_id not in service.cluster.kernels():
            return

        before = _writes.get(kernel_id)

        async def write() -> None:
            # In the order of the changes: one that is written again after a conflict must not
            # overwrite a later one.
            if before is not None:
                await asyncio.wait([before])
            try:
                await service.launcher.records.update(kernel_id, change)
            except ElasticError as error:
                self.log.debug("Session of kernel %s not recorded: %s", kernel_id, error)

        # Not awaited: the client must not wait for a record that only another server reads.
        task = asyncio.ensure_future(write())
        _writes[kernel_id] = task

        def done(_: asyncio.Future[None]) -> None:
            if _writes.get(kernel_id) is task:
                del _writes[kernel_id]

        task.add_done_callback(done)

    async def restore_sessions(self, kernel: Kernel) -> None:
        """Show the sessions that an adopted kernel was recorded with, under their ids."""
        token = _restoring.set(True)
        try:
            for ref in kernel.sessions:
                if not self._is_stored(ref.id):
                    await super().save_session(  # type: ignore[misc]
                        ref.id,
                        path=ref.path,
                        name=ref.name,
                        type=ref.type,
                        kernel_id=kernel.kernel_id,
                    )
        finally:
            _restoring.reset(token)


_restoring: ContextVar[bool] = ContextVar("elastic_restoring", default=False)
"""Set while adoption itself writes sessions; it must not wait for itself."""

_writes: dict[str, asyncio.Future[None]] = {}
"""The last write to each kernel's record that has not ended."""
