"""Running a command in a host as if it ran here: its streams, terminal, signals and exit status.

The command runs as a child in all namespaces of the host. Signals sent to the caller reach the
command; those that a terminal makes reach it from the kernel, for it belongs to the caller's
foreground process group, and are not sent twice. A stop of the command stops the caller too.
"""

import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from telamon.lab import kernel
from telamon.lab.host import RunningHost, environment

_SIGNALED = 128  # a shell's status of a command that a signal ended, plus the signal's number
_NOT_FOUND = 127
_NOT_EXECUTABLE = 126
_FROM_KERNEL = 0x80  # SI_KERNEL: a terminal's Ctrl-C, sent to the whole foreground group
_FORWARDED = {
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
    signal.SIGWINCH,
    signal.SIGCONT,
}


def execute(host: RunningHost, command: Sequence[str]) -> int:
    """Runs the command in the host, in the caller's directory if the host has it; returns its exit
    status as a shell would.
    """
    directory = Path.cwd()
    unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED | {signal.SIGCHLD})
    kernel.enter(host.init.id, kernel.HOST_NAMESPACES)
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
        _become(command, directory)
    try:
        return _follow(child)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)


def _become(command: Sequence[str], directory: Path) -> None:
    """Replaces this process by the command; never returns."""
    with suppress(OSError):
        os.chdir(directory)
    # What the interpreter set for itself is no business of the command.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        os.execvpe(command[0], list(command), environment())
    except OSError as error:
        os.write(2, f"telamon lab exec: {command[0]}: {error.strerror}\n".encode())
        os._exit(_NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_EXECUTABLE)


def _follow(child: int) -> int:
    """Passes signals on until the child has ended."""
    while True:
        arrived = signal.sigwaitinfo(_FORWARDED | {signal.SIGCHLD})
        if arrived.si_signo == signal.SIGCHLD:
            ended, status = os.waitpid(child, os.WNOHANG | os.WUNTRACED)
            if ended == 0:
                continue
            if os.WIFSTOPPED(status):
                os.kill(os.getpid(), signal.SIGSTOP)
                os.kill(child, signal.SIGCONT)
            elif os.WIFSIGNALED(status):
                return _SIGNALED + os.WTERMSIG(status)
            else:
                return os.WEXITSTATUS(status)
        elif arrived.si_code != _FROM_KERNEL:
            os.kill(child, arrived.si_signo)
