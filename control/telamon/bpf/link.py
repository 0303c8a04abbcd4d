"""An attachment of a program to its hook. While the link lives, the program runs; the link lives
while a descriptor or a pin holds it.
"""

import ctypes
from enum import IntFlag

from telamon.bpf import library
from telamon.bpf.handle import Handle

_BPF_XDP = 37


class XdpMode(IntFlag):
    """How an XDP program sits on its interface (XDP_FLAGS_* of linux/if_link.h)."""

    GENERIC = 1 << 1
    NATIVE = 1 << 2


class _LinkCreateOptions(ctypes.Structure):
    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("flags", ctypes.c_uint32),
        ("iter_info", ctypes.c_void_p),
        ("iter_info_len", ctypes.c_uint32),
        ("target_btf_id", ctypes.c_uint32),
        ("rest", ctypes.c_uint64 * 4),
    )


class Link(Handle):
    """A held attachment."""

    def update(self, program: Handle) -> None:
        """Puts another program in the place of the present one, without a gap."""
        library.call(
            "bpf_link_update",
            self.fileno(),
            program.fileno(),
            None,
            attempt=f"replacing the program of {self.label} by {program.label}",
        )

    def detach(self) -> None:
        """Ends the attachment, also for everyone else who holds the link."""
        library.call("bpf_link_detach", self.fileno(), attempt=f"detaching {self.label}")


def attach_tracing(program: Handle) -> Link:
    """Attaches a tp_btf, fentry or fexit program to the hook that its section names."""
    descriptor = library.call(
        "bpf_raw_tracepoint_open", None, program.fileno(), attempt=f"attaching {program.label}"
    )
    return Link(descriptor, program.label)


def attach_xdp(program: Handle, interface_index: int, mode: XdpMode) -> Link:
    """Attaches an XDP program to an interface of the calling thread's network namespace."""
    options = _LinkCreateOptions(sz=ctypes.sizeof(_LinkCreateOptions), flags=int(mode))
    descriptor = library.call(
        "bpf_link_create",
        program.fileno(),
        interface_index,
        _BPF_XDP,
        ctypes.byref(options),
        attempt=f"attaching {program.label} to interface {interface_index} ({mode.name} XDP)",
    )
    return Link(descriptor, program.label)
