"""Process 1 of a lab host: builds the host, reaps its orphans, and keeps its agent running as a
service manager would (started at boot, started again one second after it ended).

Killing it is a power failure: the kernel kills every process of the host with it.

It reads a `Boot` as one line of JSON from standard input, answers with the process number by which
the machine knows it, and starts the agent when it reads the line `go`. The end of standard input
before that ends the host, so a boot that is killed halfway leaves nothing.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from telamon.errors import RefusedError
from telamon.lab import kernel, root
from telamon.lab.process import Process

_GO = "go\n"
_RESTART_DELAY_S = 1.0


@dataclass(frozen=True, slots=True)
class Boot:
    """Everything a host must know to come up. `image` is its disk (made if it does not exist),
    `view` where its root is mounted, `agent` the command to keep running (none if empty), `log`
    where its output goes.
    """

    keeper: int
    host: str
    image: str
    view: str
    disk_bytes: int
    directories: Sequence[str]
    hosts_file: str
    agent: Sequence[str]
    log: str


@dataclass(slots=True)
class Booting:
    """A host whose file system stands and whose agent waits."""

    init: Process
    _starter: subprocess.Popen[str]

    def go(self) -> None:
        """Lets the host run."""
        assert self._starter.stdin is not None
        self._starter.stdin.write(_GO)
        self._starter.stdin.close()


def start(boot: Boot, environment: dict[str, str]) -> Booting:
    """Makes a host in the lab. It goes away again if the caller lets go of it before `go`."""
    starter = subprocess.Popen(
        [sys.executable, "-m", "telamon.lab.host_init"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
        start_new_session=True,
    )
    assert starter.stdin is not None and starter.stdout is not None
    starter.stdin.write(json.dumps(asdict(boot)) + "\n")
    starter.stdin.flush()
    answer = starter.stdout.readline()
    if starter.wait() != 0 or not answer:
        raise RefusedError(f"host {boot.host} did not come up: {boot.log} says why")
    return Booting(Process.numbered(int(answer)), starter)


def main() -> None:
    """Enters the lab, makes the host's namespaces, and becomes the host's process 1."""
    boot = Boot(**json.loads(sys.stdin.readline()))
    log = os.open(boot.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
    os.dup2(log, 2)
    kernel.enter(boot.keeper, kernel.Namespace.PID | kernel.Namespace.MNT)
    if (child := os.fork()) > 0:
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    kernel.unshare(kernel.HOST_NAMESPACES)
    # The parent is a process of the lab, so its orphan, the host, gets the lab's keeper as parent.
    if os.fork() > 0:
        os._exit(0)
    sys.stdout.write(f"{_build(boot)}\n")
    sys.stdout.flush()
    if sys.stdin.readline() == _GO:
        os.dup2(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), 0)
        os.dup2(log, 1)
        _run(boot.agent)


def _build(boot: Boot) -> int:
    """Furnishes the namespaces; returns this process's number on the machine."""
    number = int(str(Path("/proc/self").readlink()))  # /proc is still that of the machine
    socket.sethostname(boot.host)
    kernel.mount("none", "/", flags=kernel.Mount.RECURSIVE | kernel.Mount.PRIVATE)
    image, view = Path(boot.image), Path(boot.view)
    if not image.exists():
        root.make_image(image, boot.disk_bytes)
    view.mkdir(exist_ok=True)
    root.move_in(view, image, [Path(one) for one in boot.directories], boot.hosts_file)
    os.chdir("/")
    return number


def _run(agent: Sequence[str]) -> None:
    """Waits for children for ever; restarts the agent when it is the one that ended."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    running = _spawn(agent) if agent else None
    while True:
        signal.sigwait({signal.SIGCHLD})
        if running in _reap():
            sys.stderr.write(f"host: {agent[0]} ended; it is started again\n")
            sys.stderr.flush()
            time.sleep(_RESTART_DELAY_S)
            running = _spawn(agent)


def _spawn(command: Sequence[str]) -> int:
    return os.posix_spawn(command[0], list(command), os.environ, setsigmask=[], setsid=True)


def _reap() -> Sequence[int]:
    ended = []
    while True:
        try:
            process_id, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            break
        if process_id == 0:
            break
        ended.append(process_id)
    return ended


if __name__ == "__main__":
    main()
