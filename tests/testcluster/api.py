"""The API server without a client library: one HTTPS request at a time, JSON both ways."""

from __future__ import annotations

import base64
import http.client
import json
import os
import ssl
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import yaml

Object = dict[str, Any]
MERGE = "application/merge-patch+json"


class ApiFailure(Exception):
    """An answer that is no success."""

    def __init__(self, method: str, path: str, code: int, body: str) -> None:
        self.code = code
        try:
            self.status: Object = json.loads(body)
        except ValueError:
            self.status = {}
        self.reason: str = self.status.get("reason", "")
        self.message: str = self.status.get("message", body)
        super().__init__(f"{method} {path}: {code} {self.reason}: {self.message}")


class TimedOut(Exception):
    """A condition did not come true in time."""


def until(what: str, condition: Callable[[], Any], patience: float = 90.0) -> Any:
    """What ``condition`` answers once that is true.

    Raises
    ------
    TimedOut
        Names ``what`` and the last failed request, if there was one.
    """
    deadline = time.monotonic() + patience
    last = ""
    while True:
        try:
            if answer := condition():
                return answer
        except (ApiFailure, OSError, http.client.HTTPException) as error:
            last = f"; last: {error}"
        if time.monotonic() > deadline:
            raise TimedOut(f"{what}: not within {patience:.0f} s{last}")
        time.sleep(0.1)


class Api:
    """The user of a kubeconfig's current context."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        config = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))

        def entry(kind: str, name: str) -> Object:
            named = next(one for one in config[f"{kind}s"] if one["name"] == name)
            found: Object = named[kind]
            return found

        context = entry("context", config["current-context"])
        cluster, user = entry("cluster", context["cluster"]), entry("user", context["user"])
        self.server: str = cluster["server"]
        self.authority = self._data(cluster, "certificate-authority")
        self.tls = ssl.create_default_context(
            cadata=self.authority.decode() if self.authority else None
        )
        if cluster.get("insecure-skip-tls-verify"):
            self.tls.check_hostname, self.tls.verify_mode = False, ssl.CERT_NONE
        self.headers = {"Accept": "application/json"}
        certificate = self._data(user, "client-certificate")
        if token := user.get("token"):
            self.headers["Authorization"] = f"Bearer {token}"
        elif certificate:
            with tempfile.NamedTemporaryFile() as pem:  # 0600
                pem.write(certificate + b"\n" + (self._data(user, "client-key") or b""))
                pem.flush()
                self.tls.load_cert_chain(pem.name)
        else:
            raise ValueError(f"{kubeconfig}: the tests need a user with a certificate or a token")

    def _data(self, entry: Object, name: str) -> bytes | None:
        if inline := entry.get(f"{name}-data"):
            return base64.b64decode(inline)
        if file := entry.get(name):
            return Path(self.kubeconfig.parent, os.path.expanduser(file)).read_bytes()
        return None

    def text(
        self, path: str, method: str = "GET", body: Any = None, content: str = "application/json"
    ) -> str:
        """Make one request and give the answer as it is; ``path`` with its query.

        Raises
        ------
        ApiFailure
            Any answer but 2xx.
        """
        where = urlsplit(self.server)
        assert where.hostname is not None
        connection = http.client.HTTPSConnection(
            where.hostname, where.port or 443, context=self.tls, timeout=60
        )
        try:
            data = None if body is None else json.dumps(body)
            headers = {**self.headers, "Content-Type": content}
            connection.request(method, where.path.rstrip("/") + path, data, headers)
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        if not 200 <= answer.status < 300:
            raise ApiFailure(method, path, answer.status, text)
        return text

    def request(
        self, method: str, path: str, body: Any = None, *, content: str = "application/json"
    ) -> Object:
        """Make one request whose answer is an object."""
        found: Object = json.loads(self.text(path, method, body, content))
        return found

    def get(self, path: str, **query: str) -> Object:
        """GET; the query as keywords, for example ``labelSelector="a=b"``."""
        return self.request("GET", path + ("?" + urlencode(query) if query else ""))

    def post(self, path: str, body: Any) -> Object:
        """POST."""
        return self.request("POST", path, body)

    def put(self, path: str, body: Any) -> Object:
        """PUT."""
        return self.request("PUT", path, body)

    def patch(self, path: str, body: Any, content: str = MERGE) -> Object:
        """PATCH; a JSON merge patch unless told otherwise."""
        return self.request("PATCH", path, body, content=content)

    def delete(self, path: str, body: Any = None) -> Object | None:
        """DELETE; None when it was not there."""
        try:
            return self.request("DELETE", path, body)
        except ApiFailure as error:
            if error.code == 404:
                return None
            raise

    def find(self, path: str) -> Object | None:
        """GET; None when it is not there."""
        try:
            return self.get(path)
        except ApiFailure as error:
            if error.code == 404:
                return None
            raise
