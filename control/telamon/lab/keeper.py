"""Process 1 of a lab: while it lives the lab lives, when it ends everything of the lab ends.

The keeper heads a PID namespace in which all hosts are nested, so the kernel kills every process of
the lab with it. With the last process go the network namespaces (bridges and links), the mount
namespaces, and with those the loop devices and the disk images, which lie on a tmpfs that only the
lab can see. So nothing has to be cleaned up after a kill -9 of anything but a small record.

It follows its creator by standard input: the end of it before the line `ready`, or at any time for
a lab that is attached to its creator, ends the lab.
"""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from telamon.errors import RefusedError
from telamon.lab import kernel
from telamon.lab.process import Process

_ATTACHED = "attached"
_READY = "ready\n"


@dataclass(slots=True)
class Leash:
    """The creator's end of a keeper: let go of it and the lab ends, unless it is ready and
    detached.
    """

    keeper: Process
    _starter: subprocess.Popen[str]

    def ready(self) -> None:
        """The lab is complete; a detached one is on its own from now on."""
        assert self._starter.stdin is not None
        self._starter.stdin.write(_READY)
        self._starter.stdin.flush()


def start(store: Path, is_attached: bool) -> Leash:
    """Starts the keeper of a new lab. `store` is an empty directory: inside the lab it is a tmpfs
    for the disks of the hosts.
    """
    attachment = _ATTACHED if is_attached else "detached"
    starter = subprocess.Popen(
        [sys.executable, "-m", "telamon.lab.keeper", store, attachment],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert starter.stdout is not None
    answer = starter.stdout.readline()
    if starter.wait() != 0 or not answer:
        raise RefusedError("the lab could not make its namespaces: run it as root")
    return Leash(Process.numbered(int(answer)), starter)


def main() -> None:
    """Makes the lab's namespaces, answers with the number by which the machine knows this process,
    and keeps them.
    """
    store, attachment = Path(sys.argv[1]), sys.argv[2]
    kernel.unshare(kernel.Namespace.MNT | kernel.Namespace.NET | kernel.Namespace.PID)
    kernel.mount("none", "/", flags=kernel.Mount.RECURSIVE | kernel.Mount.PRIVATE)
    kernel.take_root_along(store)
    kernel.mount("telamon-lab", store, "tmpfs", options="mode=0700")
    if os.fork() > 0:
        os._exit(0)
    # Orphans of the lab become children of this process; ignoring SIGCHLD has the kernel reap them.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    # /proc is still that of the machine.
    sys.stdout.write(f"{Path('/proc/self').readlink()}\n")
    sys.stdout.flush()
    if sys.stdin.readline() != _READY:
        return
    if attachment == _ATTACHED:
        sys.stdin.read()
        return
    quiet = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(quiet, descriptor)
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
