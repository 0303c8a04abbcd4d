"""The agent's API as the command line uses it: one request on the Unix socket, its answer as a
model or an error.

The standard library's HTTP client, because the command must be quick to start.
"""

import http.client
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote, urlencode

from pydantic import ValidationError

from telamon.agent.models import (
    ActionRequest,
    ApiModel,
    ClusterDescription,
    Event,
    FarmOwner,
    FarmTable,
    Fault,
    Results,
    Status,
)
from telamon.errors import (
    InvalidError,
    NotFoundError,
    RefusedError,
    TelamonError,
    TimedOutError,
    UnreachableError,
)

QUESTION_LIMIT_S = 15.0
"""The agent answers from memory, and waits for others shorter than this."""
ORDER_LIMIT_S = 90.0
OK = range(200, 300)
M = TypeVar("M", bound=ApiModel)

_ERRORS = {
    kind.code: kind for kind in (NotFoundError, RefusedError, TimedOutError, UnreachableError)
}


class _UnixConnection(http.client.HTTPConnection):
    """HTTP on a Unix socket."""

    def __init__(self, path: Path, limit_s: float | None) -> None:
        super().__init__("telamon", timeout=limit_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Agent:
    """The agent of this node."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def status(self, limit_s: float | None = None) -> Status:
        """Everything, as far as the agent reaches."""
        return self._parse(Status, self._ask("GET", "/v1/status", limit_s=limit_s))

    def cluster(self) -> ClusterDescription:
        """The cluster as configured."""
        return self._parse(ClusterDescription, self._ask("GET", "/v1/cluster"))

    def act(self, module: str, request: ActionRequest) -> Results:
        """Gives an order."""
        path = f"/v1/modules/{quote(module, safe='')}/actions"
        return self._parse(Results, self._ask("POST", path, request.model_dump_json().encode()))

    def farm_owner(
        self, module: str, client: str, client_port: int, protocol: str, port: str
    ) -> FarmOwner:
        """Who gets a client of a farm; an empty port stands for the first service's."""
        query = {"client": client, "client_port": str(client_port), "protocol": protocol}
        if port:
            query["port"] = port
        path = f"/v1/modules/{quote(module, safe='')}/owner?{urlencode(query)}"
        return self._parse(FarmOwner, self._ask("GET", path))

    def farm_table(self, module: str) -> FarmTable:
        """The tables of a farm in force on this node."""
        path = f"/v1/modules/{quote(module, safe='')}/table"
        return self._parse(FarmTable, self._ask("GET", path))

    def install(self, archive: bytes, nodes: list[str]) -> Results:
        """Installs a module."""
        path = f"/v1/modules?{urlencode([('node', node) for node in nodes])}"
        return self._parse(Results, self._ask("POST", path, archive, "application/x-tar"))

    def remove(self, module: str, nodes: list[str]) -> Results:
        """Removes a module."""
        query = urlencode([("node", node) for node in nodes])
        return self._parse(
            Results, self._ask("DELETE", f"/v1/modules/{quote(module, safe='')}?{query}")
        )

    def events(self, *, module: str | None, limit: int, follow: bool) -> Iterator[Event]:
        """Events of this node; with `follow` until the agent ends."""
        query = {"limit": str(limit), "follow": str(follow).lower()}
        if module is not None:
            query["module"] = module
        connection = _UnixConnection(self._path, None if follow else QUESTION_LIMIT_S)
        try:
            answer = self._send(connection, "GET", f"/v1/events?{urlencode(query)}")
            for line in answer:
                yield self._parse(Event, line)
        except (OSError, http.client.HTTPException) as error:
            raise self._silent(error) from error
        finally:
            connection.close()

    def _ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        content_type: str = "application/json",
        *,
        limit_s: float | None = None,
    ) -> bytes:
        limit_s = limit_s or (QUESTION_LIMIT_S if method == "GET" else ORDER_LIMIT_S)
        connection = _UnixConnection(self._path, limit_s)
        try:
            return self._send(connection, method, path, body, content_type).read()
        except (OSError, http.client.HTTPException) as error:
            raise self._silent(error) from error
        finally:
            connection.close()

    def _send(
        self,
        connection: _UnixConnection,
        method: str,
        path: str,
        body: bytes | None = None,
        content_type: str = "application/json",
    ) -> http.client.HTTPResponse:
        headers = {"Content-Type": content_type} if body is not None else {}
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        if answer.status not in OK:
            raise self._error(answer.read())
        return answer

    def _error(self, body: bytes) -> TelamonError:
        fault = self._parse(Fault, body)
        if fault.code == InvalidError.code:
            return InvalidError(fault.message, tuple(fault.faults))
        return _ERRORS.get(fault.code, TelamonError)(fault.message)

    def _silent(self, error: Exception) -> TelamonError:
        if isinstance(error, PermissionError):
            return UnreachableError(
                f"{self._path} may be used by root and the group telamon only: use sudo, or join "
                "the group"
            )
        if isinstance(error, FileNotFoundError | ConnectionRefusedError):
            return UnreachableError(
                f"no agent answers on {self._path}: start it with `systemctl start telamond`"
            )
        if isinstance(error, TimeoutError):
            return UnreachableError(
                f"the agent on {self._path} does not answer: it hangs, as when its disk does, or is"
                " overloaded; its log is in `journalctl -u telamond`, and `systemctl restart"
                " telamond` touches no application"
            )
        return UnreachableError(
            f"the agent on {self._path} broke off ({type(error).__name__} {error}): see its log "
            "with `journalctl -u telamond`"
        )

    def _parse(self, model: type[M], body: bytes) -> M:
        try:
            return model.model_validate_json(body)
        except ValidationError as error:
            raise TelamonError(
                "the agent answers in another version's form: bring `telamon` and `telamond` to "
                "the same version"
            ) from error
