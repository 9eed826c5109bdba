"""What the configuration of a Jupyter server makes of the Kubernetes adapter."""

from __future__ import annotations

from traitlets import Unicode
from traitlets.config import Configurable

from jupyter_elastic.cluster.kubernetes import KubernetesCluster
from jupyter_elastic.kernels.settings import ElasticKubernetes
from jupyter_elastic.model import Template
from jupyter_elastic.podoptions import PodOptions
from jupyter_elastic.templates import parse_template


class Server(Configurable):
    """As far as a Jupyter server matters here."""

    root_dir = Unicode("/home/ada/work")


def template(root_dir: str | None) -> Template:
    sizes = {"cpu": "1", "memory": "1Gi"}
    made = parse_template({"name": "x", "image": "x", "resources": sizes}, where="test")
    options = PodOptions(root_dir=root_dir)
    return Template(
        **{f: getattr(made, f) for f in made.__struct_fields__} | {"kubernetes": options}
    )


def test_the_root_of_the_server_is_what_pods_mount() -> None:
    cluster = KubernetesCluster(**ElasticKubernetes(parent=Server()).options())
    mounted = template("/srv/shared")
    inside = cluster.working_directory(mounted, "/home/ada/work/project")
    assert inside == "/srv/shared/project"
    assert cluster.working_directory(mounted, "/home/ada/work") == "/srv/shared"
    assert cluster.working_directory(mounted, "/somewhere/else") is None
    assert cluster.working_directory(template(None), "/home/ada/work/project") is None


def test_another_root_can_be_named() -> None:
    settings = ElasticKubernetes(parent=Server(), root_dir="/mnt/team")
    assert settings.options()["root_dir"] == "/mnt/team"


def test_without_a_server_nothing_is_mapped() -> None:
    cluster = KubernetesCluster(**ElasticKubernetes().options())
    assert cluster.working_directory(template("/srv/shared"), "/home/ada/work") is None
