"""Where the Kubernetes API is and how we prove who we are: the official client's own code.

``kubernetes.aio`` reads kubeconfigs and service accounts and runs credential plugins. It is an
optional extra and takes half a second to import, so it is imported in a thread, when needed.
Nothing else of it is used: its requests know neither our budget nor raw bytes.
"""

from __future__ import annotations

import asyncio
import importlib
import ipaddress
import logging
import os
import ssl
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ...errors import ElasticError, Unsupported

_LOG = logging.getLogger(__name__)

INSTALL = 'Install what it needs: pip install "jupyter_elastic[kubernetes]".'


class Connection:
    """Address, certificates and credentials of one API server.

    Attributes
    ----------
    host
        Base address, with a path where the API is behind a gateway.
    namespace
        The namespace to work in.
    in_cluster
        Whether this process runs in a pod of that cluster, with its service account.
    ssl, server_hostname, proxy, proxy_headers
        What aiohttp takes under these names.
    generation
        How often credentials were loaded; see :meth:`reload`.
    """

    host: str
    namespace: str
    in_cluster: bool = False
    ssl: ssl.SSLContext | bool = True
    server_hostname: str | None = None
    proxy: str | None = None
    proxy_headers: Mapping[str, str] | None = None
    generation = 0

    def __init__(self, kubeconfig: str, context: str, namespace: str) -> None:
        self._kubeconfig = kubeconfig
        self._context = context
        self._asked_namespace = namespace
        self._configuration: Any = None
        self._headers: dict[str, str] = {}
        self._lock = asyncio.Lock()

    @classmethod
    async def load(
        cls, *, kubeconfig: str = "", context: str = "", namespace: str = ""
    ) -> Connection:
        """Find the API server and load credentials; sends nothing to it.

        A kubeconfig or context that is named goes first; then the service account of the pod
        this process runs in; then ``$KUBECONFIG`` and ``~/.kube/config``. The namespace is what
        is named, else the pod's, else the context's, else ``default``.

        Raises
        ------
        Unsupported
            The Kubernetes client is not installed, or no usable configuration was found.
        """
        connection = cls(kubeconfig, context, namespace)
        await connection._load()
        return connection

    async def headers(self) -> dict[str, str]:
        """The headers that prove who we are; tokens from files are read anew when due."""
        try:
            found: dict[str, Any] = await self._configuration.auth_settings()
        except Exception:  # noqa: BLE001 - a token file that is being replaced, for instance
            _LOG.warning("Credentials could not be read anew", exc_info=True)
        else:
            self._headers = {
                one["key"]: one["value"] for one in found.values() if one["in"] == "header"
            }
        return self._headers

    async def reload(self, seen: int) -> None:
        """Load credentials again because those of generation ``seen`` were refused.

        Does nothing when somebody else has done so since. Keeps the old ones when none can be
        loaded.
        """
        async with self._lock:
            if self.generation != seen:
                return
            try:
                await self._load()
            except Unsupported as error:
                _LOG.warning("%s", error)

    async def _load(self) -> None:
        try:
            client = await asyncio.to_thread(importlib.import_module, "kubernetes.aio.client")
            config = await asyncio.to_thread(importlib.import_module, "kubernetes.aio.config")
        except ImportError as error:
            raise Unsupported(
                f"The Kubernetes client cannot be imported: {error}.", INSTALL
            ) from error
        configuration = client.Configuration()
        try:
            namespace = await self._configure(config, configuration)
            # Its constructor builds the TLS context and reads files, some of them large.
            rest = await asyncio.to_thread(client.rest.RESTClientObject, configuration)
        except ElasticError:
            raise
        except Exception as error:  # the loader fails with whatever the file made it trip over
            raise Unsupported(
                f"{self._source()} cannot be used: {error or type(error).__name__}.",
                "Check it with `kubectl version`.",
            ) from error
        self._configuration = configuration
        self.host = configuration.host.rstrip("/")
        self.namespace = self._asked_namespace or namespace or "default"
        self.ssl = rest.ssl_context if self.host.startswith("https:") else True
        self.server_hostname = configuration.tls_server_name or None
        self.proxy = configuration.proxy or proxy_for(self.host)
        self.proxy_headers = configuration.proxy_headers
        self.generation += 1

    async def _configure(self, config: Any, configuration: Any) -> str:
        """Fill ``configuration``; returns the namespace found on the way, or nothing."""
        token = Path(config.incluster_config.SERVICE_TOKEN_FILENAME)
        if not self.generation:
            self.in_cluster = (
                not (self._kubeconfig or self._context)
                and bool(os.environ.get("KUBERNETES_SERVICE_HOST"))
                and token.is_file()
            )
        if self.in_cluster:
            config.load_incluster_config(configuration)
            try:
                return token.with_name("namespace").read_text().strip()
            except OSError:
                return ""
        files = self._files()
        if not any(Path(one).expanduser().is_file() for one in files.split(os.pathsep) if one):
            raise Unsupported(
                f"No Kubernetes cluster is configured: this is no pod with a service account, and"
                f" {files} does not exist.",
                "Set $KUBECONFIG, or name a kubeconfig file in the configuration.",
            )
        loader = await config.load_kube_config(
            config_file=files,
            context=self._context or None,
            client_configuration=configuration,
            persist_config=False,
        )
        found: dict[str, Any] = loader.current_context
        # From now on this one: the user may make another one current, but our kernels stay here.
        self._context = self._context or str(found.get("name") or "")
        return str((found.get("context") or {}).get("namespace") or "")

    def _files(self) -> str:
        # The client reads the variable when it is imported, which may be long ago.
        return self._kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config"

    def _source(self) -> str:
        if self.in_cluster:
            return "The pod's service account"
        context = f" with context {self._context}" if self._context else ""
        return f"The kubeconfig {self._files()}{context}"


def proxy_for(url: str) -> str | None:
    """The proxy the environment asks for, honouring ranges in ``NO_PROXY`` as kubectl does."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    proxy = urllib.request.getproxies().get(parts.scheme)
    if not proxy or urllib.request.proxy_bypass(host):
        return None
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return proxy
    if address.is_loopback:
        return None
    for one in (os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or "").split(","):
        try:
            if address in ipaddress.ip_network(one.strip(), strict=False):
                return None
        except ValueError:
            continue
    return proxy
