"""``jupyter elastic controller``: keeps the pool without a Jupyter server, as in a Deployment.

It reads the configuration that servers read, contends for the same lease, and does nothing else:
any number of replicas may run, beside servers that keep the pool or instead of them. On Kubernetes
it may keep the pools of many namespaces. It ends by SIGTERM or SIGINT with status 0, and hands over
at once; a cluster that does not answer is no reason to end.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import signal
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

import yaml
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest
from tornado.httpserver import HTTPServer
from tornado.web import Application, RequestHandler
from traitlets import TraitError
from traitlets.config import Config

from ..errors import BadRequest, ElasticError
from ..kernels.poolsettings import ElasticNamespaces
from ..kernels.service import ElasticService
from ..pool.term import Term
from ..waits import within
from .context import Context, RequiresNoService
from .crds import is_namespace

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
    many = controller.add_argument_group(
        "many namespaces", "on Kubernetes: c.ElasticNamespaces of the configuration, or"
    )
    many.add_argument(
        "--namespaces", metavar="A,B", help="keep the pools of these, with rights in these only"
    )
    many.add_argument(
        "--all-namespaces", action="store_true", help="find them in the cluster, as they come"
    )
    many.add_argument(
        "--selector", metavar="LABELS", help="by these labels; implies --all-namespaces"
    )
    many.add_argument(
        "--by-quota",
        action="store_true",
        help="also those that have a ResourceQuota; implies --all-namespaces",
    )
    many.add_argument(
        "--shards", type=int, metavar="N", help="leases that the namespaces are divided among"
    )
    manifest = controller.add_argument_group("installation")
    manifest.add_argument(
        "--manifest",
        action="store_true",
        help="print a Deployment with its account and rights, and do nothing else: "
        "... | kubectl apply -f -",
    )
    manifest.add_argument("--image", metavar="IMAGE", help="of the Deployment")
    manifest.add_argument(
        "--namespace",
        metavar="NAME",
        default="jupyter-elastic",
        help="where the Deployment is (%(default)s)",
    )
    controller.set_defaults(run=RequiresNoService(run), wrong_usage=_wrong_usage)


def _wrong_usage(arguments: argparse.Namespace) -> str:
    if not 0 <= arguments.port < 65536:
        return f"{arguments.port} is no port"
    if arguments.namespaces is not None and _finds(arguments):
        return "--namespaces names them, so that none are found: give it alone"
    for name in (arguments.namespace, *_named(arguments)):
        if not is_namespace(name):
            return f"{name!r} cannot be the name of a namespace"
    if arguments.shards is not None and not 1 <= arguments.shards <= 100:
        return f"there may be 1 to 100 shards, not {arguments.shards}"
    if arguments.manifest and not arguments.image:
        return "--manifest needs --image, with Python and jupyter_elastic[kubernetes]"
    return ""


def _finds(arguments: argparse.Namespace) -> bool:
    return bool(arguments.all_namespaces or arguments.selector is not None or arguments.by_quota)


def _named(arguments: argparse.Namespace) -> list[str]:
    return [name for name in (arguments.namespaces or "").split(",") if name]


async def run(context: Context) -> int:
    """Keep the pool, or print what keeps it in a cluster."""
    return show(context) if context.arguments.manifest else await keep(context)


def show(context: Context) -> int:
    """Print the manifests; the words that say which namespaces go into the command there."""
    from ..cluster.kubernetes import shipped  # Its package takes other commands' time to import.

    arguments = context.arguments
    named = _named(arguments)
    words = []
    if named:
        words += ["--namespaces", ",".join(named)]
    elif _finds(arguments):
        words.append("--all-namespaces")
        words += ["--selector", arguments.selector] if arguments.selector is not None else []
        words += ["--by-quota"] if arguments.by_quota else []
    else:  # that of its own, by the same lease as the servers there
        named = [arguments.namespace]
    words += ["--shards", str(arguments.shards)] if arguments.shards else []
    text = shipped.controller(arguments.namespace, arguments.image, named, words)
    if context.json:
        items = list(yaml.safe_load_all(text))
        context.show_json({"apiVersion": "v1", "kind": "List", "items": items})
    else:
        sys.stdout.write(text)
    return 0


class Pools(Protocol):
    """What keeps one pool or many."""

    async def open(self) -> None:
        """Begin. Raises ElasticError; may be called again then."""

    async def close(self) -> None:
        """Hand over and end."""

    def terms(self) -> Iterable[Term]:
        """How the leases are."""

    def lacks(self) -> str:
        """What is still to be done before it can take over from another; empty: nothing."""


class OnePool:
    """The pool of the configured cluster."""

    def __init__(self, service: ElasticService) -> None:
        self._service = service
        # What servers are told does not hold for whom they leave it to.
        service.settings.keep_pool = True

    async def open(self) -> None:
        """See :class:`Pools`."""
        await self._service.open(pool=True)

    async def close(self) -> None:
        """See :class:`Pools`."""
        await self._service.close()

    def terms(self) -> Iterable[Term]:
        """See :class:`Pools`."""
        return (self._service.controller.term,)

    def lacks(self) -> str:
        """See :class:`Pools`."""
        return ""


def make_pools(context: Context) -> Pools:
    """What the configuration and the command line ask for, not yet open.

    Raises
    ------
    BadRequest
        The configuration cannot be used.
    """
    config = context.load_config()
    config.merge(_from_words(context.arguments))
    try:
        chosen = ElasticNamespaces(config=config)
        if not (chosen.namespaces or chosen.everywhere):
            return OnePool(context.make_service())
        from ..kernels.manypools import ManyPools  # needs the Kubernetes adapter

        pools = ManyPools(config)
    except TraitError as error:
        raise BadRequest(f"The configuration cannot be used: {error}") from error
    for handler in logging.getLogger().handlers:
        handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    return pools


def _from_words(arguments: argparse.Namespace) -> Config:
    """The command line as configuration; what it says goes before files."""
    config = Config()
    if named := _named(arguments):
        config.ElasticNamespaces.namespaces = named
        config.ElasticNamespaces.everywhere = False
    if _finds(arguments):
        config.ElasticNamespaces.everywhere = True
        config.ElasticNamespaces.namespaces = []
    if arguments.selector is not None:
        config.ElasticNamespaces.selector = arguments.selector
    if arguments.by_quota:
        config.ElasticNamespaces.by_quota = True
    if arguments.shards is not None:
        config.ElasticNamespaces.shards = arguments.shards
    return config


async def keep(context: Context) -> int:
    """Keep the pool until told to end."""
    logging.getLogger("jupyter_elastic").setLevel(
        logging.DEBUG if context.arguments.debug else logging.INFO
    )
    pools = make_pools(context)
    loop, end = asyncio.get_running_loop(), asyncio.Event()
    for one in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(one, end.set)
    health = Health(pools)
    server = health.serve(context.arguments.address, context.arguments.port)
    opening = asyncio.ensure_future(_open(pools, health))
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
        await within(pools.close(), CLOSE_WITHIN)
    return 0


async def _open(pools: Pools, health: Health) -> None:
    pause = FIRST_PAUSE
    while True:
        try:
            await pools.open()
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

    def __init__(self, pools: Pools) -> None:
        self._pools = pools
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
        every = self._pools.terms() if self.is_open else ()
        stuck = max((term.stuck_for for term in every), default=0.0)
        return f"Nothing has moved for {stuck:.0f} s." if stuck > STUCK else ""

    def is_ready(self) -> str:
        """What is wrong; empty when nothing is."""
        if not self.is_open:
            return self.trouble
        # One namespace may be out of reach without the others being so.
        silent = min((term.silent_for for term in self._pools.terms()), default=0.0)
        if silent > SILENT:
            return f"The cluster has not answered for {silent:.0f} s."
        return self._pools.lacks()


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
