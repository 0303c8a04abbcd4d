"""The daemon of one interface as a process: started in a session of its own, found again, spoken
to, ended by its exact id.

Invariants: at most one runs for an interface, because the kernel gives a queue to one; nothing but
the process that listens on the control socket is ever signalled.
"""

import os
import select
import signal
import socket
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from telamon.errors import NetworkError
from telamon_nfqueue import control

_START_S = 20.0
_ANSWER_S = 2.0
_END_S = 5.0
_SAID_BYTES = 4096
_CREDENTIALS = struct.Struct("3i")  # struct ucred: process, user, group
_QUEUES_BEGIN, _QUEUES = 1024, 60_000


class QueueProcess:
    """Speak to it with `ask`; the connection is made when it is needed."""

    def __init__(self, interface: str, run: Path) -> None:
        self._interface = interface
        self._directory = run / "farm"
        self._socket_path = self._directory / f"nfqueue-{interface}.sock"
        self._log = self._directory / f"nfqueue-{interface}.log"
        self._link: socket.socket | None = None
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def queue(self) -> int:
        """The number of the interface's packet queue, the same at each start."""
        try:
            return _QUEUES_BEGIN + socket.if_nametoindex(self._interface) % _QUEUES
        except OSError as error:
            raise NetworkError(
                f"the nfqueue filter needs the interface {self._interface}, which this host has"
                " not: name one that exists in cluster.yaml"
            ) from error

    def ask(self, order: str, **details: Any) -> Any:
        """Give one order and return its answer; OSError if the daemon is not there."""
        try:
            link = self._link = self._link or self._connected()
            control.send(link, {"order": order, **details})
            answer = control.receive(link)
        except (OSError, ValueError):
            self.close()
            raise
        if answer is None:
            self.close()
            raise ConnectionResetError("the daemon ended")
        if "refusal" in answer:
            raise NetworkError(
                f"the nfqueue daemon of {self._interface} refused: {answer['refusal']}; restart the"
                " farm modules of this node"
            )
        return answer["answer"]

    def is_running(self) -> bool:
        """Whether a daemon of this version answers."""
        try:
            version = self.ask("hello")
        except OSError:
            return False
        if version != control.VERSION:
            raise NetworkError(
                f"the nfqueue daemon of {self._interface} is of another version of Telamon: run"
                " `telamon farm detach --force` here, then start the farm modules again"
            )
        return True

    def start(self) -> None:
        """Start the daemon; returns when it has its queue."""
        self._directory.mkdir(parents=True, exist_ok=True)
        reading, writing = os.pipe2(os.O_CLOEXEC)
        try:
            with self._log.open("ab") as output:
                command = (sys.executable, "-m", "telamon_nfqueue.daemon")
                options = ("--queue", self.queue, "--socket", self._socket_path, "--ready", writing)
                self._child = subprocess.Popen(
                    [*command, *map(str, options)],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    cwd="/",
                    pass_fds=(writing,),
                    start_new_session=True,
                )
            os.close(writing)
            writing = -1
            self._await_ready(reading)
        finally:
            os.close(reading)
            if writing >= 0:
                os.close(writing)

    def _await_ready(self, reading: int) -> None:
        ready, _, _ = select.select([reading], [], [], _START_S)
        said = os.read(reading, _SAID_BYTES).decode(errors="replace") if ready else ""
        if said != "ready":
            self.kill()
            why = said or ("it ended" if ready else f"not ready within {_START_S:g} s")
            raise NetworkError(
                f"the nfqueue daemon of {self._interface} did not start: {why}; see {self._log}"
            )

    def kill(self) -> None:
        """End the daemon, whoever started it; harmless when there is none."""
        self.close()
        pid = self._child.pid if self._child and self._child.poll() is None else self._listener()
        if pid is not None:
            self._end(pid)
        if self._child is not None:
            self._child.poll()
        self._socket_path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the connection; the daemon goes on."""
        if self._link is not None:
            self._link.close()
            self._link = None

    def _end(self, pid: int) -> None:
        try:
            held = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(held, signal.SIGKILL)
            if not select.select([held], [], [], _END_S)[0]:
                raise NetworkError(
                    f"the nfqueue daemon of {self._interface}, process {pid}, is still there"
                    f" {_END_S:g} s after SIGKILL: see its stack in /proc, and restart the node"
                )
        finally:
            os.close(held)

    def _listener(self) -> int | None:
        """The process that listens on the socket."""
        try:
            link = self._connected()
        except OSError:
            return None
        with link:
            raw = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid: int = _CREDENTIALS.unpack(raw)[0]
        return pid or None

    def _connected(self) -> socket.socket:
        link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            link.settimeout(_ANSWER_S)
            link.connect(str(self._socket_path))
        except OSError:
            link.close()
            raise
        return link
