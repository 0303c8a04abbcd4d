"""A node's agent, asked and ordered about through its socket from outside of the host: fast enough
to ask ten times a second.
"""

import httpx

from telamon.agent.models import ActionKind, ActionRequest, Event, FarmOwner, Results, Status
from telamon.errors import RefusedError, UnreachableError
from telamon.lab.host import RunningHost
from telamon.paths import Paths

_TIMEOUT_S = 5.0


def status(host: RunningHost) -> Status:
    """The state of this node and of its side of every module."""
    return Status.model_validate_json(_ask(host, "GET", "/v1/status?local=true"))


def events(host: RunningHost, limit: int = 200) -> list[Event]:
    """The newest events of this node, oldest first."""
    lines = _ask(host, "GET", f"/v1/events?limit={limit}").splitlines()
    return [Event.model_validate_json(line) for line in lines]


def order(host: RunningHost, module: str, action: ActionKind, nodes: list[str]) -> None:
    """Orders nodes through this one; returns when all have accepted."""
    request = ActionRequest(action=action, nodes=nodes).model_dump_json()
    answer = _ask(host, "POST", f"/v1/modules/{module}/actions", request)
    for node, result in Results.model_validate_json(answer).nodes.items():
        if not result.accepted:
            raise RefusedError(f"{node} does not {action} {module}: {result.message}")


def farm_owner(host: RunningHost, module: str, client: str, client_port: int) -> FarmOwner:
    """Who gets a client of a farm's first service, by this node's table."""
    path = f"/v1/modules/{module}/owner?client={client}&client_port={client_port}&protocol=tcp"
    return FarmOwner.model_validate_json(_ask(host, "GET", path))


def _ask(host: RunningHost, method: str, path: str, body: str | None = None) -> bytes:
    socket = str(host.path(Paths().agent_socket))
    # Without the certificates of the machine, whose reading would take longer than the answer.
    transport = httpx.HTTPTransport(verify=False, trust_env=False, uds=socket)
    headers = {"Content-Type": "application/json"} if body is not None else {}
    try:
        with httpx.Client(transport=transport, trust_env=False, timeout=_TIMEOUT_S) as client:
            url = f"http://{host.name}{path}"
            answer = client.request(method, url, content=body, headers=headers)
            if answer.is_client_error:
                raise RefusedError(f"{host.name} refuses {method} {path}: {answer.text}")
            answer.raise_for_status()
            return answer.content
    except httpx.HTTPError as error:
        raise UnreachableError(
            f"the agent of {host.name} does not answer {path}: {error}; see the host's log, which"
            " `telamon lab list --json` names"
        ) from error
