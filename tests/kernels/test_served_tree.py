"""A small tree is served on this kernel, on ext4 and on xfs: with passthrough where the kernel has
it, else by relay, and with the capture that suits the file system. The copy is equal afterwards.

On the machine's own kernel it runs like any other test; tests/kernels/run takes it into guests.
"""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.bpf.conftest import PASSTHROUGH_SINCE, kernel_version, mounted, run
from tests.fs.served import BINARY, Options, ServedDirectory

from telamon.bpf.capture import BackEnd, CaptureSet

IMAGE_BYTES = 400 << 20
LIMIT_S = 300

WORK = """
cp -a /usr/share/perl5/Debian . 2>/dev/null || cp -a /usr/share/doc/bash .
git init -q repository; cd repository; git config user.email a@b; git config user.name a
cp -a /etc/init.d . ; git add .; git commit -qm one; git gc -q; git fsck; cd ..
dd if=/dev/urandom of=plain bs=64K count=20 status=none
dd if=/dev/urandom of=direct bs=64K count=20 oflag=direct status=none
dd if=/dev/urandom of=synchronous bs=8K count=10 oflag=dsync status=none
truncate -s 1G sparse; dd if=plain of=sparse bs=4096 seek=1000 count=30 conv=notrunc status=none
fallocate --punch-hole --offset 64K --length 128K plain
ln plain linked; ln -s nowhere dangling; mkfifo fifo; mv direct renamed; rm synchronous
setfattr -n user.colour -v red linked; setfacl -m u:1:rwx renamed
python3 -c '
import mmap
f = open("mapped", "w+b"); f.truncate(1 << 20); m = mmap.mmap(f.fileno(), 0)
for at in range(0, 1 << 20, 40000): m[at : at + 5] = b"hello"
m.flush()
'
sync mapped plain
"""


@dataclass(frozen=True, slots=True)
class Ground:
    """A directory on a file system of its own, and where the capture of it is pinned."""

    base: Path
    captured: BackEnd
    pins: Path | None


def has_passthrough() -> bool:
    """Whether this kernel's FUSE has it. One that has not also lacks tracepoints of the capture,
    which has nothing to see there: every write comes to the replicator.
    """
    return kernel_version() >= PASSTHROUGH_SINCE


def admits_fexit() -> bool:
    """This kernel may be configured to refuse it; the guests' kernels are not."""
    return has_passthrough() and b"guest-kernel" in Path("/proc/cmdline").read_bytes()


@pytest.fixture(params=["ext4", "xfs"])
def ground(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ground]:
    with mounted(tmp_path / "memory", "-t", "tmpfs", "tmpfs") as memory:
        with (memory / "image").open("wb") as image:
            image.truncate(IMAGE_BYTES)
        run(f"mkfs.{request.param}", "-q", memory / "image")
        with (
            mounted(tmp_path / "disk", "-o", "loop", memory / "image") as disk,
            mounted(tmp_path / "bpffs", "-t", "bpf", "bpf") as root,
        ):
            (root / "telamon").mkdir()
            capture = CaptureSet("double", root / "telamon")
            loaded = capture.ensure([disk])
            try:
                yield Ground(disk, loaded.back_end, loaded.pins)
            finally:
                capture.remove()


def expected_mode(ground: Ground) -> str:
    return "Passthrough" if has_passthrough() and ground.pins is not None else "Relay"


def test_a_tree_is_served_and_copied(ground: Ground) -> None:
    assert BINARY.exists(), "build it: cargo build --release --example serve"
    is_ext4 = ground.captured is BackEnd.TP_BTF
    assert is_ext4 or ground.captured is (BackEnd.FEXIT if admits_fexit() else BackEnd.RELAY)
    served = ServedDirectory(ground.base, Options(capture=ground.pins))
    try:
        assert served.status()["directories"] == [expected_mode(ground)]
        subprocess.run(["bash", "-ec", WORK], cwd=served.path, check=True, timeout=LIMIT_S)
        served.assert_settled_and_equal()
        served.stop()
        assert served.differences() == []
    finally:
        served.remove()
