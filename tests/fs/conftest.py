"""A loop ext4 on tmpfs, the capture loaded, directories served on it and plain ones beside."""

import itertools
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.fs.served import REPOSITORY, Options, ServedDirectory

from telamon.bpf.capture import BackEnd, CaptureSet

IMAGE_BYTES = 6 << 30

Serve = Callable[..., ServedDirectory]


def run(*command: str | Path) -> None:
    subprocess.run([str(word) for word in command], check=True, timeout=600)


@pytest.fixture(scope="session", autouse=True)
def _harness() -> None:
    run(
        "cargo",
        "build",
        "--release",
        "--locked",
        "--quiet",
        "--example",
        "serve",
        "--manifest-path",
        REPOSITORY / "Cargo.toml",
    )


@pytest.fixture(scope="session")
def base() -> Iterator[Path]:
    """A directory that every user can reach, other than pytest's own."""
    with tempfile.TemporaryDirectory(prefix="telamon-fs-", dir="/var/tmp") as name:
        base = Path(name)
        base.chmod(0o755)
        yield base


@pytest.fixture(scope="session")
def ext4(base: Path) -> Iterator[Path]:
    memory, mounted = base / "memory", base / "mounted"
    memory.mkdir()
    mounted.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=6G", "tmpfs", memory)
    try:
        image = memory / "image"
        with image.open("wb") as file:
            file.truncate(IMAGE_BYTES)
        run("mkfs.ext4", "-q", "-F", "-m", "0", image)
        run("mount", "-o", "loop", image, mounted)
        mounted.chmod(0o755)
        try:
            yield mounted
        finally:
            run("umount", "-l", mounted)
    finally:
        run("umount", "-l", memory)


@pytest.fixture(scope="session")
def pins(ext4: Path, base: Path) -> Iterator[Path]:
    """The capture's pins, on a bpffs that nobody else uses."""
    root = base / "bpffs"
    root.mkdir()
    run("mount", "-t", "bpf", "bpf", root)
    try:
        place = root / "telamon"
        place.mkdir()
        capture = CaptureSet("double", place)
        loaded = capture.ensure([ext4])
        assert loaded.back_end is BackEnd.TP_BTF, loaded.reason
        try:
            yield place / "double"
        finally:
            capture.remove()
    finally:
        run("umount", root)


@pytest.fixture(params=["passthrough", "relay"])
def capture(request: pytest.FixtureRequest) -> Path | None:
    """Every test that uses it runs with passthrough and capture, and with relay."""
    if request.param == "relay":
        return None
    pinned: Path = request.getfixturevalue("pins")
    return pinned


@pytest.fixture
def ground(ext4: Path) -> Path:
    """A fresh directory on the ext4."""
    for number in itertools.count():
        ground = ext4 / f"ground{number}"
        if not ground.exists():
            ground.mkdir(mode=0o755)
            return ground
    raise AssertionError


@pytest.fixture
def serve(ground: Path, capture: Path | None) -> Iterator[Serve]:
    """Serves a directory below the ground, with the options given, until the test ends."""
    served: list[ServedDirectory] = []

    def start(count: int = 1, **options: object) -> ServedDirectory:
        base = ground / f"service{len(served)}"
        base.mkdir(mode=0o755)
        one = ServedDirectory(base, Options(capture=capture, **options), count)  # type: ignore[arg-type]
        served.append(one)
        return one

    try:
        yield start
    finally:
        for one in served:
            one.remove()


@pytest.fixture
def served(serve: Serve) -> ServedDirectory:
    """One directory with the default options."""
    return serve()
