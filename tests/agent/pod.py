"""A pod for tests: a real agent from a real zipapp, spoken to over CurveZMQ."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zmq
from jupyter_client.blocking.client import BlockingKernelClient

from jupyter_elastic.agent.pack import pack

PYTHON = os.environ.get("JUPYTER_ELASTIC_TEST_PYTHON") or sys.executable


class AgentError(Exception):
    """The agent's ``ok: false``."""

    def __init__(self, reply: dict[str, Any]) -> None:
        super().__init__(f"{reply['reason']}: {reply['message']}")
        self.reason = reply["reason"]
        self.message = reply["message"]


def until(condition: Callable[[], Any], what: str = "condition", timeout: float = 60.0) -> Any:
    """Wait for something that must come true."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not come true within {timeout} s")
        time.sleep(0.02)


class Pod:
    """Starts an agent and talks with it."""

    def __init__(
        self,
        directory: Path,
        env: dict[str, str] | None = None,
        python: str = PYTHON,
        cwd: Path | None = None,
        **config: Any,
    ) -> None:
        self.directory = directory
        self.run_dir = directory / "run"
        self.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.name = config.pop("pod", None) or f"pod-{uuid.uuid4().hex[:8]}"
        self.public, secret = (key.decode() for key in zmq.curve_keypair())
        self.client_public, self.client_secret = zmq.curve_keypair()
        keys = directory / "keys.json"
        keys.write_text(
            json.dumps(
                {
                    "secret_key": secret,
                    "public_key": self.public,
                    "client_keys": [self.client_public.decode()],
                }
            )
        )
        keys.chmod(0o600)
        self.config = directory / "config.json"
        self.config.write_text(
            json.dumps(
                {"pod": self.name, "run_dir": str(self.run_dir), "keys": str(keys), **config}
            )
        )
        self.zipapp = pack(directory)
        self.python = python
        self.env = dict(os.environ if env is None else env)
        if env is None:
            self.env.pop("PYTHONPATH", None)
            self.env["IPYTHONDIR"] = str(directory / "ipython")
        self.cwd = cwd or directory
        self.context = zmq.Context()
        self.events: list[dict[str, Any]] = []
        self._socket: zmq.Socket[Any] | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self.log = directory / "agent.log"

    def launch(self) -> Pod:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [self.python, str(self.zipapp), str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.env,
                cwd=self.cwd,
                start_new_session=True,
            )
        return self

    def __enter__(self) -> Pod:
        return self.launch()

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.hang_up()
        self.context.destroy(0)

    # -- files -----------------------------------------------------------------------------

    def status_file(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads((self.run_dir / "status.json").read_text())
        except FileNotFoundError:
            return {}
        return found

    def wait_phase(self, phase: str) -> dict[str, Any]:
        def there() -> dict[str, Any] | None:
            status = self.status_file()
            if status.get("phase") == phase:
                return status
            if self.process is not None and self.process.poll() is not None and phase != "gone":
                raise AssertionError(f"the agent ended: {self.log.read_text()[-3000:]}")
            return None

        found: dict[str, Any] = until(there, f"phase {phase}")
        return found

    # -- control ---------------------------------------------------------------------------

    def dial(self, public: bytes | None = None, secret: bytes | None = None) -> zmq.Socket[Any]:
        status = until(self.status_file, "status.json")
        socket = self.context.socket(zmq.DEALER)
        socket.linger = 0
        socket.curve_serverkey = status["public_key"].encode()
        socket.curve_publickey = public or self.client_public
        socket.curve_secretkey = secret or self.client_secret
        socket.connect(status["endpoint"])
        return socket

    @property
    def socket(self) -> zmq.Socket[Any]:
        if self._socket is None:
            self._socket = self.dial()
        return self._socket

    def hang_up(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def receive(self, timeout: float) -> dict[str, Any] | None:
        if not self.socket.poll(int(timeout * 1000)):
            return None
        message: dict[str, Any] = json.loads(self.socket.recv())
        return message

    def call(self, op: str, timeout: float = 60.0, **fields: Any) -> dict[str, Any]:
        request = uuid.uuid4().hex
        self.socket.send(json.dumps({"v": 1, "id": request, "op": op, **fields}).encode())
        end = time.monotonic() + timeout
        while True:
            message = self.receive(max(0, end - time.monotonic()))
            if message is None:
                raise AssertionError(f"no answer to {op} within {timeout} s")
            if "event" in message:
                self.events.append(message)
            elif message["id"] == request:
                if not message["ok"]:
                    raise AgentError(message)
                return message

    def event(self, name: str, timeout: float = 60.0) -> dict[str, Any]:
        """The next event of this name; earlier ones are dropped."""
        end = time.monotonic() + timeout
        while True:
            while self.events:
                message = self.events.pop(0)
                if message["event"] == name:
                    return message
            found = self.receive(max(0, end - time.monotonic()))
            if found is None:
                raise AssertionError(f"no event {name} within {timeout} s")
            if "event" in found:
                self.events.append(found)

    # -- kernels ---------------------------------------------------------------------------

    def request(self, **fields: Any) -> dict[str, Any]:
        """The fields of a start."""
        return {
            "kernel_id": str(uuid.uuid4()),
            "key": uuid.uuid4().hex,
            "signature_scheme": "hmac-sha256",
            "curve": None,
            "env": self.env,
            "inherit": False,
            "cwd": str(self.directory),
            "ip": "127.0.0.1",
            "ports": None,
            "memory": 0,
            "cpu": 0,
            "idle": {"cull_after": 0, "max_age": 0, "cull_connected": True},
            "on_death": "restart",
            "kernel_name": "test",
            "argv_context": {},
            "gpu": [],
            **fields,
        }

    def start(self, **fields: Any) -> dict[str, Any]:
        return self.call("start", **self.request(**fields))

    def client(self, connection: dict[str, Any]) -> Client:
        return Client(connection)


class Client:
    """A Jupyter client of one kernel."""

    def __init__(self, connection: dict[str, Any]) -> None:
        self.kernel: Any = BlockingKernelClient()
        self.kernel.load_connection_info(connection)  # type: ignore[arg-type]
        self.kernel.start_channels()
        self.kernel.wait_for_ready(timeout=60)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.kernel.stop_channels()
        self.kernel.context.destroy(0)

    def run(self, code: str, timeout: float = 60.0, answer: str | None = None) -> str:
        """Run a cell; return what it printed and its result as text. Errors are raised."""
        parts: list[str] = []

        def hook(message: dict[str, Any]) -> None:
            content = message["content"]
            if message["msg_type"] == "stream":
                parts.append(content["text"])
            elif message["msg_type"] in ("execute_result", "display_data"):
                parts.append(content["data"].get("text/plain", ""))

        def typed(_: dict[str, Any]) -> None:
            self.kernel.input(answer)

        for _ in range(10):
            reply = self.kernel.execute_interactive(
                code,
                timeout=timeout,
                output_hook=hook,
                allow_stdin=answer is not None,
                stdin_hook=typed,
            )
            # After an interrupt ipykernel aborts what comes at once.
            if reply["content"]["status"] != "aborted":
                break
        content = reply["content"]
        if content["status"] != "ok":
            raise RuntimeError(f"{content.get('ename')}: {content.get('evalue')}")
        return "".join(parts).strip()
