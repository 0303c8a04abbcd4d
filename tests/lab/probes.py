"""A load balancer's look at health endpoints: from the client host, as an outsider asks."""

import json
import sys
from dataclasses import dataclass

from telamon.lab.lab import Lab

PORT = 9010
PATH = "/ready"

_ASK = """
import http.client, json, sys
answers = {}
for host in sys.argv[2:]:
    connection = http.client.HTTPConnection(host, 9010, timeout=3)
    try:
        connection.request(sys.argv[1], "/ready")
        answer = connection.getresponse()
        answers[host] = [answer.status, answer.read().decode().strip()]
    except OSError as error:
        answers[host] = [0, type(error).__name__]
    finally:
        connection.close()
print(json.dumps(answers))
"""

HEALTH = {"port": PORT, "path": PATH}


@dataclass(frozen=True, slots=True)
class Probe:
    """Asks the nodes by their addresses on the network `lan`."""

    lab: Lab
    addresses: dict[str, str]

    def ask(self, method: str = "GET") -> dict[str, tuple[int, str]]:
        """What each node answers: status and text, or 0 and the error's name."""
        command = [sys.executable, "-c", _ASK, method, *self.addresses.values()]
        answers = json.loads(self.lab.host("c1").run(command, timeout_s=30.0).stdout)
        return {node: tuple(answers[address]) for node, address in self.addresses.items()}

    def statuses(self) -> dict[str, int]:
        """What each node answers, without its reason."""
        return {node: status for node, (status, _) in self.ask().items()}
