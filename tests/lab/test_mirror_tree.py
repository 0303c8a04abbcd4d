"""A tree of every kind of object is the same on both nodes after copies, edits and removals."""

import itertools
from collections.abc import Iterator

import pytest
from mirrors import DIRECTORY, assert_equal_trees, mirrored

from telamon.lab.mirror import MirrorInLab
from telamon.lab.spec import DEFAULT

LONG_S = 300.0
FILES = 50_000

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def mirror() -> Iterator[MirrorInLab]:
    """One mirror for the whole file; every test works in a directory of its own."""
    with mirrored("test-tree", f"{DEFAULT}disk: 16GiB\n") as made:
        yield made


@pytest.fixture
def place() -> str:
    return f"{DIRECTORY}/{next(_numbers)}"


def shell(mirror: MirrorInLab, place: str, script: str) -> None:
    """Runs a script on the primary, in a directory of the test's own."""
    mirror.lab.host("n1").run(
        ["bash", "-euc", f"mkdir -p {place}; cd {place}; {script}"], timeout_s=LONG_S
    )


def test_usr_share(mirror: MirrorInLab, place: str) -> None:
    shell(mirror, place, "cp -a /usr/share/. .")
    assert_equal_trees(mirror)
    shell(mirror, place, "find doc -name copyright -exec sed -i s/the/THE/g {} +")
    shell(mirror, place, "mv man manual; mv doc/bash manual/; chmod -R g+w perl; chown -R 1:2 perl")
    assert_equal_trees(mirror)
    shell(mirror, place, "rm -r perl manual/man1; cp -a doc doc2; rm -r doc")
    assert_equal_trees(mirror)


def test_git(mirror: MirrorInLab, place: str) -> None:
    shell(
        mirror,
        place,
        "git init -q origin; cd origin; git config user.email a@b; git config user.name a;"
        " cp -r /usr/share/perl5/Debian* .; git add .; git commit -qm one; cd ..;"
        " git clone -q origin clone; cd clone; git config user.email a@b; git config user.name a;"
        " for n in 1 2 3; do echo $n >> new; git add new; git commit -qm $n; done;"
        " git gc -q; git checkout -q HEAD~2; git fsck",
    )
    assert_equal_trees(mirror)


def test_names(mirror: MirrorInLab, place: str) -> None:
    shell(
        mirror,
        place,
        r"""touch 'with space' $'new\nline' $'not utf-8 \xff\xfe' '"quoted"' -- -dash;"""
        r""" mkdir $'dir\x80'; echo x > $'dir\x80/\x81'; touch "$(printf 'n%.0s' {1..255})";"""
        r""" mv $'dir\x80' $'dir\x82'; rm 'with space'""",
    )
    assert_equal_trees(mirror)


def test_holes_and_large_sizes(mirror: MirrorInLab, place: str) -> None:
    shell(
        mirror,
        place,
        "truncate -s 10G empty; truncate -s 10G islands;"
        " for at in 0 1000 2000000; do"
        " dd if=/dev/urandom of=islands bs=4096 seek=$at count=3 conv=notrunc status=none; done;"
        " dd if=/dev/urandom of=punched bs=1M count=8 status=none;"
        " fallocate --punch-hole --offset 1M --length 2M punched;"
        " fallocate --zero-range --offset 5M --length 1M punched;"
        " touch reserved; fallocate --keep-size --length 4M reserved; echo tail >> reserved;"
        " cp --sparse=always islands copy; truncate -s 5000 punched; truncate -s 1M punched",
    )
    assert_equal_trees(mirror)


def test_links_and_special_files(mirror: MirrorInLab, place: str) -> None:
    shell(
        mirror,
        place,
        "mkdir a b; echo x > a/one; ln a/one b/two; ln a/one three; ln -s a/one soft;"
        " ln -s /nowhere/at/all dangling; mkfifo fifo; mknod null c 1 3; mknod disk b 7 0;"
        " python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"socket\")';"
        " echo more >> b/two; rm a/one; ln three a/four; chmod 4755 three; touch -d @1 fifo",
    )
    assert_equal_trees(mirror)


def test_attributes(mirror: MirrorInLab, place: str) -> None:
    shell(
        mirror,
        place,
        "touch file; mkdir dir; chown 12:34 file; chmod 1777 dir; setfacl -m u:1:rwx,g:2:r file;"
        " setfacl -d -m u:3:rx dir; touch dir/inherits; mkdir dir/sub;"
        " setfattr -n user.colour -v red file; setfattr -n user.empty file;"
        " setfattr -n user.gone -v 1 file; setfattr -x user.gone file;"
        " setfattr -n trusted.secret -v 0xff00 dir;"
        " touch -d '2001-02-03 04:05:06.789012345' file; chmod u+s,g+s file",
    )
    assert_equal_trees(mirror)


def test_many_files_in_one_directory(mirror: MirrorInLab, place: str) -> None:
    make = f"for n in range({FILES}): open(f'{{n:06}}', 'w').write(str(n))"
    shell(mirror, place, f'python3 -c "{make}"')
    assert_equal_trees(mirror)
    shell(mirror, place, "rm 0[0-2]*; for n in {1..500}; do mv 03${n}00 m$n 2>/dev/null || :; done")
    assert_equal_trees(mirror)


def test_mapped_and_direct_writes(mirror: MirrorInLab, place: str) -> None:
    shell(
        mirror,
        place,
        "dd if=/dev/urandom of=direct bs=64K count=32 oflag=direct status=none;"
        " dd if=/dev/urandom of=synchronous bs=8K count=20 oflag=sync status=none;"
        ' python3 -c \'import mmap; f = open("mapped", "w+b"); f.truncate(1 << 20);'
        ' m = mmap.mmap(f.fileno(), 0); m[5000:5005] = b"hello"; m[900000:900003] = b"end";'
        " m.flush()'; sync mapped",
    )
    assert_equal_trees(mirror)


def test_removal_of_everything(mirror: MirrorInLab) -> None:
    """Runs last: what the other tests made goes away on both nodes."""
    mirror.lab.host("n1").run(["find", DIRECTORY, "-mindepth", "1", "-delete"], timeout_s=LONG_S)
    assert_equal_trees(mirror)
    assert not list(mirror.lab.host("n2").backing(DIRECTORY).iterdir())
