"""The file system of pins. Mounted at /sys/fs/bpf by systemd on a host, by nobody in a new mount
namespace or a container.
"""

import ctypes
import os
from pathlib import Path

from telamon.bpf import library

ROOT = Path("/sys/fs/bpf")
PINS = ROOT / "telamon"

_BPF_FS_MAGIC = 0xCAFE4A11


class _StatFs(ctypes.Structure):
    _fields_ = (("type", ctypes.c_long), ("rest", ctypes.c_byte * 248))


_libc = ctypes.CDLL(None, use_errno=True)
_libc.statfs.argtypes = [ctypes.c_char_p, ctypes.POINTER(_StatFs)]
_libc.mount.argtypes = [
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_ulong,
    ctypes.c_char_p,
]


def is_mounted(path: Path = ROOT) -> bool:
    """True if `path` lies in a bpffs."""
    found = _StatFs()
    if _libc.statfs(os.fsencode(path), ctypes.byref(found)) < 0:
        raise library.refusal(f"looking at {path}", ctypes.get_errno())
    return int(found.type) == _BPF_FS_MAGIC


def ensure_mounted(path: Path = ROOT) -> None:
    """Mounts a bpffs of the calling thread's mount namespace at `path` unless one is there."""
    if is_mounted(path):
        return
    if _libc.mount(b"bpf", os.fsencode(path), b"bpf", 0, b"mode=0700") < 0:
        raise library.refusal(f"mounting bpffs at {path}", ctypes.get_errno())
