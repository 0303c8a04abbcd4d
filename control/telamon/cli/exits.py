"""Exit statuses of `telamon`: part of its interface, listed in docs/exit-codes.md."""

from enum import IntEnum

from telamon.errors import (
    InvalidError,
    NotFoundError,
    RefusedError,
    TelamonError,
    TimedOutError,
    UnreachableError,
)


class Exit(IntEnum):
    """How a command ended."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    REFUSED = 3
    TIMED_OUT = 4
    UNREACHABLE = 5
    INVALID = 6
    NOT_FOUND = 7
    NOT_READY = 8
    INTERRUPTED = 130


HELP = (
    "Exit status: 0 done, 1 failed, 2 wrong usage, 3 refused by the present state, 4 not reached "
    "within --timeout, "
    "5 agent or node unreachable, 6 configuration not valid, 7 no such node or module, 8 not "
    "ready (--check)."
)

_BY_CODE = {
    RefusedError.code: Exit.REFUSED,
    TimedOutError.code: Exit.TIMED_OUT,
    UnreachableError.code: Exit.UNREACHABLE,
    InvalidError.code: Exit.INVALID,
    NotFoundError.code: Exit.NOT_FOUND,
}


def exit_of(error: TelamonError) -> Exit:
    """The exit status of an error."""
    return exit_of_code(error.code)


def exit_of_code(code: str) -> Exit:
    """The exit status of an error's code."""
    return _BY_CODE.get(code, Exit.FAILED)
