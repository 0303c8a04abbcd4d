"""A loop ext4 on tmpfs, a bpffs of our own, and the capture loaded into it."""

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.bpf.watcher import Watcher

from telamon.bpf.capture import BackEnd, CaptureSet

IMAGE_BYTES = 512 << 20
PASSTHROUGH_SINCE = (6, 9)


def kernel_version() -> tuple[int, int]:
    """The first two numbers of the running kernel's release."""
    numbers = re.match(r"(\d+)\.(\d+)", os.uname().release)
    assert numbers is not None
    return int(numbers[1]), int(numbers[2])


def run(*command: str | Path) -> None:
    subprocess.run([str(word) for word in command], check=True, timeout=60)


@contextmanager
def mounted(at: Path, *arguments: str | Path) -> Iterator[Path]:
    """Mounts at a directory of its own; `arguments` are those of mount(8) before it."""
    at.mkdir()
    run("mount", *arguments, at)
    try:
        yield at
    finally:
        run("umount", at)


@pytest.fixture(scope="session")
def ext4(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    base = tmp_path_factory.mktemp("ext4")
    with mounted(base / "memory", "-t", "tmpfs", "-o", "size=640M", "tmpfs") as memory:
        image = memory / "image"
        with image.open("wb") as file:
            file.truncate(IMAGE_BYTES)
        run("mkfs.ext4", "-q", "-F", image)
        with mounted(base / "disk", "-o", "loop", image) as disk:
            yield disk


@pytest.fixture(scope="session")
def pins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The place of the modules' pins, on a bpffs that nobody else uses."""
    with mounted(tmp_path_factory.mktemp("bpffs") / "fs", "-t", "bpf", "bpf") as root:
        place = root / "telamon"
        place.mkdir()
        yield place


@pytest.fixture(scope="module")
def watcher(ext4: Path, pins: Path) -> Iterator[Watcher]:
    """A loaded capture with a reader; each test watches files of its own."""
    capture = CaptureSet("writes", pins)
    loaded = capture.ensure([ext4])
    assert loaded.back_end is BackEnd.TP_BTF, loaded.reason
    try:
        with Watcher(pins / "writes") as reader:
            yield reader
    finally:
        capture.remove()


@pytest.fixture(scope="session")
def asynchronous_writer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled asynchronous_writer.c."""
    binary = tmp_path_factory.mktemp("build") / "asynchronous_writer"
    source = Path(__file__).with_name("asynchronous_writer.c")
    run("gcc", "-O1", "-Wall", "-Werror", "-o", binary, source)
    return binary
