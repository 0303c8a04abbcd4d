"""Cases about objects: attributes, content, extended attributes, locks, programs."""

import fcntl
import mmap
import os
import shutil
import struct
import subprocess
from pathlib import Path

from tests.fs import calls
from tests.fs.calls import Allocate
from tests.fs.transcript import Transcript

GIB = 1 << 30
GET_FLAGS = 0x80086601


def attributes(t: Transcript) -> None:
    """chmod, chown, times, sizes."""
    os.chdir(t.root)
    Path("file").write_bytes(b"abc")
    Path("d").mkdir()
    for mode in (0o4755, 0o2755, 0o6711, 0o1777, 0o0000, 0o644):
        for name in ("file", "d"):
            t.call(f"chmod {mode:o} {name}", os.chmod, name, mode)
            t.status(Path(name))
    os.chmod("file", 0o6755)
    t.call("chown", os.chown, "file", 1000, 1001)
    t.status(Path("file"))
    t.call("chown group only", os.chown, "file", -1, 5)
    for seconds in (0, -1, 2**33, 1_000_000_000):
        t.call(
            f"utime {seconds}", os.utime, "file", ns=(seconds * 10**9 + 1, seconds * 10**9 + 999)
        )
        t.note("times", (os.stat("file").st_atime_ns, os.stat("file").st_mtime_ns))
    os.utime("file", ns=(5, 7))
    Path("file").write_bytes(b"more")
    t.note("mtime moved", os.stat("file").st_mtime_ns > 7)
    before = os.stat("d").st_mtime_ns
    Path("d/x").touch()
    t.note("directory's mtime moved", os.stat("d").st_mtime_ns > before)
    t.call("truncate up", os.truncate, "file", 10 * GIB)
    t.status(Path("file"))
    t.note("sparse", os.stat("file").st_blocks < 100)
    t.call("truncate down", os.truncate, "file", 2)
    t.call("truncate negative", os.truncate, "file", -1)
    t.call("truncate directory", os.truncate, "d", 0)
    t.call("content", Path("file").read_bytes)
    room = os.statvfs(".")
    t.note("statvfs", (room.f_bsize, room.f_frsize, room.f_namemax, room.f_blocks, room.f_files))


def content(t: Transcript) -> None:
    """Reads and writes of every kind."""
    os.chdir(t.root)
    file = os.open("file", os.O_RDWR | os.O_CREAT)
    append = os.open("file", os.O_WRONLY | os.O_APPEND)
    t.note("write", os.write(file, b"0123456789"))
    t.note("append", os.write(append, b"abc"))
    t.note("pwrite on append", os.pwrite(append, b"X", 0))
    t.note("read", os.pread(file, 100, 0))
    t.call("read write-only", os.read, append, 1)
    t.note("far", os.pwrite(file, b"far", 5 * GIB))
    t.note("data", [os.lseek(file, at, os.SEEK_DATA) for at in (0, 5 * GIB)])
    t.note("hole", os.lseek(file, 0, os.SEEK_HOLE))
    t.call("no data", os.lseek, file, 6 * GIB, os.SEEK_DATA)
    t.call("punch", calls.allocate, file, Allocate.PUNCH_HOLE | Allocate.KEEP_SIZE, 2, 5)
    t.note("punched", os.pread(file, 14, 0))
    t.call("punch alone", calls.allocate, file, Allocate.PUNCH_HOLE, 2, 5)
    t.call("zero", calls.allocate, file, Allocate.ZERO_RANGE, 0, 1)
    t.call("allocate", calls.allocate, file, Allocate.PLAIN, 6 * GIB, 4096)
    t.status(file)
    t.call("allocate nothing", calls.allocate, file, Allocate.PLAIN, 0, 0)
    t.call("allocate huge", calls.allocate, file, Allocate.PLAIN, 0, 1 << 62)
    other = os.open("other", os.O_RDWR | os.O_CREAT)
    t.note("copy", os.copy_file_range(file, other, 14, 0, 3))
    t.note("copied", os.pread(other, 100, 0))
    with Path("file").open("rb") as source:
        t.note("sendfile", os.sendfile(other, source.fileno(), 0, 9))
    t.note("sent", os.pread(other, 100, 0))
    reader, writer = os.pipe()
    os.write(writer, b"spliced")
    t.note("splice", os.splice(reader, other, 7, offset_dst=30))
    t.note("spliced", os.pread(other, 100, 0))
    os.truncate("other", 8192)
    with mmap.mmap(other, 4096, prot=mmap.PROT_READ, flags=mmap.MAP_PRIVATE) as mapping:
        t.note("mapped", mapping[:12])
    with mmap.mmap(other, 8192) as mapping:
        mapping[4090:4100] = b"store-here"
        t.note("store seen", os.pread(other, 12, 4089))
        os.pwrite(other, b"W", 4091)
        t.note("write seen", mapping[4090:4093])
    direct = os.open("other", os.O_RDWR | os.O_DIRECT)
    page = mmap.mmap(-1, 4096)
    t.note("direct read", os.preadv(direct, [page], 4096))
    t.note("direct content", page[:4])
    page[:] = b"D" * 4096
    t.note("direct write", os.pwritev(direct, [page], 0))
    t.note("direct seen", os.pread(other, 4, 4094))
    t.call("sync", os.fsync, other)
    t.call("data sync", os.fdatasync, other)
    for descriptor in (file, append, other, direct, reader, writer):
        os.close(descriptor)


def extended(t: Transcript) -> None:
    """Extended attributes and their limits."""
    os.chdir(t.root)
    Path("file").touch()
    Path("d").mkdir()
    os.symlink("file", "link")
    for name in ("user.a", "trusted.b", "security.c", "user." + "n" * 250):
        t.call(f"set {name[:12]}", os.setxattr, "file", name, b"value\0\xff")
    t.call("set long name", os.setxattr, "file", "user." + "n" * 251, b"")
    t.call("set no space", os.setxattr, "file", "nonsense", b"")
    t.call("list", lambda: sorted(os.listxattr("file")))
    t.call("create there", os.setxattr, "file", "user.a", b"", os.XATTR_CREATE)
    t.call("replace absent", os.setxattr, "file", "user.z", b"", os.XATTR_REPLACE)
    t.call("replace", os.setxattr, "file", "user.a", b"x" * 3000, os.XATTR_REPLACE)
    t.call("get", lambda: os.getxattr("file", "user.a")[:3])
    t.call("get absent", os.getxattr, "file", "user.z")
    t.call("too large", os.setxattr, "file", "user.a", b"x" * 65537)
    t.call("remove", os.removexattr, "file", "trusted.b")
    t.call("remove absent", os.removexattr, "file", "trusted.b")
    t.call("on directory", os.setxattr, "d", "user.a", b"")
    t.call("on link", os.setxattr, "link", "user.a", b"", follow_symlinks=False)
    t.call("trusted on link", os.setxattr, "link", "trusted.a", b"v", follow_symlinks=False)
    t.call("list link", os.listxattr, "link", follow_symlinks=False)
    t.call("list", lambda: sorted(os.listxattr("file")))


def access_lists(t: Transcript) -> None:
    """ACLs: access, default, inheritance, and their mask."""
    os.chdir(t.root)
    Path("d").mkdir(0o750)
    _run("setfacl", "-d", "-m", "u:1000:rwx,g:1001:r-x,m:rwx", "d")
    _run("setfacl", "-m", "u:1000:rwx", "d")
    for mask in (0o022, 0o077):
        os.umask(mask)
        os.close(os.open(f"d/file{mask}", os.O_CREAT | os.O_WRONLY, 0o666))
        Path(f"d/inner{mask}").mkdir(0o777)
        os.mkfifo(f"d/fifo{mask}", 0o666)
    unnamed = os.open("d", os.O_TMPFILE | os.O_RDWR, 0o666)
    calls.link_descriptor(unnamed, Path("d/named"))
    os.close(unnamed)
    os.chmod("d/file18", 0o604)
    _run("setfacl", "-m", "u:1002:rw", "d/file63")
    _run("setfacl", "-b", "d/inner18")
    listing = subprocess.run(
        ["getfacl", "-R", "-n", "."], capture_output=True, text=True, check=True, timeout=30
    )
    for path in sorted(listing.stdout.split("\n\n")):
        t.note("acl", path)
    for name in sorted(os.listdir("d")):
        t.status(Path("d") / name)


def locks(t: Transcript) -> None:
    """Locks hold between descriptors and processes."""
    os.chdir(t.root)
    first = os.open("file", os.O_RDWR | os.O_CREAT)
    second = os.open("file", os.O_RDWR)
    t.call("flock", fcntl.flock, first, fcntl.LOCK_EX)
    t.call("flock held", fcntl.flock, second, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(first, fcntl.LOCK_UN)
    t.call("flock free", fcntl.flock, second, fcntl.LOCK_EX | fcntl.LOCK_NB)
    t.call("lockf", fcntl.lockf, first, fcntl.LOCK_EX, 10, 5)

    def other(inner: Transcript) -> None:
        mine = os.open(t.root / "file", os.O_RDWR)
        inner.call("held", fcntl.lockf, mine, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 5)
        inner.call("beside", fcntl.lockf, mine, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 50)

    t.as_user(0, 0, [], "other", other)
    os.close(first)
    os.close(second)


def programs(t: Transcript) -> None:
    """Programs run from the tree; a running one is not written to."""
    os.chdir(t.root)
    shutil.copy2("/bin/sleep", "sleep")
    Path("script").write_text("#!/bin/sh\necho ran $0\n")
    os.chmod("script", 0o755)
    t.note("script", subprocess.run(["./script"], capture_output=True, timeout=30).stdout)
    running = subprocess.Popen(["./sleep", "60"])
    try:
        t.call("write running", os.open, "sleep", os.O_WRONLY)
        t.call("replace running", shutil.copy2, "/bin/true", "new")
        os.rename("new", "sleep")
    finally:
        running.kill()
        running.wait()
    t.note("replaced", subprocess.run(["./sleep"], timeout=30).returncode)
    os.chmod("script", 0o644)
    t.call("not executable", subprocess.run, ["./script"])
    descriptor = os.open("script", os.O_RDONLY)
    flags = struct.pack("i", 0)
    t.call("flags", fcntl.ioctl, descriptor, GET_FLAGS, flags)
    t.call("unknown ioctl", fcntl.ioctl, descriptor, 0x5401, bytes(64))
    os.close(descriptor)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, timeout=30)


CASES = [attributes, content, extended, access_lists, locks, programs]
