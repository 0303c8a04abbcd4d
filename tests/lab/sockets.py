"""Sockets of the test process inside hosts."""

import socket
from threading import Thread

from telamon.lab import kernel
from telamon.lab.host import RunningHost


def socket_in(host: RunningHost, kind: socket.SocketKind) -> socket.socket:
    """A socket belongs to the namespace of the thread that makes it, and keeps it."""
    made: list[socket.socket] = []

    def make() -> None:
        kernel.enter(host.init.id, kernel.Namespace.NET)
        made.append(socket.socket(socket.AF_INET, kind))

    thread = Thread(target=make)
    thread.start()
    thread.join()
    return made[0]
