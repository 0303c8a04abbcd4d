"""Cases about names: making, finding, moving, linking, removing."""

import contextlib
import os
import socket
from pathlib import Path

from tests.fs import calls
from tests.fs.calls import Rename
from tests.fs.transcript import Transcript

ANY_BYTES = b"a b\n\t\xff\xfe\\'\"*?" + bytes(range(1, 32))


def opening(t: Transcript) -> None:
    """open with its flags."""
    root = t.root
    (root / "file").write_bytes(b"content")
    (root / "directory").mkdir()
    (root / "loop").symlink_to("loop")
    (root / "link").symlink_to("file")
    for what, path, flags in (
        ("absent", root / "absent", os.O_RDONLY),
        ("exclusive", root / "file", os.O_CREAT | os.O_EXCL | os.O_WRONLY),
        ("exclusive over link", root / "link", os.O_CREAT | os.O_EXCL | os.O_WRONLY),
        ("create there", root / "file", os.O_CREAT | os.O_WRONLY),
        ("write directory", root / "directory", os.O_WRONLY),
        ("create directory", root / "directory", os.O_CREAT | os.O_RDONLY),
        ("below file", root / "file" / "x", os.O_CREAT | os.O_RDONLY),
        ("loop", root / "loop", os.O_RDONLY),
        ("no follow", root / "link", os.O_RDONLY | os.O_NOFOLLOW),
        ("directory wanted", root / "file", os.O_RDONLY | os.O_DIRECTORY),
        ("through link", root / "link", os.O_RDWR | os.O_TRUNC),
        ("path", root / "link", os.O_PATH | os.O_NOFOLLOW),
        ("long name", root / ("n" * 256), os.O_CREAT | os.O_WRONLY),
        ("longest name", root / ("n" * 255), os.O_CREAT | os.O_WRONLY),
    ):
        descriptor = t.call(what, os.open, path, flags, 0o666)
        if descriptor is not None:
            t.status(descriptor)
            os.close(descriptor)
    t.status(root / "file")


def bytes_in_names(t: Transcript) -> None:
    """Names are bytes, not text."""
    root = os.fsencode(t.root)
    path = os.path.join(root, ANY_BYTES)
    os.mkdir(path)
    inner = os.path.join(path, b"\xc3\x28" * 127)
    t.call("create", lambda: os.close(os.open(inner, os.O_CREAT | os.O_RDWR)))
    t.call("list", os.listdir, path)
    t.call("rename", os.rename, path, path + b"2")
    t.call("list", lambda: sorted(os.listdir(root)))


def directories(t: Transcript) -> None:
    """mkdir, rmdir and what they refuse."""
    root = t.root
    t.call("mkdir", (root / "d").mkdir, 0o7777)
    t.call("again", (root / "d").mkdir)
    t.call("below absent", (root / "a" / "b").mkdir)
    (root / "d" / "inner").mkdir()
    (root / "file").touch()
    t.status(root / "d")
    t.call("rmdir full", (root / "d").rmdir)
    t.call("rmdir file", (root / "file").rmdir)
    t.call("unlink directory", os.unlink, root / "d")
    t.call("rmdir dot", os.rmdir, root / "d" / ".")
    t.call("rmdir dots", os.rmdir, root / "d" / "..")
    os.chdir(root / "d" / "inner")
    t.call("rmdir working", os.rmdir, root / "d" / "inner")
    t.call("getcwd", os.getcwd)
    t.call("mkdir in removed", os.mkdir, "x")
    t.call("create in removed", lambda: os.close(os.open("x", os.O_CREAT | os.O_WRONLY)))
    t.call("list removed", os.listdir, ".")
    t.call("stat removed", lambda: os.stat(".").st_nlink)
    os.chdir("/")
    t.status(root / "d")
    t.call("rmdir", (root / "d").rmdir)
    t.call("list", lambda: sorted(os.listdir(root)))


def moving(t: Transcript) -> None:
    """rename with every flag."""
    root = t.root
    os.chdir(root)
    for name in ("a", "b"):
        Path(name).write_text(name)
    for name in ("d", "e", "full", "full/x"):
        Path(name).mkdir()
    os.link("a", "same")
    t.call("onto itself", os.rename, "a", "same")
    t.call("both there", lambda: (Path("a").exists(), Path("same").exists()))
    t.call("no replace", calls.rename, Path("a"), Path("b"), Rename.NOREPLACE)
    t.call("no replace free", calls.rename, Path("a"), Path("c"), Rename.NOREPLACE)
    t.call("exchange", calls.rename, Path("c"), Path("d"), Rename.EXCHANGE)
    t.call("exchange absent", calls.rename, Path("c"), Path("absent"), Rename.EXCHANGE)
    t.call("both flags", calls.rename, Path("c"), Path("b"), Rename.EXCHANGE | Rename.NOREPLACE)
    t.call("exchanged", lambda: (Path("c").is_dir(), Path("d").read_text()))
    t.call("whiteout", calls.rename, Path("d"), Path("moved"), Rename.WHITEOUT)
    t.status(Path("d"))
    t.call("directory over file", os.rename, "e", "b")
    t.call("file over directory", os.rename, "b", "e")
    t.call("directory over full", os.rename, "e", "full")
    t.call("directory over empty", os.rename, "full", "e")
    t.call("into itself", os.rename, "e", "e/x/y")
    t.call("over ancestor", os.rename, "e/x", "e")
    t.call("absent", os.rename, "absent", "x")
    t.call("dot", os.rename, "e/.", "z")
    t.call("unknown flag", calls.rename, Path("b"), Path("z"), 64)
    t.call("list", lambda: sorted(os.listdir(".")))
    for name in sorted(os.listdir(".")):
        t.status(Path(name))


def linking(t: Transcript) -> None:
    """Hard links, files without a name, symbolic links."""
    root = t.root
    os.chdir(root)
    Path("file").write_bytes(b"x" * 5000)
    t.call("link", os.link, "file", "second")
    t.call("link there", os.link, "file", "second")
    t.call("link directory", os.link, ".", "third")
    t.status(Path("file"))
    descriptor = os.open("file", os.O_RDWR)
    os.unlink("file")
    t.status(descriptor)
    os.unlink("second")
    t.status(descriptor)
    t.call("write unlinked", os.pwrite, descriptor, b"y" * 100, 9000)
    t.call("read unlinked", lambda: os.pread(descriptor, 20000, 0)[8990:9010])
    t.call("chmod unlinked", os.fchmod, descriptor, 0o640)
    t.call("truncate unlinked", os.ftruncate, descriptor, 10)
    t.call("sync unlinked", os.fsync, descriptor)
    t.status(descriptor)
    t.call("link unlinked", calls.link_descriptor, descriptor, Path("back"))
    os.close(descriptor)
    unnamed = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o640)
    os.write(unnamed, b"unnamed" * 30000)
    os.setxattr(unnamed, "user.kind", b"unnamed")
    t.status(unnamed)
    Path("taken").touch()
    t.call("name taken", calls.link_descriptor, unnamed, Path("taken"))
    t.call("name it", calls.link_descriptor, unnamed, Path("named"))
    t.call("name it twice", calls.link_descriptor, unnamed, Path("named2"))
    t.status(unnamed)
    os.write(unnamed, b"more")
    os.close(unnamed)
    t.call("named", lambda: Path("named").read_bytes()[-14:])
    exclusive = os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_EXCL, 0o600)
    t.call("never linked", calls.link_descriptor, exclusive, Path("never"))
    os.close(exclusive)
    for target in ("dangling", "/", "a" * 4095, "named"):
        t.call(f"symlink {target[:9]}", os.symlink, target, f"to-{target[:3].strip('/')}")
    t.call("symlink long", os.symlink, "a" * 4096, "to-long")
    t.call("symlink there", os.symlink, "x", "to-nam")
    t.call("readlink", os.readlink, "to-dan")
    t.call("readlink file", os.readlink, "named")
    t.call("lchown", os.lchown, "to-dan", 12, 13)
    for name in sorted(os.listdir(".")):
        t.status(Path(name))


def special_files(t: Transcript) -> None:
    """FIFOs, sockets, devices."""
    os.chdir(t.root)
    t.call("fifo", os.mkfifo, "fifo", 0o622)
    for name, kind, device in (("char", 0o020600, (1, 3)), ("block", 0o060640, (259, 70000))):
        t.call(name, os.mknod, name, kind, os.makedev(*device))
    with socket.socket(socket.AF_UNIX) as listener:
        t.call("bind", listener.bind, "socket")
        listener.listen()
        with socket.socket(socket.AF_UNIX) as caller:
            t.call("connect", caller.connect, "socket")
    t.call("regular", os.mknod, "regular", 0o100604)
    reader = os.open("fifo", os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open("fifo", os.O_WRONLY)
    os.write(writer, b"through")
    t.call("fifo passes", os.read, reader, 100)
    os.close(reader)
    os.close(writer)
    t.call("null", lambda: Path("char").write_bytes(b"gone"))
    for name in sorted(os.listdir(".")):
        t.status(Path(name))


def many_entries(t: Transcript) -> None:
    """A directory read in parts, while it changes."""
    os.chdir(t.root)
    for number in range(3000):
        os.close(os.open(f"{number:04}-{'x' * (number % 200)}", os.O_CREAT | os.O_WRONLY))
    t.call("count", lambda: str(len(os.listdir("."))))
    with os.scandir(".") as entries:
        seen = set()
        for entry in entries:
            seen.add(entry.name)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(entry.name)
    t.note("seen while removing", len(seen))
    t.call("left", os.listdir, ".")


CASES = [opening, bytes_in_names, directories, moving, linking, special_files, many_entries]
