"""The system calls a lab needs that Python 3.11 does not carry: namespaces, mounts, and pulling a
file system's plug.

Every failure is an OSError that names the object; deciding what it means is the caller's.
"""

import ctypes
import fcntl
import os
import platform
import struct
from enum import IntFlag
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_PR_SET_PDEATHSIG = 1

# _IOR('X', 125, __u32) of fs/ext4/ext4.h, and its mode that throws the journal's tail away.
_EXT4_IOC_SHUTDOWN = 0x8004587D
_EXT4_GOING_FLAGS_NOLOGFLUSH = 2


class Namespace(IntFlag):
    """CLONE_NEW* of clone(2); the names are those below /proc/PID/ns."""

    MNT = 0x00020000
    UTS = 0x04000000
    IPC = 0x08000000
    PID = 0x20000000
    NET = 0x40000000


class Mount(IntFlag):
    """MS_* of mount(2)."""

    PLAIN = 0
    NOSUID = 0x2
    NODEV = 0x4
    BIND = 0x1000
    RECURSIVE = 0x4000
    MOVE = 0x2000
    PRIVATE = 0x40000


HOST_NAMESPACES = Namespace.MNT | Namespace.UTS | Namespace.IPC | Namespace.PID | Namespace.NET


def unshare(namespaces: Namespace) -> None:
    """Leaves the given namespaces for new ones (a PID namespace begins with the next child)."""
    _check(_LIBC.unshare(int(namespaces)), "unshare", repr(namespaces))


def enter(process_id: int, namespaces: Namespace) -> None:
    """Joins the given namespaces of a running process. The mount namespace comes last, because it
    changes what /proc means.
    """
    ordered = sorted(namespaces, key=lambda one: one is Namespace.MNT)
    paths = {one: f"/proc/{process_id}/ns/{(one.name or '').lower()}" for one in ordered}
    descriptors = {one: os.open(path, os.O_RDONLY | os.O_CLOEXEC) for one, path in paths.items()}
    try:
        for one, descriptor in descriptors.items():
            _check(_LIBC.setns(descriptor, int(one)), "setns", paths[one])
    finally:
        for descriptor in descriptors.values():
            os.close(descriptor)


def mount(
    source: str, target: Path | str, kind: str = "", flags: Mount = Mount.PLAIN, options: str = ""
) -> None:
    """mount(2)."""
    result = _LIBC.mount(
        source.encode(), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), options.encode()
    )
    _check(result, f"mount {kind or 'bind'} of {source}", str(target))


def bind(source: Path | str, target: Path | str) -> None:
    """Shows `source` with everything mounted below it at `target` as well."""
    mount(os.fsdecode(source), target, flags=Mount.BIND | Mount.RECURSIVE)


def detach(target: Path | str) -> None:
    """umount(2), lazily: the mount leaves the tree now and ends with its last user."""
    mnt_detach = 2
    _check(_LIBC.umount2(os.fsencode(target), mnt_detach), "umount", str(target))


def pivot_root(new_root: Path, old_root: Path) -> None:
    """Makes `new_root` the root of this mount namespace; the old one appears at `old_root`."""
    number = _PIVOT_ROOT[platform.machine()]
    result = _LIBC.syscall(number, os.fsencode(new_root), os.fsencode(old_root))
    _check(result, "pivot_root", str(new_root))


def take_root_along(spare: Path) -> None:
    """Makes the tree that this process sees at `/` the root of its mount namespace, which must be
    its own and private. `spare` is an empty directory.

    Whoever joins a mount namespace starts at its root, which for the children of a chroot is that
    of the machine. pivot_root(2) refuses in a chroot, so the tree is moved over that root instead.
    """
    bind("/", spare)
    tree = os.open(spare, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        enter(os.getpid(), Namespace.MNT)
        os.fchdir(tree)
        mount(".", "/", flags=Mount.MOVE)
        os.chroot(".")
    finally:
        os.close(tree)


def die_with_parent(signal_number: int) -> None:
    """Has the kernel send this signal to the calling process when its parent ends."""
    _check(_LIBC.prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0), "prctl", "PR_SET_PDEATHSIG")


def pull_the_plug(directory: Path) -> None:
    """Stops the ext4 that holds `directory` as a power failure would: what was not flushed to the
    device is lost, the journal's unwritten tail too, and every later access fails with EIO.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(descriptor, _EXT4_IOC_SHUTDOWN, struct.pack("I", _EXT4_GOING_FLAGS_NOLOGFLUSH))
    finally:
        os.close(descriptor)


def _check(result: int, attempt: str, target: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{attempt}: {os.strerror(number)}", target)
