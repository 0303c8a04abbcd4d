"""Taking away what a killed replicator left mounted over a directory.

A dead mount answers every call with ENOTCONN, also the calls of an agent that only wants to look.
Detaching bares the fence below it, which stays. Mounts of others are left alone: only a FUSE mount
whose server is gone is detached.
"""

import ctypes
import errno
import os
from collections.abc import Iterable
from pathlib import Path

from telamon.errors import TelamonError

MNT_DETACH = 2
MAXIMUM_STACKED = 8

_libc = ctypes.CDLL(None, use_errno=True)


def detach_dead_mounts(directories: Iterable[Path]) -> int:
    """Detaches every dead mount over `directories`; returns how many there were."""
    return sum(map(_detach_dead, directories))


def _detach_dead(directory: Path) -> int:
    for count in range(MAXIMUM_STACKED):
        try:
            directory.stat()
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                return count
        else:
            return count
        if _libc.umount2(os.fsencode(directory), MNT_DETACH) != 0:
            code = ctypes.get_errno()
            raise TelamonError(
                f"the dead mount over {directory} could not be detached: {os.strerror(code)}; run "
                "`umount -l` on it"
            )
    return MAXIMUM_STACKED
