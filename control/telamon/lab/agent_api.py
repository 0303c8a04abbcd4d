"""What a node's agent says of its own node, asked through its socket from outside of the host: fast
enough to ask ten times a second.
"""

import httpx

from telamon.agent.models import Event, Status
from telamon.errors import UnreachableError
from telamon.lab.host import RunningHost
from telamon.paths import Paths

_TIMEOUT_S = 5.0


def status(host: RunningHost) -> Status:
    """The state of this node and of its side of every module."""
    return Status.model_validate_json(_get(host, "/v1/status?local=true"))


def events(host: RunningHost, limit: int = 200) -> list[Event]:
    """The newest events of this node, oldest first."""
    lines = _get(host, f"/v1/events?limit={limit}").splitlines()
    return [Event.model_validate_json(line) for line in lines]


def _get(host: RunningHost, path: str) -> bytes:
    transport = httpx.HTTPTransport(uds=str(host.path(Paths().agent_socket)))
    try:
        with httpx.Client(transport=transport, timeout=_TIMEOUT_S) as client:
            answer = client.get(f"http://{host.name}{path}")
            answer.raise_for_status()
            return answer.content
    except httpx.HTTPError as error:
        raise UnreachableError(
            f"the agent of {host.name} does not answer {path}: {error}; see the host's log, which"
            " `telamon lab list --json` names"
        ) from error
