"""libbpf.so.1 itself: its functions with their types, its log, and its errors in our words.

Invariant: every libbpf call of the package goes through `call` or `pointer`, so a failure always
becomes a `BpfError` that names the object, the attempt and the cure. libbpf's own messages go to
the logger `telamon.bpf`; those of the last failed load are quoted in the error.
"""

import ctypes
import errno
import functools
import logging
import os
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from telamon.errors import BpfError

_log = logging.getLogger("telamon.bpf")
_LEVELS = {0: logging.WARNING, 1: logging.INFO, 2: logging.DEBUG}
_KEPT_LINES = 200
_MESSAGE_BYTES = 64 * 1024

_CAP_SYS_ADMIN = 21
_CAP_BPF = 39
_KERNEL_BTF = Path("/sys/kernel/btf/vmlinux")

_PRINT = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)

_pointer = ctypes.c_void_p
_text = ctypes.c_char_p
_int = ctypes.c_int
_u32 = ctypes.c_uint32
_u64 = ctypes.c_uint64
_size = ctypes.c_size_t

_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "bpf_object__open_file": (_pointer, (_text, _pointer)),
    "bpf_object__load": (_int, (_pointer,)),
    "bpf_object__close": (None, (_pointer,)),
    "bpf_object__btf": (_pointer, (_pointer,)),
    "bpf_object__find_map_by_name": (_pointer, (_pointer, _text)),
    "bpf_object__next_map": (_pointer, (_pointer, _pointer)),
    "bpf_object__find_program_by_name": (_pointer, (_pointer, _text)),
    "bpf_object__next_program": (_pointer, (_pointer, _pointer)),
    "bpf_map__name": (_text, (_pointer,)),
    "bpf_map__fd": (_int, (_pointer,)),
    "bpf_map__set_max_entries": (_int, (_pointer, _u32)),
    "bpf_map__reuse_fd": (_int, (_pointer, _int)),
    "bpf_map__initial_value": (_pointer, (_pointer, ctypes.POINTER(_size))),
    "bpf_program__name": (_text, (_pointer,)),
    "bpf_program__fd": (_int, (_pointer,)),
    "bpf_program__set_autoload": (_int, (_pointer, ctypes.c_bool)),
    "btf__find_by_name_kind": (_int, (_pointer, _text, _u32)),
    "btf__type_by_id": (_pointer, (_pointer, _u32)),
    "btf__name_by_offset": (_text, (_pointer, _u32)),
    "bpf_raw_tracepoint_open": (_int, (_text, _int)),
    "bpf_link_create": (_int, (_int, _int, _int, _pointer)),
    "bpf_link_update": (_int, (_int, _int, _pointer)),
    "bpf_link_detach": (_int, (_int,)),
    "bpf_prog_load": (_int, (_int, _text, _text, _pointer, _size, _pointer)),
    "bpf_prog_test_run_opts": (_int, (_int, _pointer)),
    "bpf_obj_pin": (_int, (_int, _text)),
    "bpf_obj_get": (_int, (_text,)),
    "bpf_obj_get_info_by_fd": (_int, (_int, _pointer, ctypes.POINTER(_u32))),
    "bpf_map_lookup_elem": (_int, (_int, _pointer, _pointer)),
    "bpf_map_update_elem": (_int, (_int, _pointer, _pointer, _u64)),
    "bpf_map_delete_elem": (_int, (_int, _pointer)),
    "bpf_map_get_next_key": (_int, (_int, _pointer, _pointer)),
    "bpf_map_lookup_batch": (
        _int,
        (_int, _pointer, _pointer, _pointer, _pointer, ctypes.POINTER(_u32), _pointer),
    ),
    "bpf_map_update_batch": (
        _int,
        (_int, _pointer, _pointer, ctypes.POINTER(_u32), _pointer),
    ),
    "ring_buffer__new": (_pointer, (_int, _pointer, _pointer, _pointer)),
    "ring_buffer__poll": (_int, (_pointer, _int)),
    "ring_buffer__consume": (_int, (_pointer,)),
    "ring_buffer__free": (None, (_pointer,)),
    "libbpf_num_possible_cpus": (_int, ()),
    "libbpf_set_print": (_pointer, (_PRINT,)),
}

_recent = threading.local()


def _recent_lines() -> deque[str]:
    lines: deque[str] | None = getattr(_recent, "lines", None)
    if lines is None:
        lines = _recent.lines = deque(maxlen=_KEPT_LINES)
    return lines


def _formatter() -> Any:
    libc = ctypes.CDLL(None)
    vsnprintf = libc.vsnprintf
    vsnprintf.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_void_p]
    return vsnprintf


_vsnprintf = _formatter()


def _print(level: int, template: bytes, arguments: int) -> int:
    buffer = ctypes.create_string_buffer(_MESSAGE_BYTES)
    _vsnprintf(buffer, _MESSAGE_BYTES, template, arguments)
    for line in buffer.value.decode(errors="replace").splitlines():
        _recent_lines().append(line)
        _log.log(_LEVELS.get(level, logging.DEBUG), "%s", line)
    return 0


# Kept for the life of the process: libbpf calls through it.
_print_trampoline = _PRINT(_print)


@functools.cache
def load() -> ctypes.CDLL:
    """The library, loaded once for the process."""
    try:
        library = ctypes.CDLL("libbpf.so.1", use_errno=True)
    except OSError as error:
        raise BpfError(
            f"libbpf.so.1 cannot be loaded ({error}): install the package libbpf1", errno.ENOENT
        ) from error
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype = result
        function.argtypes = list(arguments)
    library.libbpf_set_print(_print_trampoline)
    return library


def call(name: str, *arguments: Any, attempt: str, allowed: Sequence[int] = ()) -> int:
    """Calls a function that returns a negative errno. An errno in `allowed` comes back negated
    instead of raising. `attempt` is a noun phrase: "loading ebpf/x.bpf.o".
    """
    result: int = getattr(load(), name)(*arguments)
    if result >= 0:
        return result
    if -result in allowed:
        return result
    raise refusal(attempt, -result)


def pointer(name: str, *arguments: Any, attempt: str) -> int:
    """Calls a function that returns a pointer, NULL with errno being a failure."""
    ctypes.set_errno(0)
    result: int | None = getattr(load(), name)(*arguments)
    if result:
        return result
    raise refusal(attempt, ctypes.get_errno() or errno.ENOENT)


def forget_messages() -> None:
    """Starts a new attempt: `last_messages` quotes only what libbpf says from here on."""
    _recent_lines().clear()


def last_messages(limit: int = 12) -> str:
    """The last lines libbpf printed in this thread: of a refused load, the verifier's verdict."""
    return "\n".join(list(_recent_lines())[-limit:])


def refusal(attempt: str, number: int, detail: str = "") -> BpfError:
    """The error for a failed attempt, with the cure that its errno suggests."""
    sentence = f"{attempt} failed: {os.strerror(number)}; {_cure(number)}"
    return BpfError(f"{sentence}\n{detail}" if detail else sentence, number)


def _cure(number: int) -> str:
    if number in (errno.EPERM, errno.EACCES):
        if not _capable():
            return "it needs CAP_SYS_ADMIN or CAP_BPF: run it as root, outside a user namespace"
        return (
            "the process is privileged, so this kernel's own policy (lockdown, or a ban on this "
            "kind of program) or its verifier refuses it"
        )
    if number in (errno.ESRCH, errno.ENOENT) and not _KERNEL_BTF.exists():
        return f"{_KERNEL_BTF} is missing: it needs a kernel with CONFIG_DEBUG_INFO_BTF"
    cures = {
        errno.ESRCH: "this kernel has no such function or tracepoint",
        errno.ENOENT: "it does not exist",
        errno.EEXIST: "something is there already: remove it first",
        errno.EBUSY: "another program is attached there: detach it first",
        errno.ENOSPC: "the map or the file system is full",
        errno.E2BIG: "the map is full",
        errno.ENOMEM: "the kernel is out of memory",
        errno.EINVAL: "this kernel does not know what was asked, or the object is damaged",
        errno.EOPNOTSUPP: "this driver or file system cannot do it",
    }
    return cures.get(number, "see the log for libbpf's own words")


def _capable() -> bool:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            effective = int(line.split()[1], 16)
            return bool(effective >> _CAP_SYS_ADMIN & 1 or effective >> _CAP_BPF & 1)
    return False
