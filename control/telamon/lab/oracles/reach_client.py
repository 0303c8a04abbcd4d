"""A client that asks again and again whether a service answers, and writes when it did: on a host
that does not fail, so that the longest silence is the gap that users see.

Every question is a new connection that gives up soon: a SYN that is lost would be sent again only
after a second, and the gap would be known to the second only. An answer is any byte. The log has
the form of commit_client.py's: a number and the time (CLOCK_MONOTONIC, ns) for every answer.

    python -S -E reach_client.py ADDRESS PORT > LOG
"""

import socket
import sys
import time
from itertools import count

_LIMIT_S = 0.05
_PAUSE_S = 0.01


def ask(address: str, port: int) -> bool:
    """Whether the service answers now."""
    try:
        with socket.create_connection((address, port), _LIMIT_S) as connection:
            return bool(connection.recv(1))
    except OSError:
        return False


if __name__ == "__main__":
    for number in count(1):
        if ask(sys.argv[1], int(sys.argv[2])):
            print(number, time.monotonic_ns(), flush=True)
        time.sleep(_PAUSE_S)
