"""The acknowledgement oracle for plain files: what fsync promised is there for ever after.

`write` is the application, on the primary. It keeps many registers, each with a version: slots of a
file (written in place, then fdatasync), and files of their own (written aside, fsync, renamed over
the old one, fsync of the directory; sometimes removed). It says to standard output what it is about
to do and then, once the file system acknowledged, that it is done. The output goes outside of the
host, which may lose its power at any moment.

`violations` reads that history and the directory. A register must have the version acknowledged
last, or one that was attempted after it.

    python -m telamon.lab.oracles.registers DIRECTORY SEED HISTORY_NUMBER >> HISTORY
"""

import os
import random
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

_SLOTS = 256
_SLOT_BYTES = 4096
_NAMES = 64
_ABSENT = 0


@dataclass(slots=True)
class _Register:
    """What is known of one register: the version acknowledged last, and those attempted since."""

    acknowledged: int = _ABSENT
    attempted: set[int] = field(default_factory=set)


def write(directory: Path, seed: int, first_version: int) -> None:
    """Changes registers for ever. Versions count up from `first_version` and are never reused."""
    chance = random.Random(seed)
    slots = os.open(directory / "slots", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    os.ftruncate(slots, _SLOTS * _SLOT_BYTES)
    os.fsync(slots)
    parent = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    os.fsync(parent)
    version = first_version
    while True:
        version += 1
        if chance.random() < 0.7:
            slot = chance.randrange(_SLOTS)
            _say(f"? slot:{slot} {version}")
            os.pwrite(slots, _content(version), slot * _SLOT_BYTES)
            os.fdatasync(slots)
            _say(f"! slot:{slot} {version}")
        else:
            name = f"file{chance.randrange(_NAMES)}"
            stored = _ABSENT if chance.random() < 0.2 else version
            _say(f"? name:{name} {stored}")
            _replace(directory, name, stored)
            os.fsync(parent)
            _say(f"! name:{name} {stored}")


def violations(history: Path, directory: Path) -> list[str]:
    """Every register that has neither the version promised last nor one attempted after it."""
    complete, _, _ = history.read_text().rpartition("\n")
    found = []
    for key, register in _registers(complete.splitlines()).items():
        version = _stored(directory, key)
        if version != register.acknowledged and version not in register.attempted:
            found.append(
                f"{key} has version {version}; acknowledged was {register.acknowledged},"
                f" attempted after that {sorted(register.attempted) or 'nothing'}"
            )
    return found


def promises(history: Path) -> int:
    """How many changes were acknowledged."""
    return history.read_text().count("!")


def _registers(history: Iterable[str]) -> dict[str, _Register]:
    registers: dict[str, _Register] = {}
    for line in history:
        mark, key, version = line.split()
        register = registers.setdefault(key, _Register())
        if mark == "?":
            register.attempted.add(int(version))
        else:
            register.acknowledged = int(version)
            register.attempted.clear()
    return registers


def _replace(directory: Path, name: str, version: int) -> None:
    if version == _ABSENT:
        with suppress(FileNotFoundError):
            (directory / name).unlink()
        return
    aside = directory / f".{name}.new"
    with aside.open("wb") as file:
        file.write(_content(version))
        file.flush()
        os.fsync(file.fileno())
    aside.rename(directory / name)


def _stored(directory: Path, key: str) -> int:
    kind, _, name = key.partition(":")
    try:
        if kind == "name":
            return _version((directory / name).read_bytes())
        with (directory / "slots").open("rb") as slots:
            slots.seek(int(name) * _SLOT_BYTES)
            return _version(slots.read(_SLOT_BYTES))
    except FileNotFoundError:
        return _ABSENT


def _content(version: int) -> bytes:
    """A whole slot, so that a torn one shows."""
    return version.to_bytes(8, "big") * (_SLOT_BYTES // 8)


def _version(content: bytes) -> int:
    """The version that fills the content; -1 for anything torn, never a version."""
    version = int.from_bytes(content[:8], "big")
    return version if content == _content(version) else -1


def _say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


if __name__ == "__main__":
    write(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
