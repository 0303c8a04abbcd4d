"""Errors on their way through the API and back: one table of codes and HTTP statuses."""

from telamon.agent.models import Fault
from telamon.errors import (
    InvalidError,
    NotFoundError,
    RefusedError,
    TelamonError,
    TimedOutError,
    UnreachableError,
)

_KINDS: tuple[tuple[type[TelamonError], int], ...] = (
    (InvalidError, 422),
    (NotFoundError, 404),
    (RefusedError, 409),
    (TimedOutError, 504),
    (UnreachableError, 502),
)
FAILED_STATUS = 500


def fault_of(error: TelamonError) -> tuple[int, Fault]:
    """The HTTP status and body of an error."""
    faults = list(error.faults) if isinstance(error, InvalidError) else []
    for kind, status in _KINDS:
        if isinstance(error, kind):
            return status, Fault(code=kind.code, message=str(error), faults=faults)
    return FAILED_STATUS, Fault(code=error.code, message=str(error))


def error_of(fault: Fault) -> TelamonError:
    """The error that a body stands for."""
    if fault.code == InvalidError.code:
        return InvalidError(fault.message, tuple(fault.faults))
    for kind, _ in _KINDS:
        if fault.code == kind.code:
            return kind(fault.message)
    return TelamonError(fault.message)
