"""A directory of pins that is either complete or nothing.

Invariant: the pins are complete exactly when their seal exists, an empty directory named after how
they were loaded and from which object. It is made last and removed first. So a loader that dies
midway leaves nothing that anyone adopts, and what is sealed may be in use.
"""

import hashlib
from pathlib import Path

from telamon.bpf.handle import remove_directory, unpin
from telamon.bpf.map import Map
from telamon.errors import RefusedError

_PREFIX = "sealed_"


class SealedPins:
    """One such directory, whether or not it exists."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def seal(self, manner: str, compiled: Path) -> None:
        """Declares the pins complete: loaded in this manner from this object file."""
        digest = hashlib.sha256(compiled.read_bytes()).hexdigest()[:16]
        (self.path / f"{_PREFIX}{manner}_{digest}").mkdir()

    def manner(self) -> str | None:
        """How the pins were loaded, or None if they are not complete."""
        for seal in self.path.glob(f"{_PREFIX}*"):
            return seal.name.removeprefix(_PREFIX).rpartition("_")[0]
        return None

    def names(self, prefix: str) -> set[str]:
        """What is pinned under `prefix`NAME."""
        return {path.name.removeprefix(prefix) for path in self.path.glob(f"{prefix}*")}

    def open_map(self, name: str) -> Map:
        """A handle on a pinned map."""
        return Map.open_pin(self.path / name)

    def check_map(self, name: str, key_bytes: int, value_bytes: int) -> None:
        """Refuses a map of another version's layout."""
        with self.open_map(name) as found:
            if (found.key_bytes, found.value_bytes) != (key_bytes, value_bytes):
                raise RefusedError(
                    f"{self.path / name} has the layout of another version of Telamon: stop what "
                    f"uses it, remove {self.path} with all it holds, and start it again"
                )

    def remove(self) -> None:
        """Removes all pins and the directory; harmless when there is none. The kernel detaches the
        programs a moment later.
        """
        if not self.path.is_dir():
            return
        for seal in self.path.glob(f"{_PREFIX}*"):
            remove_directory(seal)
        for pattern in ("link*", "prog*", "*"):
            for pin in self.path.glob(pattern):
                unpin(pin)
        remove_directory(self.path)
