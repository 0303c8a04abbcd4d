"""The process that decides about one interface's new packets. The agent starts it, tells it what to
decide by, and finds it again after a restart of its own.

Invariants: it decides by what it was told last, and only under the lease; without the agent the
lease ends, so nobody new is taken while connections go on in the kernel. A packet is judged by the
table in force when it came: what waits is decided before a new table is, or a SYN that another node
has answered long ago would be answered again, and its connection reset. It fails closed: when this
process dies the kernel drops what would be queued for it (no `--queue-bypass`), because a node that
lets everything through would answer for other nodes' clients.

Runs until it is killed; the agent's `detach` does that. It changes no rules (filter.py does).
"""

import argparse
import logging
import os
import selectors
import socket
import time
from collections import Counter as Tally
from contextlib import suppress
from pathlib import Path
from typing import Any

from telamon.errors import TelamonError
from telamon.farm.footprint import claim_of
from telamon.farm.layout import Counter
from telamon.farm.ownership import Ownership
from telamon_nfqueue import control
from telamon_nfqueue.queue import ACCEPT, DROP, QUEUE_LENGTH, Queue
from telamon_nfqueue.verdict import Judge, passes

log = logging.getLogger("telamon_nfqueue")

_MESSAGE_S = 1.0
_BACKLOG = 8


class Daemon:
    """One thread: the queue first, then whoever has orders."""

    def __init__(self, queue: Queue, listener: socket.socket) -> None:
        self._queue = queue
        self._listener = listener
        self._ownership = Ownership()
        self._judge = Judge(self._ownership)
        self._configuration: dict[str, Any] | None = None
        self._counted: Tally[Counter] = Tally()
        self._selector = selectors.DefaultSelector()
        self._selector.register(queue, selectors.EVENT_READ, self._decide)
        self._selector.register(listener, selectors.EVENT_READ, self._accept)

    def run(self) -> None:
        """Decide and obey, without end."""
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._queue or key.fileobj is self._listener:
                    key.data()
                else:
                    assert isinstance(key.fileobj, socket.socket), "the others are connections"
                    self._obey(key.fileobj)

    def _decide_all(self) -> None:
        """Whatever waits; new packets may come all the while, so no more than a queue holds."""
        for _ in range(QUEUE_LENGTH):
            if not self._decide():
                return

    def _decide(self) -> bool:
        """The next that wait; False if there are none."""
        now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        has_decided = False
        for identifier, data in self._queue.packets():
            if self._configuration is None:
                # Only packets for virtual addresses come here, and whose they are is not known yet.
                counter = Counter.DROP_NO_TABLE
            else:
                counter = self._judge.verdict(data, now_ns)
            self._counted[counter] += 1
            self._queue.decide(identifier, ACCEPT if passes(counter) else DROP)
            has_decided = True
        return has_decided

    def _accept(self) -> None:
        link, _ = self._listener.accept()
        link.settimeout(_MESSAGE_S)
        self._selector.register(link, selectors.EVENT_READ)

    def _obey(self, link: socket.socket) -> None:
        try:
            message = control.receive(link)
            if message is not None:
                control.send(link, self._answer(message))
                return
        except (OSError, ValueError) as error:
            log.warning("a connection is closed: %s", error)
        self._selector.unregister(link)
        link.close()

    def _answer(self, message: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"answer": self._carry_out(message)}
        except (KeyError, TypeError, ValueError, TelamonError) as error:
            log.warning("refused: %s", error)
            return {"refusal": f"the order {message.get('order')!r} is not understood: {error}"}

    def _carry_out(self, message: dict[str, Any]) -> Any:
        match message["order"]:
            case "hello":
                return control.VERSION
            case "configure":
                claim = claim_of(message["claim"])
                self._decide_all()
                self._ownership.member = int(message["member"])
                self._ownership.rules = dict(claim.addresses)
                self._judge.set_services(claim.services)
                self._configuration = message
            case "configuration":
                return self._configuration
            case "switch":
                image = control.image_in(message["image"])
                self._decide_all()
                self._ownership.images = {**self._ownership.images, int(message["table"]): image}
            case "table":
                shown = self._ownership.images.get(int(message["table"]))
                return None if shown is None else control.image_out(shown)
            case "renew":
                self._ownership.lease_until_ns = int(message["until_ns"])
            case "lease":
                return self._ownership.lease_until_ns
            case "counters":
                return {counter.name: packets for counter, packets in self._counted.items()}
            case unknown:
                raise ValueError(f"there is no order {unknown!r}")
        return None


def main() -> None:
    """Take the queue, say so on the descriptor given, and serve."""
    parser = argparse.ArgumentParser(prog="telamon-nfqueue", description=__doc__.split("\n")[0])
    parser.add_argument("--queue", type=int, required=True)
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--ready", type=int, required=True, help="descriptor to say `ready` on")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        with Queue(given.queue) as queue, _listening(given.socket) as listener:
            os.write(given.ready, b"ready")
            os.close(given.ready)
            Daemon(queue, listener).run()
    except (TelamonError, OSError) as error:
        with suppress(OSError):
            os.write(given.ready, str(error).encode())
        raise SystemExit(str(error)) from error


def _listening(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    path.chmod(0o600)
    listener.listen(_BACKLOG)
    return listener


if __name__ == "__main__":
    main()
