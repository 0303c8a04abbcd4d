"""What is known about a lab between two commands: one small file for each lab below
/run/telamon-lab, written atomically, changed only under the lab's lock.

The record names processes and wishes (which hosts are off, what is cut). Whatever the kernel can
tell is asked from the kernel. A record whose keeper has ended is a leftover of a lab that is gone.
"""

import fcntl
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from telamon.errors import InvalidError, NotFoundError, RefusedError
from telamon.lab.network import Direction
from telamon.lab.process import Process

LABS = Path("/run/telamon-lab")
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")

Cut = tuple[str, str, Direction]  # host, network, one direction


@dataclass(frozen=True, slots=True)
class Record:
    """One lab. A host without a process is off; `lab_file` is the text of its lab.yaml."""

    lab_file: str
    keeper: Process
    is_ready: bool
    hosts: Mapping[str, Process | None]
    cuts: frozenset[Cut]


def directory(name: str) -> Path:
    """Where the record, the tmpfs of images and the hosts' logs of a lab are."""
    if not _NAME.fullmatch(name):
        raise InvalidError(
            f"{name!r} cannot be the name of a lab: use small letters, digits and inner hyphens,"
            " at most 32"
        )
    return LABS / name


def names() -> list[str]:
    """Every lab that left a record, alive or not."""
    return sorted(entry.name for entry in LABS.iterdir()) if LABS.is_dir() else []


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Holds the lab for one change; another command waits. Makes the lab's directory."""
    while True:
        descriptor = _opened(directory(name))
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_still(descriptor, directory(name)):
                yield
                return
        finally:
            os.close(descriptor)


def _opened(place: Path) -> int:
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError as error:
        raise RefusedError(
            "a lab is made of namespaces, mounts and loop devices, which only root may make: run"
            " this command as root"
        ) from error


def load(name: str) -> Record:
    """The record of a lab; NotFoundError if there is none."""
    try:
        stored = json.loads((directory(name) / "record.json").read_text())
    except FileNotFoundError:
        raise NotFoundError(
            f"there is no lab called {name}: make it with `telamon lab up --name {name}`"
        ) from None
    return Record(
        lab_file=stored["lab_file"],
        keeper=Process(*stored["keeper"]),
        is_ready=stored["is_ready"],
        hosts={host: Process(*one) if one else None for host, one in stored["hosts"].items()},
        cuts=frozenset((host, network, Direction(one)) for host, network, one in stored["cuts"]),
    )


def save(name: str, record: Record) -> None:
    """Replaces the record."""
    stored = {
        "lab_file": record.lab_file,
        "keeper": _pair(record.keeper),
        "is_ready": record.is_ready,
        "hosts": {host: _pair(one) if one else None for host, one in record.hosts.items()},
        "cuts": sorted(record.cuts),
    }
    with tempfile.NamedTemporaryFile("w", dir=directory(name), delete=False) as file:
        json.dump(stored, file)
    Path(file.name).rename(directory(name) / "record.json")


def clear(name: str) -> None:
    """Empties the directory of a lab that is gone."""
    for entry in directory(name).iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def remove(name: str) -> None:
    """Removes the directory of a lab that is gone, and the directory of labs with the last one."""
    shutil.rmtree(directory(name), ignore_errors=True)
    with suppress(OSError):
        LABS.rmdir()


def _pair(process: Process) -> list[int]:
    return [process.id, process.started_ticks]


def _is_still(descriptor: int, path: Path) -> bool:
    """False if the directory was removed, and perhaps made again, while we waited for its lock."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False
