"""What a host sees as its file system.

The root is a small tmpfs that shows the machine's directories, except where a host must differ:
/proc, /sys, /run, /var/log and /dev/shm are its own, and /etc/telamon, /var/lib/telamon and
the data directories lie on the host's own disk, an ext4 that is also visible as a whole at /disk.
What is mounted over a data directory (the replicated view, the fence) does not hide the same
directory below /disk. /tmp is the machine's: scripts hand files to a host and take its results
there.

Runs inside the host's new mount namespace; the machine's own tree is never changed, not even where
a data directory does not exist on the machine.
"""

import os
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path

from telamon.lab import kernel

DISK = Path("/disk")
CONFIGURATION = Path("/etc/telamon")
STATE = Path("/var/lib/telamon")
_OWN = frozenset({"proc", "sys", "run", "disk", "lost+found"})
_SPARE = ".spare"  # a mount point for the time of building


def make_image(image: Path, disk_bytes: int) -> None:
    """An empty ext4 in a sparse file. Metadata tables are left for the kernel to fill in when used:
    the file is new and reads as zeroes.
    """
    with image.open("xb") as file:
        file.truncate(disk_bytes)
    lazy = "lazy_itable_init=1,lazy_journal_init=1,nodiscard"
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", "-E", lazy, image], check=True)


def move_in(root: Path, image: Path, directories: Sequence[Path], hosts_file: str) -> None:
    """Builds the view at the empty directory `root` and makes it this process's root."""
    kernel.mount("telamon-host", root, "tmpfs", options="mode=0755")
    _show_machine(root)
    _make_own(root)
    disk = root / DISK.relative_to("/")
    disk.mkdir()
    # mount(8) finds a free loop device and ties its life to the mount; `discard` gives the memory
    # of removed files back.
    subprocess.run(["mount", "-t", "ext4", "-o", "loop,discard", image, disk], check=True)
    own_devices = {root.stat().st_dev, (root / "run").stat().st_dev, disk.stat().st_dev}
    for directory in (CONFIGURATION, STATE, *directories):
        _put_on_disk(root, disk, directory, own_devices)
    _cover(root, root / "var/log")
    if (root / "etc" / "hosts").exists():
        (root / "run" / "hosts").write_text(hosts_file)
        kernel.bind(root / "run" / "hosts", root / "etc" / "hosts")
    kernel.pivot_root(root, root / _SPARE)
    kernel.detach(f"/{_SPARE}")
    Path("/", _SPARE).rmdir()


def _show_machine(root: Path) -> None:
    for entry in Path("/").iterdir():
        place = root / entry.name
        if entry.name in _OWN:
            continue
        if entry.is_symlink():
            place.symlink_to(entry.readlink())
        elif entry.is_dir():
            place.mkdir()
            kernel.bind(entry, place)


def _make_own(root: Path) -> None:
    for name in ("proc", "sys", "run", _SPARE):
        (root / name).mkdir()
    kernel.mount("proc", root / "proc", "proc")
    kernel.mount("sysfs", root / "sys", "sysfs")
    kernel.mount("bpf", root / "sys/fs/bpf", "bpf", options="mode=0700")
    kernel.mount("fusectl", root / "sys/fs/fuse/connections", "fusectl")
    kernel.bind("/sys/fs/cgroup", root / "sys/fs/cgroup")
    kernel.mount("run", root / "run", "tmpfs", options="mode=0755")
    kernel.mount("shm", root / "dev/shm", "tmpfs", options="mode=1777")
    (root / "run" / "lock").mkdir()


def _put_on_disk(root: Path, disk: Path, directory: Path, own_devices: set[int]) -> None:
    """Mounts the disk's copy of `directory` over it, empty at first and owned as on the machine."""
    copy = disk / directory.relative_to("/")
    if not copy.exists():
        copy.mkdir(parents=True)
        if directory.is_dir():
            owner = directory.stat()
            os.chown(copy, owner.st_uid, owner.st_gid)
            copy.chmod(stat.S_IMODE(owner.st_mode))
    place = root / directory.relative_to("/")
    _make_place(root, place, own_devices)
    kernel.bind(copy, place)


def _make_place(root: Path, place: Path, own_devices: set[int]) -> None:
    """Makes the directory `place` exist without writing to the machine's file systems."""
    if place.is_dir():
        return
    _make_place(root, place.parent, own_devices)
    if place.parent.stat().st_dev not in own_devices:
        _cover(root, place.parent)
        own_devices.add(place.parent.stat().st_dev)
    place.mkdir()


def _cover(root: Path, directory: Path) -> None:
    """Lays an empty layer over `directory`: what it holds stays visible, what is written to it goes
    to memory and ends with the host.
    """
    layer = root / _SPARE
    kernel.mount("telamon-host", layer, "tmpfs", options="mode=0755")
    for name in ("upper", "work"):
        (layer / name).mkdir()
    shown = directory.stat()
    (layer / "upper").chmod(stat.S_IMODE(shown.st_mode))
    options = f"lowerdir={directory},upperdir={layer}/upper,workdir={layer}/work"
    kernel.mount("telamon-host", directory, "overlay", options=options)
    kernel.detach(layer)  # the overlay keeps it
