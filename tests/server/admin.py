"""What an admin may have written before elastic kernels came: subclasses of every manager.

Each notes in the server's log that it was asked, and otherwise does what its base does.
"""

from __future__ import annotations

import sys
from typing import Any

from jupyter_client.kernelspec import KernelSpec, KernelSpecManager, NoSuchKernel
from jupyter_server.services.kernels.kernelmanager import (
    AsyncMappingKernelManager,
    ServerKernelManager,
)
from jupyter_server.services.sessions.sessionmanager import SessionManager
from tornado.web import HTTPError


class AdminMappingManager(AsyncMappingKernelManager):
    """Notes starts and ends, forbids one folder, and adds to every kernel's model."""

    async def start_kernel(self, **kwargs: Any) -> str:  # type: ignore[override]
        path = kwargs.get("path") or ""
        if path.startswith("forbidden"):
            raise HTTPError(403, "No kernels in this folder, says the admin.")
        self.log.info("admin: start of %s", kwargs.get("kernel_name"))
        started: str = await super().start_kernel(**kwargs)
        return started

    async def shutdown_kernel(self, kernel_id: str, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        self.log.info("admin: end of %s", kernel_id)
        await super().shutdown_kernel(kernel_id, *args, **kwargs)  # type: ignore[no-untyped-call]

    def kernel_model(self, kernel_id: str) -> dict[str, Any]:
        model: dict[str, Any] = super().kernel_model(kernel_id)  # type: ignore[no-untyped-call]
        return {**model, "admin": "was here"}


class AdminKernelManager(ServerKernelManager):
    """Notes starts and restarts of each kernel."""

    async def start_kernel(self, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        self.log.info("admin: process of %s", self.kernel_name)
        await super().start_kernel(*args, **kwargs)

    async def restart_kernel(self, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        self.log.info("admin: restart of %s", self.kernel_name)
        await super().restart_kernel(*args, **kwargs)


class AdminSessionManager(SessionManager):
    """Notes sessions."""

    async def create_session(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        self.log.info("admin: session of %s", kwargs.get("path"))
        return await super().create_session(*args, **kwargs)


class AdminSpecManager(KernelSpecManager):
    """One kernelspec more."""

    def find_kernel_specs(self) -> dict[str, str]:
        found: dict[str, str] = super().find_kernel_specs()
        return {**found, "of-the-admin": found.get("python3", "")}

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        if kernel_name != "of-the-admin":
            return super().get_kernel_spec(kernel_name)
        spec = super().get_kernel_spec("python3")
        spec.display_name = "Of the admin"
        return spec


class EnvironmentSpecManager(KernelSpecManager):
    """Lists kernelspecs of other environments, as nb_conda_kernels' manager does.

    That package cannot be installed from PyPI. What is taken over is its pattern: names such as
    ``conda-env-x-py`` that exist in no file, made anew at each call; an argv that begins with a
    runner which activates the environment and then runs the kernel's own argv; the two methods
    that it overrides.
    """

    NAME = "conda-env-x-py"

    def find_kernel_specs(self) -> dict[str, str]:
        return {**super().find_kernel_specs(), self.NAME: sys.prefix}

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        if kernel_name != self.NAME:
            return super().get_kernel_spec(kernel_name)
        argv = [sys.executable, "-m", "tests.server.runner", sys.prefix, sys.prefix]
        argv += [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        metadata = {"conda_env_name": "x", "conda_env_path": sys.prefix}
        return KernelSpec(
            argv=argv,
            display_name="Python [conda env:x]",
            language="python",
            metadata=metadata,
            resource_dir=sys.prefix,
        )

    def get_all_specs(self) -> dict[str, Any]:
        """As the package does it: only what ``find_kernel_specs`` lists, each made by name."""
        found: dict[str, Any] = {}
        for name, directory in self.find_kernel_specs().items():
            try:
                spec = self.get_kernel_spec(name).to_dict()
            except NoSuchKernel:
                continue
            found[name] = {"resource_dir": directory, "spec": spec}
        return found
