"""A fault of a configuration file: where it is, what is wrong, and what would be right."""

from collections.abc import Iterable
from dataclasses import dataclass

from telamon.errors import InvalidError

Location = tuple[str | int, ...]
"""Keys and list positions from the top of a document to one of its values."""


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One fault; `line` counts from 1, 0 means the file as a whole."""

    file: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}" if self.line else self.file_only()

    def file_only(self) -> str:
        """The fault without a line."""
        return f"{self.file}: {self.message}"


@dataclass(frozen=True, slots=True)
class Finding:
    """A broken relation between values. `locations` are all values it depends on; the first one is
    where the fault is shown."""

    locations: tuple[Location, ...]
    message: str


def shown(location: Location) -> str:
    """A location as people write it: `replicate.directories[0].path`."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def refuse(faults: Iterable[Fault]) -> InvalidError:
    """The error that carries every fault."""
    ordered = sorted(faults)
    files = sorted({fault.file for fault in ordered})
    count = "1 fault" if len(ordered) == 1 else f"{len(ordered)} faults"
    return InvalidError(
        f"{', '.join(files)}: {count}; correct the configuration and run `telamon config check`",
        tuple(str(fault) for fault in ordered),
    )
