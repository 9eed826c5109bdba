"""Sessions are written to the kernel's record in the order in which they changed."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from jupyter_elastic.kernels.sessions import ElasticSessionMixin
from jupyter_elastic.model import Kernel
from jupyter_elastic.resources import MIB, Resources


class SlowFirst:
    """Records whose first write takes longer than the others, as one after a conflict does."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.begun = self.ended = 0

    async def update(self, kernel_id: str, edit: Any) -> Kernel:
        self.begun += 1
        await asyncio.sleep(0.05 if self.begun == 1 else 0)
        self.kernel = edit(self.kernel)
        self.ended += 1
        return self.kernel


class Stored:
    """What jupyter_server's manager does, as far as it is called here."""

    async def save_session(
        self,
        session_id: str,
        path: str | None = None,
        name: str | None = None,
        type: str | None = None,
        kernel_id: str | None = None,
    ) -> Any:
        kernel = {"id": kernel_id}
        return {"id": session_id, "path": path, "name": name, "type": type, "kernel": kernel}


class Sessions(ElasticSessionMixin, Stored):
    """The manager, on those records."""

    def __init__(self, records: SlowFirst) -> None:
        known = {records.kernel.kernel_id: records.kernel}
        launcher = SimpleNamespace(records=records)
        service = SimpleNamespace(cluster=SimpleNamespace(kernels=lambda: known), launcher=launcher)
        self.parent = SimpleNamespace(elastic_service=service)


def test_a_later_path_is_not_overwritten_by_an_earlier_one_that_takes_longer() -> None:
    size = Resources(cpu=1000, memory=256 * MIB)
    kernel = Kernel(kernel_id="k", owner="ann", template="t", resources=size, created=1.0)
    records = SlowFirst(kernel)

    async def story() -> None:
        sessions = Sessions(records)
        for path in ("made-up", "real.ipynb", "renamed.ipynb"):
            await sessions.save_session("s", path=path, name="", type="notebook", kernel_id="k")
        while records.ended < 3:
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(story(), 30))
    assert [one.path for one in records.kernel.sessions] == ["renamed.ipynb"]
