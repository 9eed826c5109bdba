"""The cluster's own certificate authority, and kubeconfigs that carry all they need."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from pathlib import Path

from . import needs
from .addresses import Addresses

NODE = "node1"
SUBJECTS = {
    "apiserver": "/CN=kube-apiserver",
    "admin": "/O=system:masters/CN=admin",
    "kubelet": f"/O=system:nodes/CN=system:node:{NODE}",
}
CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
DAYS = "3650"


def _openssl(folder: Path, *arguments: str) -> None:
    openssl = needs.which("openssl")
    assert openssl is not None  # missing_for_up() looked
    subprocess.run([openssl, *arguments], cwd=folder, check=True, capture_output=True)


def make(folder: Path, addresses: Addresses) -> None:
    """Authority, certificates and the key that signs service account tokens."""
    folder.mkdir(mode=0o700)
    authority = ("-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=testcluster", "-days", DAYS)
    _openssl(folder, "req", "-x509", *CURVE, *authority)
    names = ["DNS:localhost", "DNS:kubernetes", "DNS:kubernetes.default.svc", f"DNS:{NODE}"]
    names += [f"IP:{ip}" for ip in ("127.0.0.1", addresses.node, addresses.api_service)]
    (folder / "names").write_text("subjectAltName=" + ",".join(names) + "\n")
    for name, subject in SUBJECTS.items():
        files = ("-keyout", f"{name}.key", "-out", f"{name}.csr")
        _openssl(folder, "req", *CURVE, *files, "-subj", subject)
        signer = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", DAYS)
        _openssl(
            folder,
            *("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.crt", "-extfile", "names"),
            *signer,
        )
    _openssl(folder, "genrsa", "-out", "sa.key", "2048")
    _openssl(folder, "rsa", "-in", "sa.key", "-pubout", "-out", "sa.pub")


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def write_kubeconfig(
    path: Path, server: str, authority: bytes | None, user: dict[str, str], namespace: str = ""
) -> None:
    """Write a kubeconfig for one user; YAML's subset JSON does.

    Parameters
    ----------
    authority
        The certificate of the API server's authority, or None where the machine knows it.
    user
        The user's entry: ``token``, or ``client-certificate-data`` and ``client-key-data``.
    """
    cluster = {"server": server}
    if authority is not None:
        cluster["certificate-authority-data"] = base64.b64encode(authority).decode()
    context = {"cluster": "test", "user": "test"}
    if namespace:
        context["namespace"] = namespace
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "test", "user": user}],
        "contexts": [{"name": "test", "context": context}],
        "current-context": "test",
    }
    with os.fdopen(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as file:
        json.dump(config, file, indent=1)


def kubeconfig(path: Path, pki: Path, name: str, addresses: Addresses) -> None:
    """Write the kubeconfig of one of ``SUBJECTS``."""
    user = {
        "client-certificate-data": _encoded(pki / f"{name}.crt"),
        "client-key-data": _encoded(pki / f"{name}.key"),
    }
    write_kubeconfig(path, addresses.server, (pki / "ca.crt").read_bytes(), user)
