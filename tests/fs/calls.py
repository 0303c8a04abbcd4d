"""System calls that Python's os module lacks."""

import ctypes
import os
from enum import IntFlag
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000


class Rename(IntFlag):
    """Flags of renameat2."""

    NOREPLACE = 1
    EXCHANGE = 2
    WHITEOUT = 4


class Allocate(IntFlag):
    """Modes of fallocate."""

    PLAIN = 0
    KEEP_SIZE = 1
    PUNCH_HOLE = 2
    COLLAPSE_RANGE = 8
    ZERO_RANGE = 16
    INSERT_RANGE = 32


def rename(source: Path | bytes, target: Path | bytes, flags: int) -> None:
    """renameat2 relative to the working directory."""
    arguments = (os.fsencode(source), AT_FDCWD, os.fsencode(target))
    _check(_libc.renameat2(AT_FDCWD, arguments[0], AT_FDCWD, arguments[2], flags))


def allocate(descriptor: int, mode: int, offset: int, length: int) -> None:
    """fallocate with a mode."""
    _check(_libc.fallocate(descriptor, mode, ctypes.c_int64(offset), ctypes.c_int64(length)))


def link_descriptor(descriptor: int, target: Path) -> None:
    """Gives an open file a name."""
    source = os.fsencode(f"/proc/self/fd/{descriptor}")
    _check(_libc.linkat(AT_FDCWD, source, AT_FDCWD, os.fsencode(target), 0x400))


def sync_file_system(descriptor: int) -> None:
    """syncfs."""
    _check(_libc.syncfs(descriptor))


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
