"""What a server and an agent say to each other. Standard library only; imported by both sides.

Transport: one ZeroMQ ROUTER socket of the agent, CurveZMQ, with a ZAP handler that admits only
the client keys listed in the agent's configuration. One message is one frame of UTF-8 JSON
(DEALER side: ``[json]``; ROUTER side: ``[identity, json]``), at most ``MAX_MESSAGE`` bytes.

Request  ``{"v": 1, "id": str, "op": str, ...fields}``
Reply    ``{"v": 1, "id": str, "ok": true, ...fields}``
         ``{"v": 1, "id": str, "ok": false, "reason": str, "message": str}``
Event    ``{"v": 1, "event": str, ...fields}`` to every peer whose ``hello`` asked for events

A server speaks with agents of its own protocol version and of the one before it: ``OLDEST`` until
``hello`` told what the agent knows, then the newest that both do. Unknown fields are ignored; an
unknown ``op`` is answered with reason ``UnknownOperation``.

Operations
----------
``hello {events: bool, wait: float|absent}``
    Answered at once, or within ``wait`` seconds once the pod no longer warms.
    ``{agent: str (version), protocol: int, pod: str, python: str, ipykernel: str|None,
    phase: "warming"|"warm"|"claimed", kernel_id: str|None, curve: bool (kernel channels can be
    encrypted), overhead: int, warnings: [str]}``
``start {kernel_id, key: str, signature_scheme, curve: {publickey, secretkey}|null, env: {str: str},
inherit: bool, cwd: str|null, ip: str, ports: {shell_port, iopub_port, stdin_port, control_port,
hb_port}|null, memory: int, cpu: int, idle: {cull_after, max_age, cull_connected},
on_death: "restart"|"report", kernel_name: str, argv_context: {str: str}, gpu: [str],
client: {pid: int, start_ticks: int}|absent}``
    Give the pod its kernel. Answered once the kernel replies to ``kernel_info`` (or, for argv
    kernels, once its heartbeat or shell port accepts). Repeating it for the same kernel returns
    the same answer; for another one: reason ``Claimed``. ``ports: null`` lets the kernel bind
    free ones (chosen by the agent, which keeps them reserved for the pod's life).
    ``on_death`` says what becomes of a kernel whose process ends unasked, be it killed, crashed or
    ended by itself with code 0 (``Exited``: ``quit()``, a client's ``shutdown_request``):
    ``restart`` makes the agent bring it back, and no server need do so, but not after the sixth
    death within 60 s; ``report`` leaves it dead until a ``restart``.
    ``inherit`` true lays ``env`` over the agent's own environment; false: ``env`` is the whole
    environment. The pod's own variables (``JUPYTER_ELASTIC_POD``, ``JUPYTER_ELASTIC_KERNEL_ID``,
    ``CUDA_VISIBLE_DEVICES`` from ``gpu``) are added and ``JPY_PARENT_PID`` is dropped either way.
    ``cwd: null``: the kernel's ``HOME``, which is made where it is missing; if it cannot be, the
    agent's own directory.
    ``client`` names the process the kernel belongs to, where the agent can see it (local cluster):
    once that process is gone the pod ends as well (``ClientGone``), as a plain kernel does.
    ``start_ticks`` is field 22 of its ``/proc/PID/stat``; it tells the process from a later one
    of the same pid. Absent or null: the kernel outlives whoever started it.
    Returns ``{connection: {...}, pid: int, how: "spare"|"fork"|"exec"}``; ``connection`` is a
    Jupyter connection file's content (with curve keys when they are used).
    Fails with ``StartFailed`` (last words of the process), ``BadWorkingDirectory``.
``prepare {...as start}``
    A ``start`` with the same fields is about to follow: let the spare take the kernel's identity
    and ports, but run nothing of the user's. Answered ``{prepared: bool}``; false where no spare
    serves. No promise: the ``start`` may differ, never come, or come from another server.
``restart {env: {str: str}|null, cwd: str|null, grace: float}``
    Let the kernel run its exit handlers for ``grace`` seconds, kill all that came from it (also
    what made a session of its own) and start the next one on the same ports with the same keys.
    Returns as ``start``. Allowed also when the kernel is dead. Refused with ``BadRequest`` or
    ``BadWorkingDirectory`` it leaves the kernel as it was. When the next one does not come up
    after the old one has ended, the kernel is dead: ``exit`` has reason ``StartFailed``, and
    ``kernel-exited`` with ``restarting: false`` goes out besides the error.
``signal {signum: int}``
    To the kernel's whole process group.
``stop {grace: float}``
    Let the kernel run its exit handlers for ``grace`` seconds (``shutdown_request``), kill
    everything in the pod, answer, then end the agent with exit status 0.
``status {}``
    ``{phase, kernel_id, pid, alive: bool, execution_state: "starting"|"idle"|"busy"|"dead",
    last_activity: float, started: float, touched: bool (it has run something for a user),
    restarts: int (kernel processes brought back),
    exit: Exit|null}``; ``Exit`` is ``{time, reason: "OutOfMemory"|"Killed"|"Crashed"|"Exited"|
    "StartFailed", message, code: int|null, signal: int|null, limit: int|null, peak: int|null}``.
``connection {}``
    ``{connection: {...}}`` of the running kernel, for a server that adopts it.
``usage {}``
    ``{time, cpu_seconds: float, cpu_limit: int|null, throttled_seconds: float|null,
    memory: int, memory_limit: int|null, memory_peak: int|null, overhead: int, oom_kills: int,
    psi: {memory: float, cpu: float}|null, processes: int, gpu: [{id, kind, memory, memory_total,
    utilization}]}``; memory without the agent's overhead, never under 0, page cache that can be
    dropped not counted.
``limits {memory: int, cpu: int}``
    Tells the agent the limits now in force (and, where it enforces them itself, to do so).
    Returns ``{memory_limit: int|null, cpu_limit: int|null}``: those of the pod's own group as they
    are, overheads included; null where there is none.
``check_shrink {memory: int}`` returns ``{use: int, fits: bool}``.
``keepalive {}``
    Restart the idle clock.

Any operation may fail with ``BadRequest``, ``UnsupportedVersion``, ``UnknownOperation``,
``NotRunning`` (no kernel), ``Gone`` (the pod is ending), ``Busy`` (too many requests at once;
nothing was done, try again) or ``AgentError`` (the agent's own failure; its log says more).

Events
------
``kernel-exited {exit: Exit, restarting: bool}``;
``kernel-restarted {connection, restarts, asked: bool}`` (``asked``: by the ``restart`` operation);
``culled {reason: "Idle"|"MaxAge"|"ClientGone", message}`` (the agent ends after it);
``warning {message}``.

Files in the pod's run directory (0700), written by the agent, atomically
-------------------------------------------------------------------------
``status.json``
    ``{pid, start_ticks, endpoint, public_key, phase: "warming"|"warm"|"claimed"|"gone",
    overhead, warnings, kernel_id, reason, message, exit, usage}``: what a kubelet would know.
    Rewritten on every change of phase, never periodically, except ``usage`` (at most every 10 s,
    only while the kernel is busy). With phase ``gone``, ``reason`` is ``Stopped``, ``Terminated``
    (SIGTERM), ``Idle``, ``MaxAge``, ``ClientGone``, ``NoController``, ``Unclaimed``,
    ``RestoreFailed``, ``ZygoteLost`` (while warm) or ``AgentLost`` (the agent was killed; written
    by the zygote).
    Still ``claimed`` with no process alive means that everything in the pod was killed at once.
    ``overhead`` is what the warm pod needs plus the private memory of one more spare, because the
    first one becomes the kernel.
``claim.json`` (0600)
    ``{request, restarts, claimed, overhead}``: the last ``start`` request, the kernel processes
    brought back, and when the pod was first claimed (``max_age`` counts from there). An agent
    that finds one at its own start was brought back after everything in the pod was killed: it
    starts that kernel again at once, on the same ports.
"""

from __future__ import annotations

VERSION = 1
OLDEST = 1
MAX_MESSAGE = 4 * 2**20

HELLO, START, RESTART, SIGNAL, STOP = "hello", "start", "restart", "signal", "stop"
PREPARE = "prepare"
STATUS, CONNECTION, USAGE, LIMITS = "status", "connection", "usage", "limits"
CHECK_SHRINK, KEEPALIVE = "check_shrink", "keepalive"

EXITED, RESTARTED, CULLED, WARNING = "kernel-exited", "kernel-restarted", "culled", "warning"

OUT_OF_MEMORY = "OutOfMemory"
"""Why a kernel ended that went over its memory limit; mostly it came back in place."""
CLIENT_GONE = "ClientGone"
"""Why a pod ended whose kernel belonged to a process that is no more."""
