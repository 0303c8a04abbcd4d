"""The mount table: the same lines that the replicator's own tests read; and real fences that are
removed.
"""

import subprocess
import sys
from pathlib import Path

from telamon.replication.mounts import is_fence, parse, topmost

TABLE = b"""\
22 1 253:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 253:0 /srv/a\\040b /srv/a\\040b ro,relatime shared:1 - ext4 /dev/vda rw
31 30 0:52 / /srv/a\\040b rw - fuse.telamon telamon:m rw,user_id=0
40 22 7:0 / /disk rw - ext4 /dev/loop0 rw
41 40 7:0 / /disk ro - ext4 /dev/loop0 rw
50 22 253:0 /etc /ro ro - ext4 /dev/vda rw
garbage
"""

# In a process of its own, because a mount namespace cannot be left again by a process with threads.
IN_NAMESPACE = """
import ctypes, os, subprocess, sys
from pathlib import Path
from telamon.errors import RefusedError
from telamon.replication.mounts import bare

directory = Path(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
assert libc.unshare(0x00020000) == 0, os.strerror(ctypes.get_errno())
for command in (
    ["mount", "--make-rprivate", "/"],
    ["mount", "--bind", directory, directory],
    ["mount", "-o", "remount,bind,ro", directory],
):
    subprocess.run(command, check=True)
try:
    (directory / "file").touch()
    sys.exit("the fence does not hold")
except OSError:
    pass
bare("db", [directory])
bare("db", [directory])
(directory / "file").touch()
subprocess.run(["mount", "-t", "tmpfs", "none", directory], check=True)
bare("db", [directory])
assert os.path.ismount(directory), "a mount of somebody else was removed"
"""


def test_paths_lose_their_escapes_and_garbage_is_left_out() -> None:
    mounts = parse(TABLE)
    assert len(mounts) == 6
    assert mounts[1].point == Path("/srv/a b")


def test_topmost_is_what_nothing_covers() -> None:
    mounts = parse(TABLE)
    served = topmost(mounts, Path("/srv/a b"))
    assert served is not None
    assert (served.id, served.kind, served.origin) == (31, "fuse.telamon", "telamon:m")
    assert topmost(mounts, Path("/srv")) is None


def test_only_a_read_only_bind_onto_itself_is_a_fence() -> None:
    mounts = parse(TABLE)
    assert [mount.id for mount in mounts if is_fence(mounts, mount)] == [30, 41]


def test_a_fence_is_removed_and_a_foreign_mount_is_not(tmp_path: Path) -> None:
    directory = tmp_path / "with space"
    directory.mkdir()
    subprocess.run([sys.executable, "-c", IN_NAMESPACE, directory], check=True, timeout=60)
    assert (directory / "file").exists()
