"""The write capture of one mirror module: the back end that sees its directories, loaded, pinned.

Invariant: the pins of a module are complete exactly when their seal, an empty directory named after
back end and object, exists; it is made last and removed first. So a loader that dies midway leaves
nothing that anyone adopts. Sealed pins are adopted as they are, because a replicator may be serving
on them: an object from a newer build takes their place only after `remove`.

Contract of names and layouts: ebpf/capture.h. Does not read the ring; the replicator does.
"""

import hashlib
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from telamon.bpf import bpffs
from telamon.bpf.handle import remove_directory, unpin
from telamon.bpf.link import Link, attach_tracing
from telamon.bpf.location import object_path
from telamon.bpf.map import Map
from telamon.bpf.object import BpfObject
from telamon.bpf.program import Program
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
        self._pins = pins / module
        self._ring_bytes = ring_bytes
        self._watched_inodes = watched_inodes

    def ensure(self, directories: Sequence[Path]) -> Capture:
        """Adopts the module's sealed pins, else loads the best back end that this kernel admits for
        the file systems of all `directories`. Raises RefusedError if sealed pins do not fit.
        """
        sealed = self._sealed()
        if sealed is not None:
            self._check(sealed)
            return Capture(sealed, self._pins)
        self.remove()
        refusals: list[str] = []
        try:
            bpffs.ensure_mounted(self._pins.parents[1])
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
                    return Capture(back_end, self._pins)
        reason = " / ".join(refusal.splitlines()[0] for refusal in refusals)
        _log.warning("capture of %s falls back to relay: %s", self._pins.name, reason)
        return Capture(BackEnd.RELAY, None, reason)

    def remove(self) -> None:
        """Removes every pin; harmless when there is none. The kernel detaches the programs a moment
        later.
        """
        if not self._pins.is_dir():
            return
        for seal in self._seals():
            remove_directory(seal)
        for prefix in ("link_", "prog_", ""):
            for pin in self._pins.glob(f"{prefix}*"):
                unpin(pin)
        remove_directory(self._pins)

    def recursion_misses(self) -> int:
        """Events that the kernel skipped without a trace in the ring; see capture.h, Loss."""
        total = 0
        for path in self._pins.glob("prog_*"):
            with Program.open_pin(path) as program:
                total += program.recursion_misses()
        return total

    def _load(self, back_end: BackEnd) -> None:
        path = object_path(_OBJECTS[back_end])
        self._pins.mkdir(mode=0o700, parents=True)
        with BpfObject(path) as compiled:
            compiled.resize_map("events", self._ring_bytes)
            compiled.resize_map("watched", self._watched_inodes)
            compiled.set_constant("page_shift", os.sysconf("SC_PAGE_SIZE").bit_length() - 1)
            compiled.load()
            for name in _LAYOUT:
                with compiled.map(name) as found:
                    found.pin(self._pins / name)
            for name in compiled.program_names():
                with compiled.program(name) as program:
                    program.pin(self._pins / f"prog_{name}")
                    if name != _CLAIM:
                        with attach_tracing(program) as link:
                            link.pin(self._pins / f"link_{name}")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        (self._pins / f"sealed_{back_end}_{digest}").mkdir()
        _log.info("capture of %s: %s, pinned at %s", self._pins.name, back_end, self._pins)

    def _seals(self) -> list[Path]:
        return list(self._pins.glob("sealed_*"))

    def _sealed(self) -> BackEnd | None:
        for seal in self._seals():
            return BackEnd(seal.name.removeprefix("sealed_").rpartition("_")[0])
        return None

    def _check(self, back_end: BackEnd) -> None:
        for name, (key_bytes, value_bytes) in _LAYOUT.items():
            with Map.open_pin(self._pins / name) as found:
                if (found.key_bytes, found.value_bytes) != (key_bytes, value_bytes):
                    raise RefusedError(
                        f"the capture pinned at {self._pins} has another version's layout of "
                        f"{name}: stop the module, remove that directory, and start it again"
                    )
        programs = {path.name.removeprefix("prog_") for path in self._pins.glob("prog_*")}
        links = {path.name.removeprefix("link_") for path in self._pins.glob("link_*")}
        if not links or links != programs - {_CLAIM}:
            raise RefusedError(
                f"the {back_end} capture pinned at {self._pins} has lost programs "
                f"({', '.join(sorted(programs ^ links)) or 'all'}): stop the module, remove that "
                "directory, and start it again"
            )
        for path in self._pins.glob("link_*"):
            Link.open_pin(path).close()


def suitable(directories: Sequence[Path]) -> tuple[BackEnd, ...]:
    """The back ends that can see all these directories' file systems, best first."""
    if {file_system(directory) for directory in directories} <= {"ext4"}:
        return (BackEnd.TP_BTF, BackEnd.FEXIT)
    return (BackEnd.FEXIT,)


def file_system(directory: Path) -> str:
    """The type of the file system that holds `directory`, as in /proc/self/mountinfo."""
    device = directory.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        if fields.split()[2] == wanted:
            return rest.split()[0]
    return "unknown"
