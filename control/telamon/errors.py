"""The one tree of errors.

Invariant: the message of every error is one sentence that names the object, the attempt and the
cure, so that the log, the API and the command line show the same text unchanged. `code` is a stable
word for programs; it never carries facts that the message lacks.
"""

from typing import ClassVar


class TelamonError(Exception):
    """Something of the world stood in the way; the message says what and how to cure it."""

    code: ClassVar[str] = "failed"


class InvalidError(TelamonError):
    """A configuration or a request is not well formed; `faults` holds every fault found, not only
    the first.
    """

    code: ClassVar[str] = "invalid"

    def __init__(self, message: str, faults: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.faults = faults


class NotFoundError(TelamonError):
    """A named node, module or file does not exist."""

    code: ClassVar[str] = "not_found"


class RefusedError(TelamonError):
    """A well-formed request that the present state forbids."""

    code: ClassVar[str] = "refused"


class UnreachableError(TelamonError):
    """Another process or node did not answer."""

    code: ClassVar[str] = "unreachable"


class TimedOutError(TelamonError):
    """An awaited change did not come about within its limit."""

    code: ClassVar[str] = "timed_out"


class NetworkError(TelamonError):
    """The kernel refused a change of addresses, or a frame could not be sent."""

    code: ClassVar[str] = "network"


class ScriptError(TelamonError):
    """A module's script could not be started, failed, or ran out of time."""

    code: ClassVar[str] = "script"


class BpfError(TelamonError):
    """The kernel or libbpf refused an eBPF object, program, map or link; `errno` says how."""

    code: ClassVar[str] = "bpf"

    def __init__(self, message: str, errno: int) -> None:
        super().__init__(message)
        self.errno = errno
