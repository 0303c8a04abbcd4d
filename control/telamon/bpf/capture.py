"""The write capture of one mirror module: the back end that sees its directories, loaded, pinned.

Invariant: complete pins are adopted as they are, because a replicator may be serving on them; an
object from a newer build takes their place only after `remove`.

Contract of names and layouts: ebpf/capture.h. Does not read the ring; the replicator does.
"""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from telamon.bpf import bpffs
from telamon.bpf.link import attach_tracing
from telamon.bpf.location import object_path
from telamon.bpf.object import BpfObject
from telamon.bpf.program import Program
from telamon.bpf.sealed import SealedPins
from telamon.errors import BpfError, RefusedError

_log = logging.getLogger(__name__)

RING_BYTES = 8 << 20
WATCHED_INODES = 1 << 18

_LAYOUT = {
    "events": (0, 0),
    "watched": (16, 24),
    "drop_count": (4, 8),
    "settings": (4, 8),
}
_CLAIM = "claim"


class BackEnd(StrEnum):
    """How writes are seen, best first; RELAY means not at all, so all of them are relayed."""

    TP_BTF = "tp_btf"
    FEXIT = "fexit"
    RELAY = "relay"


_OBJECTS = {BackEnd.TP_BTF: "capture", BackEnd.FEXIT: "capture_fexit"}


@dataclass(frozen=True, slots=True)
class Capture:
    """What a module got: the directory of its pins, or None and the reason why it must relay."""

    back_end: BackEnd
    pins: Path | None
    reason: str = ""


class CaptureSet:
    """The pinned capture of one module on this node."""

    def __init__(
        self,
        module: str,
        pins: Path = bpffs.PINS,
        *,
        ring_bytes: int = RING_BYTES,
        watched_inodes: int = WATCHED_INODES,
    ) -> None:
        self._pins = SealedPins(pins / module)
        self._ring_bytes = ring_bytes
        self._watched_inodes = watched_inodes

    def ensure(self, directories: Sequence[Path]) -> Capture:
        """Adopts the module's pins if they are complete, else loads the best back end that this
        kernel admits for the file systems of all `directories`. Raises RefusedError if the pins
        do not fit.
        """
        loaded = self._pins.manner()
        if loaded is not None:
            self._check()
            return Capture(BackEnd(loaded), self._pins.path)
        self.remove()
        refusals: list[str] = []
        try:
            bpffs.ensure_mounted(self._pins.path.parents[1])
        except BpfError as error:
            refusals.append(str(error))
        else:
            for back_end in suitable(directories):
                try:
                    self._load(back_end)
                except BpfError as error:
                    self.remove()
                    refusals.append(f"{back_end}: {error}")
                else:
                    return Capture(back_end, self._pins.path)
        reason = " / ".join(refusal.splitlines()[0] for refusal in refusals)
        _log.warning("capture of %s falls back to relay: %s", self._pins.path.name, reason)
        return Capture(BackEnd.RELAY, None, reason)

    def remove(self) -> None:
        """Ends the capture; harmless when there is none."""
        self._pins.remove()

    def recursion_misses(self) -> int:
        """Events that the kernel skipped without a trace in the ring; see capture.h, Loss."""
        total = 0
        for path in self._pins.path.glob("prog_*"):
            with Program.open_pin(path) as program:
                total += program.recursion_misses()
        return total

    def _load(self, back_end: BackEnd) -> None:
        path = object_path(_OBJECTS[back_end])
        pins = self._pins.path
        pins.mkdir(mode=0o700, parents=True)
        with BpfObject(path) as compiled:
            compiled.resize_map("events", self._ring_bytes)
            compiled.resize_map("watched", self._watched_inodes)
            compiled.set_constant("page_shift", os.sysconf("SC_PAGE_SIZE").bit_length() - 1)
            compiled.load()
            for name in _LAYOUT:
                with compiled.map(name) as found:
                    found.pin(pins / name)
            for name in compiled.program_names():
                with compiled.program(name) as program:
                    program.pin(pins / f"prog_{name}")
                    if name != _CLAIM:
                        with attach_tracing(program) as link:
                            link.pin(pins / f"link_{name}")
        self._pins.seal(back_end, path)
        _log.info("capture of %s: %s, pinned at %s", pins.name, back_end, pins)

    def _check(self) -> None:
        for name, (key_bytes, value_bytes) in _LAYOUT.items():
            self._pins.check_map(name, key_bytes, value_bytes)
        programs = self._pins.names("prog_") - {_CLAIM}
        missing = programs ^ self._pins.names("link_")
        if missing or not programs:
            raise RefusedError(
                f"the capture pinned at {self._pins.path} has lost programs "
                f"({', '.join(sorted(missing)) or 'all'}): stop the module, remove that directory "
                "with all it holds, and start it again"
            )


def suitable(directories: Sequence[Path]) -> tuple[BackEnd, ...]:
    """The back ends that can see all these directories' file systems, best first."""
    if {file_system(directory) for directory in directories} <= {"ext4"}:
        return (BackEnd.TP_BTF, BackEnd.FEXIT)
    return (BackEnd.FEXIT,)


def file_system(directory: Path) -> str:
    """The type of the file system that holds `directory`, as in /proc/self/mountinfo."""
    device = directory.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}".encode()
    # As bytes, and by the one separator: somebody's mount may have any name.
    for line in Path("/proc/self/mountinfo").read_bytes().split(b"\n"):
        fields, _, rest = line.partition(b" - ")
        if fields.split(b" ")[2:3] == [wanted]:
            return os.fsdecode(rest.split(b" ")[0])
    return "unknown"
