"""Cases about callers who are not root: what is theirs, what is refused, what is taken away."""

import os
from pathlib import Path

from tests.fs import calls
from tests.fs.calls import Allocate
from tests.fs.transcript import Transcript

ALICE, BOB = 1001, 1002
TEAM, OTHERS = 2001, 2002
CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")


def ownership(t: Transcript) -> None:
    """What a caller makes is his, in every way to make it."""
    os.chmod(t.root, 0o777)

    def make(inner: Transcript) -> None:
        os.chdir(inner.root)
        for mask in (0o022, 0o077, 0o000):
            os.umask(mask)
            os.close(os.open(f"file{mask}", os.O_CREAT | os.O_WRONLY, 0o777))
            os.mkdir(f"d{mask}", 0o7777)
        os.mkfifo("fifo")
        os.symlink("x", "link")
        unnamed = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o640)
        calls.link_descriptor(unnamed, Path("unnamed"))
        os.close(unnamed)
        inner.call("device", os.mknod, "null", 0o020666, os.makedev(1, 3))
        for name in sorted(os.listdir(".")):
            inner.status(Path(name))

    t.as_user(ALICE, ALICE, [TEAM], "make", make)


def refusals(t: Transcript) -> None:
    """Permissions, sticky directories, chown."""
    os.chdir(t.root)
    os.chmod(".", 0o755)
    Path("secret").write_bytes(b"x")
    os.chmod("secret", 0o600)
    os.mkdir("sticky")
    os.chmod("sticky", 0o1777)
    Path("sticky/root").touch()
    os.mkdir("closed", 0o700)
    Path("closed/x").touch()
    os.mkdir("team")
    os.chown("team", 0, TEAM)
    os.chmod("team", 0o770)

    def attempt(inner: Transcript) -> None:
        os.chdir(inner.root)
        inner.call("read secret", Path("secret").read_bytes)
        inner.call("create", Path("mine").touch)
        inner.call("chmod", os.chmod, "secret", 0o777)
        inner.call("chown", os.chown, "secret", ALICE, ALICE)
        inner.call("utime", os.utime, "secret")
        inner.call("truncate", os.truncate, "secret", 0)
        inner.call("unlink root's", os.unlink, "sticky/root")
        inner.call("create in sticky", Path(f"sticky/{os.getuid()}").touch)
        inner.call("rename root's", os.rename, "sticky/root", "sticky/mine")
        inner.call("closed", os.stat, "closed/x")
        inner.call("team", Path(f"team/{os.getuid()}").touch)
        inner.call("xattr", os.setxattr, "secret", "user.x", b"")
        inner.call("trusted", os.setxattr, f"sticky/{os.getuid()}", "trusted.x", b"")
        inner.call("give away", os.chown, f"sticky/{os.getuid()}", BOB, -1)
        inner.call("to own group", os.chown, f"sticky/{os.getuid()}", -1, TEAM)

    t.as_user(ALICE, ALICE, [TEAM], "member", attempt)
    t.as_user(BOB, BOB, [OTHERS], "stranger", attempt)
    os.setxattr("sticky/root", "trusted.seen", b"")
    os.setxattr("sticky/root", "user.seen", b"")
    os.chmod("sticky/root", 0o644)
    t.as_user(BOB, BOB, [], "list", lambda i: i.call("names", os.listxattr, i.root / "sticky/root"))
    for name in sorted(os.listdir("sticky")) + [
        f"../team/{one}" for one in sorted(os.listdir("team"))
    ]:
        t.status(Path("sticky") / name)


def group_directories(t: Transcript) -> None:
    """Directories with the sgid bit: members keep it, strangers lose it."""
    os.chdir(t.root)
    os.mkdir("shared")
    os.chown("shared", 0, TEAM)
    os.chmod("shared", 0o2777)

    def make(inner: Transcript) -> None:
        os.chdir(inner.root / "shared")
        os.umask(0)
        me = os.getuid()
        os.close(os.open(f"plain{me}", os.O_CREAT | os.O_WRONLY, 0o2775))
        os.mkdir(f"d{me}", 0o775)
        os.mknod(f"node{me}", 0o102775)
        os.mkfifo(f"fifo{me}", 0o666)
        unnamed = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o2775)
        calls.link_descriptor(unnamed, Path(f"unnamed{me}"))
        os.close(unnamed)
        inner.call("chmod sgid", os.chmod, f"plain{me}", 0o2775)
        for name in sorted(name for name in os.listdir(".") if str(me) in name):
            inner.status(Path(name))

    t.as_user(ALICE, ALICE, [TEAM], "member", make)
    t.as_user(BOB, BOB, [OTHERS], "stranger", make)


def privileges(t: Transcript) -> None:
    """suid, sgid and file capabilities go when somebody else changes the content."""
    os.chdir(t.root)
    os.chmod(".", 0o755)

    def changed(what: str, mode: int, *, holds_open: bool) -> None:
        name = f"{what}-{mode:o}-{holds_open}"
        Path(name).write_bytes(b"x" * 10000)
        keeper = os.open(name, os.O_RDWR) if holds_open else None
        os.chmod(name, mode)
        os.setxattr(name, "security.capability", CAPABILITY)

        def change(inner: Transcript) -> None:
            os.chdir(inner.root)
            if what == "truncate":
                os.truncate(name, 5)
                return
            flags = os.O_RDWR | (os.O_TRUNC if what == "trunc" else 0)
            descriptor = os.open(name, flags)
            if what == "write":
                os.pwrite(descriptor, b"y", 0)
            elif what == "allocate":
                calls.allocate(descriptor, Allocate.PLAIN, 0, 20000)
            elif what == "copy":
                os.copy_file_range(descriptor, descriptor, 10, 0, 5000)
            os.close(descriptor)

        for uid in (BOB, 0):
            t.as_user(uid, uid, [], name, change)
            t.status(Path(name))
            t.call("capability", lambda: os.listxattr(name))
            os.chmod(name, mode)
        if keeper is not None:
            os.close(keeper)

    for what in ("write", "truncate", "trunc", "allocate", "copy"):
        for mode in (0o4777, 0o2777, 0o2767, 0o6777):
            changed(what, mode, holds_open=False)
    changed("write", 0o777, holds_open=True)
    changed("truncate", 0o6777, holds_open=True)
    Path("owned").write_bytes(b"x")
    os.chmod("owned", 0o6755)
    os.setxattr("owned", "security.capability", CAPABILITY)
    os.chown("owned", ALICE, ALICE)
    t.status(Path("owned"))
    t.call("capability", lambda: os.listxattr("owned"))


CASES = [ownership, refusals, group_directories, privileges]
