"""``jupyter elastic controller``: keeps the pool without a Jupyter server, as in a Deployment.

It reads the configuration that servers read, contends for the same lease, and does nothing else:
any number of replicas may run, beside servers that keep the pool or instead of them. It ends by
SIGTERM or SIGINT with status 0, and hands over at once; a cluster that does not answer is no reason
to end.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import signal
from typing import TYPE_CHECKING, Any

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest
from tornado.httpserver import HTTPServer
from tornado.web import Application, RequestHandler

from ..errors import BadRequest, ElasticError
from ..kernels.service import ElasticService
from .context import Context, RequiresNoService

if TYPE_CHECKING:
    from .context import Subparsers

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds between two tries to open a cluster that does not answer."""
STUCK = 60.0
"""Seconds without a turn of the loop that contends for the lease: only a new process helps."""
SILENT = 30.0
"""Seconds without an answer from the cluster."""
CLOSE_WITHIN = 10.0


def add_commands(commands: Subparsers, common: argparse.ArgumentParser) -> None:
    """Add ``controller``."""
    controller = commands.add_parser(
        "controller", parents=[common], help="keep the pool of warm pods, without a server"
    )
    controller.add_argument(
        "--port", type=int, default=0, help="serve /healthz, /readyz and /metrics here"
    )
    controller.add_argument("--address", default="127.0.0.1", help="at this address (%(default)s)")
    controller.set_defaults(run=RequiresNoService(keep), wrong_usage=_wrong_usage)


def _wrong_usage(arguments: argparse.Namespace) -> str:
    if not 0 <= arguments.port < 65536:
        return f"{arguments.port} is no port"
    return ""


async def keep(context: Context) -> int:
    """Keep the pool until told to end."""
    logging.getLogger("jupyter_elastic").setLevel(
        logging.DEBUG if context.arguments.debug else logging.INFO
    )
    service = context.make_service()
    # What servers are told does not hold for whom they leave it to.
    service.settings.keep_pool = True
    loop, end = asyncio.get_running_loop(), asyncio.Event()
    for one in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(one, end.set)
    health = Health(service)
    server = health.serve(context.arguments.address, context.arguments.port)
    opening = asyncio.ensure_future(_open(service, health))
    ending = asyncio.ensure_future(end.wait())
    try:
        await asyncio.wait({opening, ending}, return_when=asyncio.FIRST_COMPLETED)
        if opening.done():
            opening.result()  # what cannot be mended by waiting ends the process
            context.say("The pool is looked after.")
        await ending
    finally:
        opening.cancel()
        ending.cancel()
        await asyncio.gather(opening, ending, return_exceptions=True)
        if server is not None:
            server.stop()
        await asyncio.wait_for(service.close(), CLOSE_WITHIN)
    return 0


async def _open(service: ElasticService, health: Health) -> None:
    pause = FIRST_PAUSE
    while True:
        try:
            await service.open(pool=True)
        except ElasticError as error:
            if not error.retry:
                raise
            health.trouble = str(error)
            logging.getLogger("jupyter_elastic").error("Not yet: %s", error)
        else:
            health.is_open = True
            return
        await asyncio.sleep(pause * random.uniform(0.8, 1.2))
        pause = min(2 * pause, LONGEST_PAUSE)


class Health:
    """What probes ask. Alive: a new process would do no better. Ready: the cluster answers."""

    def __init__(self, service: ElasticService) -> None:
        self._term = service.controller.term
        self.is_open = False
        self.trouble = "The cluster is being opened."

    def serve(self, address: str, port: int) -> HTTPServer | None:
        """Begin to answer; None where no port was given.

        Raises
        ------
        BadRequest
            The port cannot be had.
        """
        if not port:
            return None
        application = Application(
            [
                ("/healthz", _Probe, {"ask": self.is_alive}),
                ("/readyz", _Probe, {"ask": self.is_ready}),
                ("/metrics", _Metrics),
            ]
        )
        server = HTTPServer(application)
        try:
            server.listen(port, address)
        except OSError as error:
            raise BadRequest(
                f"Port {port} of {address} cannot be had: {error.strerror}.",
                "Choose another with --port.",
            ) from error
        return server

    def is_alive(self) -> str:
        """What is wrong; empty when nothing is."""
        stuck = self._term.stuck_for if self.is_open else 0.0
        return f"Nothing has moved for {stuck:.0f} s." if stuck > STUCK else ""

    def is_ready(self) -> str:
        """What is wrong; empty when nothing is."""
        if not self.is_open:
            return self.trouble
        silent = self._term.silent_for
        return f"The cluster has not answered for {silent:.0f} s." if silent > SILENT else ""


class _Probe(RequestHandler):
    def initialize(self, ask: Any) -> None:
        self._ask = ask

    def get(self) -> None:
        wrong = self._ask()
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.set_status(503 if wrong else 200)
        self.finish(f"{wrong or 'ok'}\n")


class _Metrics(RequestHandler):
    def get(self) -> None:
        self.set_header("Content-Type", CONTENT_TYPE_LATEST)
        self.finish(generate_latest(REGISTRY))
