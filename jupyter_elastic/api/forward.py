"""Behind a gateway: ``/elastic/api`` is the gateway's, asked with the credentials of this server.

The server has no service of its own then. Events do not travel: whoever watches has to ask.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from jupyter_server.gateway.gateway_client import GatewayClient
from jupyter_server.utils import url_path_join
from tornado import web
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest, HTTPResponse

from ..errors import ElasticError
from .base import ElasticHandler, protected
from .bodies import BODY_LIMIT
from .problems import TooLarge

PREFIX = "elastic/api"
BACK = ("Cache-Control", "Retry-After", "Allow")
"""Headers of the gateway's answer that go on to the client; no cookies, and no policies."""
OURS = ("application/json", "application/problem+json", "application/yaml", "image/")
"""Beginnings of the types that the API answers with."""
_WAYS_UP = re.compile(r"\.\.?|.*[/\\].*")


class GatewayUnreachable(ElasticError):
    """The gateway did not answer."""

    reason, status, retry = "GatewayUnreachable", 502, True
    remedy = "Try again; if it stays so, ask whoever runs the gateway."


class GatewayRefused(ElasticError):
    """The gateway has no elastic kernels for this server."""

    reason, status = "GatewayRefused", 502
    remedy = (
        "See that jupyter_elastic is enabled there, and that the gateway's token here is right."
    )


def _forwarded() -> Callable[..., Coroutine[Any, Any, None]]:
    """A verb that the gateway answers."""

    async def method(self: ForwardHandler, rest: str) -> None:
        await self.forward(rest)

    return protected(method)


class ForwardHandler(ElasticHandler):
    """Everything below ``/elastic/api``."""

    # One function each: `authorized` remembers the first verb that it met.
    get = _forwarded()
    head = _forwarded()
    post = _forwarded()
    put = _forwarded()
    patch = _forwarded()
    delete = _forwarded()

    @property
    def content_security_policy(self) -> str:
        """Whatever the gateway sends, opened by itself it runs nothing and reaches nothing."""
        return "default-src 'none'; style-src 'unsafe-inline'; sandbox"

    async def forward(self, rest: str) -> None:
        """Ask the gateway the same, and answer what it answers.

        Raises
        ------
        GatewayUnreachable
            It does not answer.
        GatewayRefused
            What it answers is not from this API.
        TooLarge
            The body is over the API's limit.
        HTTPError
            The path leads out of the API.
        """
        if len(self.request.body) > BODY_LIMIT:
            raise TooLarge(f"The body has over {BODY_LIMIT} bytes.", "Send less.")
        # With this server's credentials nothing but the API is to be reached.
        if any(_WAYS_UP.fullmatch(unquote(part)) for part in rest.split("/")):
            raise web.HTTPError(404, f"Nothing is served under {self.request.path[:200]}.")
        response = await self._ask(rest)
        kind = response.headers.get("Content-Type", "")
        if response.code >= 300 and not kind.startswith("application/problem+json"):
            raise GatewayRefused(f"The gateway answered {response.code} {_phrase(response.code)}.")
        if response.body and not kind.startswith(OURS):
            raise GatewayRefused(f"The gateway answered with {kind[:60] or 'no type'}.")
        self.set_status(response.code)
        for name in BACK:
            if name in response.headers:
                self.set_header(name, response.headers[name])
        theirs = f"{urlsplit(GatewayClient.instance().url or '').path.rstrip('/')}/{PREFIX}/"
        ours = url_path_join(self.base_url, PREFIX) + "/"
        location = response.headers.get("Location", "")
        if location.startswith(theirs):
            self.set_header("Location", ours + location.removeprefix(theirs))
        if response.code == 204:
            self.finish()
            return
        body = response.body
        if kind.startswith("application/json"):
            # The one address in the answers, told as it is under the gateway's base URL.
            body = body.replace(
                b'"icon_url": "' + theirs.encode(), b'"icon_url": "' + ours.encode()
            )
        self.finish(body, set_content_type=kind or "application/json")

    async def _ask(self, rest: str) -> HTTPResponse:
        client = GatewayClient.instance()
        given = self.request.headers.get("Content-Type")
        # Nothing else of the browser's travels: no cookies, no credentials. Progress is answered at
        # once, for a stream is asked for by `Accept`.
        headers = {"Content-Type": given} if given else {}
        options: dict[str, Any] = client.load_connection_args(headers=headers)  # type: ignore[no-untyped-call]
        # A token in the address is this server's; the gateway would take it for its own.
        asked = parse_qsl(self.request.query, keep_blank_values=True)
        query = urlencode([(name, value) for name, value in asked if name != "token"])
        request = HTTPRequest(
            f"{url_path_join(client.url or '', PREFIX)}{rest}{query and '?'}{query}",
            method=self.request.method or "GET",
            body=self.request.body or None,
            allow_nonstandard_methods=True,
            follow_redirects=False,  # to a page to log in at, with our token in its hands
            **options,
        )
        try:
            return await AsyncHTTPClient().fetch(request, raise_error=False)
        except (OSError, HTTPClientError) as error:
            raise GatewayUnreachable(f"The gateway does not answer: {error}.") from error


def _phrase(code: int) -> str:
    try:
        return HTTPStatus(code).phrase
    except ValueError:
        return ""


def forwarding_routes() -> list[tuple[str, type[ElasticHandler]]]:
    """The one handler; Jupyter's extension points add the server's base URL."""
    return [(rf"/{PREFIX}((?:/.*)?)", ForwardHandler)]
