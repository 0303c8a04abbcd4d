"""Reading a ring buffer map: each element goes to a function, in order, once."""

import ctypes
import errno
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from telamon.bpf import library
from telamon.bpf.map import Map

_SAMPLE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


class RingReader:
    """The one consumer of a ring. Errors of `receive` surface from `consume` and `poll`."""

    def __init__(self, ring: Map, receive: Callable[[bytes], None]) -> None:
        self._receive = receive
        self._error: BaseException | None = None
        self._label = ring.label
        # ctypes would free the trampoline under the library's feet without this reference.
        self._sample = _SAMPLE(self._on_sample)
        self._reader = library.pointer(
            "ring_buffer__new",
            ring.fileno(),
            ctypes.cast(self._sample, ctypes.c_void_p),
            None,
            None,
            attempt=f"reading the ring {ring.label}",
        )

    def consume(self) -> int:
        """Takes what is there; returns how many elements."""
        return self._run("ring_buffer__consume", self._reader)

    def poll(self, timeout_ms: int) -> int:
        """Waits for the ring's wake-up, at most `timeout_ms`, and takes what is there."""
        deadline = time.monotonic() + timeout_ms / 1000
        while True:
            remaining_ms = max(0, round((deadline - time.monotonic()) * 1000))
            taken = self._run("ring_buffer__poll", self._reader, remaining_ms)
            if taken != -errno.EINTR:
                return taken

    def close(self) -> None:
        """Frees the reader; the ring itself goes on."""
        reader, self._reader = self._reader, 0
        if reader:
            library.load().ring_buffer__free(reader)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self, function: str, *arguments: int) -> int:
        taken = library.call(
            function,
            *arguments,
            attempt=f"reading the ring {self._label}",
            allowed=(errno.EINTR, errno.ECANCELED),
        )
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        return taken

    def _on_sample(self, _context: int | None, data: int, size_bytes: int) -> int:
        try:
            self._receive(ctypes.string_at(data, size_bytes))
        except BaseException as error:  # noqa: BLE001 (cannot cross C; raised again in _run)
            self._error = error
            return -errno.ECANCELED
        return 0
