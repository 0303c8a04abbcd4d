"""The dual-tree oracle sees every kind of difference, and none in equal trees."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from telamon.lab.oracles.exclude import Excludes
from telamon.lab.oracles.tree import compare, describe

BLOCK_BYTES = 4096


def plant(root: Path) -> None:
    """A tree with every kind of object."""
    root.mkdir()
    (root / "plain").write_bytes(b"content" * 1000)
    (root / "directory").mkdir()
    (root / "directory" / "linked").hardlink_to(root / "plain")
    (root / "link").symlink_to("plain")
    os.mkfifo(root / "fifo")
    os.mknod(root / "device", 0o20600, os.makedev(1, 3))
    with (root / "sparse").open("wb") as file:
        file.seek(16 * BLOCK_BYTES)
        file.write(b"x" * BLOCK_BYTES)
        file.truncate(10 << 30)
    os.setxattr(root / "plain", "user.colour", b"red")
    subprocess.run(["setfacl", "-m", "u:1:r", root / "directory"], check=True)
    with open(os.fsencode(root) + b"/\xff\n name", "wb") as file:  # noqa: PTH123
        file.write(b"odd")


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path]:
    left, right = tmp_path / "left", tmp_path / "right"
    plant(left)
    subprocess.run(["cp", "--archive", "--sparse=always", left, right], check=True)
    assert compare(left, right) == []
    return left, right


def grow(root: Path) -> None:
    with (root / "plain").open("ab") as file:
        file.write(b"more")


def fill_hole(root: Path) -> None:
    with (root / "sparse").open("r+b") as file:
        file.write(b"\0" * BLOCK_BYTES)


def change_byte_far_out(root: Path) -> None:
    with (root / "sparse").open("r+b") as file:
        file.seek(16 * BLOCK_BYTES + 100)
        file.write(b"y")


def break_link(root: Path) -> None:
    (root / "directory" / "linked").unlink()
    shutil.copy2(root / "plain", root / "directory" / "linked")


def retarget(root: Path) -> None:
    (root / "link").unlink()
    (root / "link").symlink_to("elsewhere")


def replace_device(root: Path) -> None:
    (root / "device").unlink()
    os.mknod(root / "device", 0o20600, os.makedev(1, 5))


CHANGES: dict[str, Callable[[Path], object]] = {
    "size": grow,
    "data ranges": fill_hole,
    f"content at {16 * BLOCK_BYTES + 100}": change_byte_far_out,
    "linked with": break_link,
    "number of links": break_link,
    "target": retarget,
    "device": replace_device,
    "mode": lambda root: (root / "fifo").chmod(0o777),
    "owner": lambda root: os.chown(root / "directory", 1, 2),
    "mtime (ns)": lambda root: os.utime(root / "directory", ns=(0, 12345)),
    "xattr user.colour": lambda root: os.setxattr(root / "plain", "user.colour", b"blue"),
    "xattr user.more": lambda root: os.setxattr(root / "plain", "user.more", b""),
    "xattr system.posix_acl_access": lambda root: subprocess.run(
        ["setfacl", "-m", "u:2:r", root / "directory"], check=True
    ),
    "name": lambda root: (root / "fifo").unlink(),
}


@pytest.mark.parametrize("aspect", CHANGES)
def test_sees(aspect: str, trees: tuple[Path, Path]) -> None:
    left, right = trees
    CHANGES[aspect](right)
    found = compare(left, right)
    assert aspect in {difference.aspect for difference in found}, describe(found)


def test_sees_another_type(trees: tuple[Path, Path]) -> None:
    left, right = trees
    (right / "fifo").unlink()
    (right / "fifo").mkdir()
    assert "type" in {difference.aspect for difference in compare(left, right)}


def test_describes_names_that_are_not_text(trees: tuple[Path, Path]) -> None:
    left, right = trees
    os.unlink(os.fsencode(right) + b"/\xff\n name")  # noqa: PTH108
    (odd,) = [found for found in compare(left, right) if found.aspect == "name"]
    assert str(odd) == r"'\udcff\n name': name: present | missing"


@pytest.mark.parametrize(
    ("pattern", "path", "is_left_out"),
    [
        (b"postmaster.pid", b"postmaster.pid", True),
        (b"postmaster.pid", b"base/postmaster.pid", False),
        (b"**/postmaster.pid", b"base/postmaster.pid", True),
        (b"**/postmaster.pid", b"postmaster.pid", True),
        (b"pg_stat_tmp/**", b"pg_stat_tmp/a/b", True),
        (b"pg_stat_tmp/**", b"pg_stat_tmp", False),
        (b"*.log", b"a.log", True),
        (b"*.log", b"d/a.log", False),
        (b"?.log", b"ab.log", False),
        (b"a.b", b"axb", False),
    ],
)
def test_patterns(pattern: bytes, path: bytes, is_left_out: bool) -> None:
    assert Excludes.of([pattern]).leaves_out(path) is is_left_out


def test_left_out_names_may_differ_and_touch_their_directory(trees: tuple[Path, Path]) -> None:
    left, right = trees
    (right / "directory" / "temporary").write_text("here only")
    assert compare(left, right) != []
    assert compare(left, right, Excludes.of(["directory/**"])) == []


def reserve(trees: tuple[Path, Path]) -> None:
    for tree in trees:
        with (tree / "reserved").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, 64 * BLOCK_BYTES)


def differing_aspects(trees: tuple[Path, Path]) -> list[str]:
    for tree in trees:
        os.utime(tree / "reserved", ns=(1, 1))
    return [found.aspect for found in compare(*trees) if found.path == b"reserved"]


def write_zeroes(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.write(bytes(8 * BLOCK_BYTES))
        os.fsync(opened.fileno())


def test_what_was_reserved_and_then_read_or_zeroed_is_the_same(trees: tuple[Path, Path]) -> None:
    reserve(trees)
    left, right = trees
    (left / "reserved").read_bytes()
    assert differing_aspects(trees) == []
    write_zeroes(right / "reserved")
    assert differing_aspects(trees) == []


def test_zeroes_in_place_of_a_hole_differ_beside_a_reserved_range_too(
    trees: tuple[Path, Path],
) -> None:
    reserve(trees)
    left, right = trees
    os.truncate(left / "reserved", 0)
    os.truncate(left / "reserved", 64 * BLOCK_BYTES)
    assert differing_aspects(trees) == []
    write_zeroes(right / "reserved")
    assert differing_aspects(trees) == ["data ranges"]
