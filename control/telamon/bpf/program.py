"""A loaded program: running it by hand (BPF_PROG_TEST_RUN) and what the kernel tells about it."""

import ctypes
from dataclasses import dataclass

from telamon.bpf import library
from telamon.bpf.handle import Handle

_BPF_PROG_TYPE_XDP = 6
_INSTRUCTION_BYTES = 8

# A program may grow a packet by its headroom; XDP's is 256 bytes.
_OUTPUT_SLACK_BYTES = 512


class _TestRunOptions(ctypes.Structure):
    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("data_in", ctypes.c_void_p),
        ("data_out", ctypes.c_void_p),
        ("data_size_in", ctypes.c_uint32),
        ("data_size_out", ctypes.c_uint32),
        ("ctx_in", ctypes.c_void_p),
        ("ctx_out", ctypes.c_void_p),
        ("ctx_size_in", ctypes.c_uint32),
        ("ctx_size_out", ctypes.c_uint32),
        ("retval", ctypes.c_uint32),
        ("repeat", ctypes.c_int),
        ("duration", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("cpu", ctypes.c_uint32),
        ("batch_size", ctypes.c_uint32),
    )


class _ProgramInfo(ctypes.Structure):
    """The head of struct bpf_prog_info (linux/bpf.h), as far as we read it."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("tag", ctypes.c_uint8 * 8),
        ("skipped", ctypes.c_uint8 * 176),
        ("run_time_ns", ctypes.c_uint64),
        ("run_count", ctypes.c_uint64),
        ("recursion_misses", ctypes.c_uint64),
    )


@dataclass(frozen=True, slots=True)
class TestRun:
    """What one BPF_PROG_TEST_RUN returned; `duration_ns` is the mean over its repetitions."""

    # pytest would take the name for a test class.
    __test__ = False

    verdict: int
    data: bytes
    duration_ns: int


class Program(Handle):
    """A held program."""

    def test_run(self, data: bytes | None = None, repeat: int = 1) -> TestRun:
        """Runs the program on a packet, or without any for a `syscall` program."""
        options = _TestRunOptions(sz=ctypes.sizeof(_TestRunOptions))
        output = ctypes.create_string_buffer(len(data or b"") + _OUTPUT_SLACK_BYTES)
        given = ctypes.create_string_buffer(data, len(data)) if data is not None else None
        if given is not None:
            options.data_in = ctypes.addressof(given)
            options.data_size_in = len(given)
            options.data_out = ctypes.addressof(output)
            options.data_size_out = len(output)
            options.repeat = repeat
        library.call(
            "bpf_prog_test_run_opts",
            self.fileno(),
            ctypes.byref(options),
            attempt=f"running {self.label}",
        )
        return TestRun(options.retval, output.raw[: options.data_size_out], options.duration)

    def recursion_misses(self) -> int:
        """How often the kernel skipped the program, a run of it being suspended on that CPU."""
        info = _ProgramInfo()
        size = ctypes.c_uint32(ctypes.sizeof(info))
        library.call(
            "bpf_obj_get_info_by_fd",
            self.fileno(),
            ctypes.byref(info),
            ctypes.byref(size),
            attempt=f"asking about {self.label}",
        )
        return int(info.recursion_misses)


def assemble_xdp(name: str, instructions: bytes) -> Program:
    """An XDP program from its instructions: for probes and measurements of a few of them."""
    descriptor = library.call(
        "bpf_prog_load",
        _BPF_PROG_TYPE_XDP,
        name.encode(),
        b"GPL",
        instructions,
        len(instructions) // _INSTRUCTION_BYTES,
        None,
        attempt=f"loading {name}",
    )
    return Program(descriptor, name)
