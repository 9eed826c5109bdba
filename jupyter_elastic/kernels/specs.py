"""Templates as live kernelspecs, in front of whatever kernelspec manager is configured."""

from __future__ import annotations

from pathlib import Path
from shutil import copyfile
from typing import TYPE_CHECKING, Any

from jupyter_client.kernelspec import KernelSpec

from ..templates import icon_for, kernelspec_for

if TYPE_CHECKING:
    from ..model import Template
    from .service import ElasticService


class ElasticKernelSpecMixin:
    """A template added, changed or removed is a kernelspec added, changed or removed."""

    @property
    def _elastic(self) -> ElasticService | None:
        return getattr(getattr(self, "parent", None), "elastic_service", None)

    def _templates(self) -> dict[str, Template]:
        return self._elastic.templates.all() if self._elastic else {}

    def native_specs(self) -> dict[str, Any]:
        """What the configured manager finds, without templates."""
        return super().get_all_specs()  # type: ignore[misc,no-any-return]

    def find_kernel_specs(self) -> dict[str, str]:
        """Names and resource directories; templates win over files of the same name."""
        found: dict[str, str] = super().find_kernel_specs()  # type: ignore[misc]
        for name, template in self._templates().items():
            found[name] = str(self._resource_dir(template))
        return found

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        """One kernelspec. Raises NoSuchKernel."""
        template = self._templates().get(kernel_name)
        if template is None:
            return super().get_kernel_spec(kernel_name)  # type: ignore[misc,no-any-return]
        return KernelSpec(resource_dir=str(self._resource_dir(template)), **self._spec(template))

    def get_all_specs(self) -> dict[str, Any]:
        """All kernelspecs as the REST API shows them."""
        found: dict[str, Any] = self.native_specs()
        for name, template in self._templates().items():
            found[name] = {
                "resource_dir": str(self._resource_dir(template)),
                "spec": self._spec(template),
            }
        return found

    def _spec(self, template: Template) -> dict[str, Any]:
        assert self._elastic is not None
        encrypted = self._elastic.settings.channel_encryption != "disabled"
        return kernelspec_for(template, encryption=encrypted)

    def _resource_dir(self, template: Template) -> Path:
        """A directory with the template's icon under the file name that Jupyter looks for."""
        assert self._elastic is not None
        icon = icon_for(template)
        directory = Path(self._elastic.local.state_dir) / "icons" / template.name
        wanted = "logo-svg.svg" if icon.suffix == ".svg" else "logo-64x64.png"
        target = directory / wanted
        if not _same(icon, target):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            for old in directory.iterdir():
                old.unlink(missing_ok=True)
            copyfile(icon, target)
        return directory


def _same(source: Path, target: Path) -> bool:
    try:
        ours, theirs = target.stat(), source.stat()
    except FileNotFoundError:
        return False
    return ours.st_size == theirs.st_size and ours.st_mtime >= theirs.st_mtime
