"""A registry of images that has none, for the node of the tree's own cluster to ask.

Run as a program it serves on a port of ``127.0.0.1``, to which containerd speaks without TLS:
``python registry.py PORT``. :func:`registry` runs it where the node's containerd is.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

ANSWERS = {
    "absent": (404, "MANIFEST_UNKNOWN", "manifest unknown"),
    "private": (403, "DENIED", "requested access to the resource is denied"),
}
"""By a word in the image's name."""


class _Handler(BaseHTTPRequestHandler):
    def _answer(self) -> None:
        word = next((word for word in ANSWERS if word in self.path), "absent")
        code, name, message = ANSWERS[word]
        body = json.dumps({"errors": [{"code": name, "message": message}]}).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = _answer  # noqa: N815 - the names are the base class's


@contextlib.contextmanager
def registry(beside: int, port: int = 15000) -> Iterator[str]:
    """Serve in the network of the process ``beside``; its name in names of images."""
    inside = ["nsenter", "-t", str(beside), "-n", sys.executable, __file__, str(port)]
    process = subprocess.Popen(inside, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"serving\n"
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    server = HTTPServer(("127.0.0.1", int(sys.argv[1])), _Handler)
    print("serving", flush=True)
    server.serve_forever()
