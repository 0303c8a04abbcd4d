"""The measuring program: runs inside a host, does one kind of work on request, answers with times.

Standard input has a line for each request, `KIND COUNT`; the answer is one line of JSON. Every kind
works in the directory given as argument. Only the standard library, so that it starts fast.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns

BLOCK_BYTES = 8192
SLOTS = 1024
LARGE_BYTES = 1 << 20
LARGE_COUNT = 64
SMALL_BYTES = 4096

Times = list[int]  # nanoseconds, one for each operation


class Probe:
    """The files that the measurements work on."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._database = self._filled("database", SLOTS * BLOCK_BYTES)
        self._large = self._filled("large", LARGE_COUNT * LARGE_BYTES)
        self._next = 0
        (directory / "names").mkdir(exist_ok=True)

    def _filled(self, name: str, size_bytes: int) -> int:
        """A file whose blocks are all written, so that overwriting it changes no metadata."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(self._directory / name, flags, 0o600)
        for offset in range(0, size_bytes, LARGE_BYTES):
            os.pwrite(descriptor, os.urandom(LARGE_BYTES), offset)
        os.fsync(descriptor)
        return descriptor

    def commit(self, count: int) -> Times:
        """8 KiB written over old content, then fdatasync: what a database does for a commit."""
        content = os.urandom(BLOCK_BYTES)

        def one() -> None:
            self._next = (self._next + 7) % SLOTS
            os.pwrite(self._database, content, self._next * BLOCK_BYTES)
            os.fdatasync(self._database)

        return [_elapsed(one) for _ in range(count)]

    def write_large(self, count: int) -> Times:
        """1 MiB written over old content, into the page cache; flushed afterwards, not timed."""
        content = os.urandom(LARGE_BYTES)
        times = [
            _elapsed(os.pwrite, self._large, content, n % LARGE_COUNT * LARGE_BYTES)
            for n in range(count)
        ]
        os.fdatasync(self._large)
        return times

    def write_small(self, count: int) -> Times:
        """4 KiB written over old content at scattered places, into the page cache."""
        content = os.urandom(SMALL_BYTES)
        places = LARGE_COUNT * LARGE_BYTES // SMALL_BYTES
        times = [
            _elapsed(os.pwrite, self._large, content, n * 7919 % places * SMALL_BYTES)
            for n in range(count)
        ]
        os.fdatasync(self._large)
        return times

    def read_large(self, count: int) -> Times:
        """1 MiB read from the page cache."""
        return [
            _elapsed(os.pread, self._large, LARGE_BYTES, n % LARGE_COUNT * LARGE_BYTES)
            for n in range(count)
        ]

    def create(self, count: int) -> Times:
        """A new file of 4 KiB: open, write, close."""
        content = os.urandom(SMALL_BYTES)
        return self._each_name(count, lambda path: path.write_bytes(content))

    def read_whole(self, count: int) -> Times:
        """Open, read 4 KiB, close."""
        return self._each_name(count, Path.read_bytes)

    def status(self, count: int) -> Times:
        """lstat of a name."""
        return self._each_name(count, Path.lstat)

    def rename(self, count: int) -> Times:
        """Rename within a directory, there and back."""
        away = self._each_name(count, lambda path: path.rename(path.with_suffix(".away")))
        back = self._each_name(count, lambda path: path.with_suffix(".away").rename(path))
        return [*away, *back]

    def unlink(self, count: int) -> Times:
        """Removal of a name."""
        return self._each_name(count, Path.unlink)

    def _each_name(self, count: int, operation: Callable[[Path], object]) -> Times:
        paths = [self._directory / "names" / f"{number:06}" for number in range(count)]
        return [_elapsed(operation, path) for path in paths]


def _elapsed(operation: Callable[..., object], *arguments: object) -> int:
    began = perf_counter_ns()
    operation(*arguments)
    return perf_counter_ns() - began


def main() -> None:
    """Answers requests until standard input ends."""
    probe = Probe(Path(sys.argv[1]))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        kind, count = line.split()
        json.dump(getattr(probe, kind)(int(count)), sys.stdout)
        sys.stdout.write("\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
