"""Every failure a user can meet: a stable reason, one sentence with figures, and a remedy.

The same object travels from the cluster adapter to REST (problem+json, RFC 9457), the Lab
notification, the command line and the log; nothing on the way rewrites it.
"""

from __future__ import annotations

from typing import Any, ClassVar


class ElasticError(Exception):
    """Base of all errors that are shown to users.

    Attributes
    ----------
    reason
        Machine-readable, stable, CamelCase; the same in conditions, REST bodies and events.
    message
        One sentence that says what happened, with figures.
    remedy
        One sentence that says what to do next.
    status
        The HTTP status under which REST reports it.
    retry
        Whether the same request may succeed later without a change.
    retry_after
        After how many seconds that is worth trying; None: nobody knows.
    """

    reason: ClassVar[str] = "Error"
    status: ClassVar[int] = 500
    retry: ClassVar[bool] = False
    retry_after: float | None = None
    remedy: str = ""

    def __init__(self, message: str, remedy: str = "", *, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy or type(self).remedy
        self.field = field

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()

    def to_problem(self) -> dict[str, Any]:
        """The body of an ``application/problem+json`` response."""
        problem: dict[str, Any] = {
            "type": f"urn:jupyter-elastic:{self.reason}",
            "title": self.message,
            "status": self.status,
            "detail": str(self),
            "reason": self.reason,
            "remedy": self.remedy,
            "retry": self.retry,
            # What jupyter_server's own clients look for:
            "message": str(self),
        }
        if self.field:
            problem["field"] = self.field
        return problem


class BadRequest(ElasticError):
    """The request itself is wrong; nothing was started or changed."""

    reason, status = "BadRequest", 400
    remedy = "Correct the request; nothing was changed."


class BadQuantity(BadRequest):
    """A CPU or memory quantity that cannot be read."""

    reason = "BadQuantity"

    def __init__(self, field: str, value: object, remedy: str) -> None:
        shown = repr(value)
        shown = shown if len(shown) <= 60 else shown[:57] + "..."
        super().__init__(
            f"{field}: {shown} is not a usable quantity.", _sentence(remedy), field=field
        )


class OutOfRange(BadRequest):
    """Readable, but outside what the template offers."""

    reason = "OutOfRange"


class BadTemplate(BadRequest):
    """A template that does not follow the schema; ``field`` is the path inside it."""

    reason = "BadTemplate"


class UnknownTemplate(ElasticError):
    """No template of this name."""

    reason, status = "UnknownTemplate", 404


class UnknownKernel(ElasticError):
    """No kernel of this id that this owner may see."""

    reason, status = "UnknownKernel", 404
    remedy = "It may have ended; list your kernels to see what is there."


class KernelExists(ElasticError):
    """A kernel of this id exists already."""

    reason, status = "KernelExists", 409
    remedy = "Attach to it, or leave the id out to get a new one."


class Conflict(ElasticError):
    """Somebody else changed the object first; read it again and decide anew."""

    reason, status, retry = "Conflict", 409, True
    remedy = "Try again."


class Superseded(Conflict):
    """Somebody else has resized the kernel meanwhile; the later size holds."""

    reason, retry = "Superseded", False
    remedy = "Look at the size that it has now."


class Gone(ElasticError):
    """The pod or its agent is no longer there."""

    reason, status = "Gone", 410
    remedy = "Start a new kernel."


class NotRunning(ElasticError):
    """The kernel is in a phase in which this cannot be done."""

    reason, status, retry = "NotRunning", 409, True


class QuotaFull(ElasticError):
    """The machine or the quota has no room for what was asked."""

    reason, status, retry = "QuotaFull", 429, True
    remedy = "Stop a kernel you no longer need, or ask for less."
    is_hopeless: bool = False
    """Whether it would have no room even if nothing else were there: waiting does not help."""


class QueueFull(ElasticError):
    """Too many starts of this owner wait for room already."""

    reason, status, retry = "QueueFull", 429, True
    retry_after = 30.0
    remedy = "Wait until some of them have started, or stop what you no longer need."


class ShrinkUnderUse(ElasticError):
    """Memory would be lowered under what the kernel uses now."""

    reason, status = "ShrinkUnderUse", 409


class ResizeUnsupported(ElasticError):
    """This resource cannot be changed while the kernel runs."""

    reason, status = "ResizeUnsupported", 409


class NoGpu(OutOfRange):
    """A GPU was asked for where the template or the cluster offers none."""

    reason = "NoGpu"


class AgentUnreachable(ElasticError):
    """The agent of a pod did not answer in time."""

    reason, status, retry = "AgentUnreachable", 503, True


class AgentTimeout(ElasticError):
    """A pod was created but its agent did not come up; carries the last lines of its log."""

    reason, status = "AgentTimeout", 504


class BadInterpreter(ElasticError):
    """The template's interpreter cannot run an agent (missing, no pyzmq, no ipykernel)."""

    reason, status = "BadInterpreter", 422


class StartFailed(ElasticError):
    """The kernel process did not start; the sentence has its last words."""

    reason, status = "StartFailed", 502


class AgentFailed(AgentTimeout):
    """The container ended before its agent was up; carries exit code and last words."""

    reason, status = "AgentFailed", 502
    remedy = "See the template's image, interpreter and preload list."


class PodFailed(ElasticError):
    """The pod cannot start, or ended, for a cause that lies in its cluster."""

    reason, status = "PodFailed", 502
    remedy = "Try again; if it stays so, show this message to whoever runs the cluster."


class Evicted(PodFailed):
    """The pod's node or its administrators needed the room."""

    reason, status, retry = "Evicted", 503, True
    remedy = "Start a new kernel; it gets another node where there is one."


class Preempted(PodFailed):
    """A pod of higher priority took the place."""

    reason, status, retry = "Preempted", 503, True
    remedy = "Start a new kernel once there is room again."


class NodeLost(PodFailed):
    """The node stopped, was removed, or cannot be reached any more."""

    reason, status, retry = "NodeLost", 503, True
    remedy = "Start a new kernel; it gets another node."


class NodeShutdown(NodeLost):
    """The node was shut down in an orderly way."""

    reason = "NodeShutdown"


class ImageNotFound(PodFailed):
    """The registry does not have the template's image, or its name cannot be read."""

    reason, status = "ImageNotFound", 422
    remedy = "Correct the template's image."


class ImageForbidden(PodFailed):
    """The registry does not give the template's image to this cluster."""

    reason, status = "ImageForbidden", 422
    remedy = "Check the image's name, and give the namespace a pull secret for that registry."


class Unschedulable(PodFailed):
    """No node has room for the pod, or none will take it."""

    reason, status, retry = "Unschedulable", 503, True
    remedy = "Ask for less, or wait until there is room."


class NoNodeFits(ElasticError):
    """The kernel's node has no room for the size that was asked for."""

    reason, status = "NoNodeFits", 409
    remedy = "Ask for less, or start a new kernel with that size, which can go to another node."


class ResizeStuck(ElasticError):
    """The node accepted a size and does not put it in force."""

    reason, status, retry = "ResizeStuck", 504, True
    remedy = "Try again; if it stays so, start a new kernel with that size."


class ResizeLost(ElasticError):
    """The kernel was killed while it was resized."""

    reason, status, retry = "ResizeLost", 409, True
    remedy = "Wait until the kernel runs again, then resize it."


class ResizerLost(ElasticError):
    """The server that resized a kernel ended before it was done, and the size is as before."""

    reason, status, retry = "ResizerLost", 410, True
    remedy = "Resize it again."


class NoEncryption(ElasticError):
    """Encrypted kernel channels are required, and the kernel or this server cannot have them."""

    reason, status = "NoEncryption", 422
    remedy = (
        "Use ipykernel 7.3 or newer in the template's environment and jupyter_client 8.9 or newer "
        'here, or set c.ElasticKernels.channel_encryption = "preferred".'
    )


class StartCancelled(ElasticError):
    """The kernel was deleted while it started."""

    reason, status = "StartCancelled", 409
    remedy = "Start it again when you need it."


class StarterLost(ElasticError):
    """The server that started a kernel ended before the kernel was up."""

    reason, status, retry = "StarterLost", 410, True
    remedy = "Start a new one."


class Forbidden(ElasticError):
    """The caller may not do this."""

    reason, status = "Forbidden", 403


class ApiUnreachable(ElasticError):
    """The Kubernetes API did not answer in time."""

    reason, status, retry = "ApiUnreachable", 503, True
    remedy = "Kernels run on and nothing is lost; try again in a moment."


class CrdsMissing(ElasticError):
    """The cluster does not know our resources yet."""

    reason, status = "CrdsMissing", 501
    remedy = "Install them once per cluster: `jupyter elastic crds | kubectl apply -f -`."


class LimitRangeRefused(ElasticError):
    """The size is outside what the namespace's LimitRange allows."""

    reason, status = "LimitRangeRefused", 422
    remedy = "Ask for a size within it, or ask an administrator to change the LimitRange."


class PodSecurityRefused(ElasticError):
    """The pod does not meet the namespace's Pod Security level."""

    reason, status = "PodSecurityRefused", 422
    remedy = "Change the template, or ask an administrator for a namespace with another level."


class InvalidObject(ElasticError):
    """The Kubernetes API does not accept an object; the sentence names the fields."""

    reason, status = "InvalidObject", 422
    remedy = "Correct the template or the request; nothing was changed."


class Opening(ElasticError):
    """The server has just started and still looks at its cluster."""

    reason, status, retry = "Opening", 503, True
    remedy = "Try again in a moment."


class Unsupported(ElasticError):
    """This machine lacks something the product needs; names it."""

    reason, status = "Unsupported", 501


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else text + "."
