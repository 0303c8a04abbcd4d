"""The API's routes: HTTP in, one call of the cluster service, JSON out.

Invariants: every refusal has the body `models.Fault`; nothing a client sends can do more than be
refused. Over TLS, from other nodes, each request is answered for this node alone. Who may connect
is decided before: by the mode of the Unix socket, by the certificate over TLS.
"""

import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Annotated, Literal

from fastapi import APIRouter, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException

from telamon.agent import models
from telamon.agent.cluster_service import ClusterService
from telamon.agent.faults import fault_of
from telamon.errors import InvalidError, TelamonError
from telamon.module.store import ARCHIVE_LIMIT_BYTES

EVENTS_LIMIT = 2000
INVALID_STATUS = 422

log = logging.getLogger(__name__)

Local = Annotated[bool, Query(description="only the node that answers")]
Nodes = Annotated[list[str] | None, Query(alias="node", description="only these nodes")]


def build_api(service: ClusterService, version: str, *, is_for_nodes: bool) -> FastAPI:
    """The application for operators, or the one for other nodes."""
    api = FastAPI(title="Telamon", version=version, docs_url=None, redoc_url=None)
    api.include_router(_routes(service, always_local=is_for_nodes), prefix="/v1")
    if not is_for_nodes:
        api.include_router(_own_routes(service), prefix="/v1")
    api.add_exception_handler(TelamonError, _refuse)
    api.add_exception_handler(RequestValidationError, _refuse_form)
    api.add_exception_handler(HTTPException, _refuse_path)
    return api


def _routes(service: ClusterService, *, always_local: bool) -> APIRouter:
    routes = APIRouter()

    @routes.get("/status")
    async def status(local: Local = False) -> models.Status:
        return await (service.describe_here() if local or always_local else service.status())

    @routes.post("/modules/{module}/actions")
    async def act(
        module: str, request: models.ActionRequest, local: Local = False
    ) -> models.Results:
        if local or always_local:
            return await service.act_here(module, request)
        return await service.act(module, request)

    @routes.post("/modules")
    async def install(
        request: Request, nodes: Nodes = None, local: Local = False
    ) -> models.Results:
        archive = await _body(request)
        if local or always_local:
            return await service.install_here(archive)
        return await service.install(archive, nodes)

    @routes.delete("/modules/{module}")
    async def remove(module: str, nodes: Nodes = None, local: Local = False) -> models.Results:
        if local or always_local:
            return await service.remove_here(module)
        return await service.remove(module, nodes)

    return routes


def _own_routes(service: ClusterService) -> APIRouter:
    """What is asked on the node itself only."""
    routes = APIRouter()

    @routes.get("/cluster")
    async def cluster() -> models.ClusterDescription:
        return service.describe_cluster()

    @routes.get("/events")
    async def events(
        module: str | None = None,
        limit: Annotated[int, Query(ge=0, le=EVENTS_LIMIT)] = 50,
        follow: bool = False,
    ) -> Response:
        """JSON, one event a line."""
        recent = service.recent_events(limit, module)
        lines = (event.model_dump_json() + "\n" for event in recent)
        if not follow:
            return Response("".join(lines), media_type="application/x-ndjson")

        async def all_lines() -> AsyncIterator[str]:
            for line in lines:
                yield line
            async with contextlib.aclosing(service.follow_events(module)) as events:
                async for event in events:
                    yield event.model_dump_json() + "\n"

        return StreamingResponse(all_lines(), media_type="application/x-ndjson")

    @routes.get("/modules/{module}/owner")
    async def owner(
        module: str,
        client: str,
        client_port: Annotated[int, Query(ge=0, le=65535)] = 0,
        protocol: Literal["tcp", "udp"] = "tcp",
        port: Annotated[int | None, Query(ge=1, le=65535)] = None,
    ) -> models.FarmOwner:
        return service.farm_owner(module, protocol, client, client_port, port)

    @routes.get("/modules/{module}/table")
    async def table(module: str) -> models.FarmTable:
        return service.farm_table(module)

    @routes.post("/shutdown", status_code=204)
    async def shutdown() -> None:
        await service.stop_all()

    return routes


async def _body(request: Request) -> bytes:
    """The body, read no further than it may be long."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > ARCHIVE_LIMIT_BYTES:
            raise InvalidError(
                f"the module is larger than {ARCHIVE_LIMIT_BYTES >> 20} MiB: install a smaller one"
            )
    return bytes(body)


async def _refuse(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, TelamonError)
    status, fault = fault_of(error)
    log.info("%s %s refused: %s", request.method, request.url.path, error)
    return JSONResponse(fault.model_dump(), status_code=status)


async def _refuse_form(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    faults = [
        f"{'.'.join(str(part) for part in detail['loc'])}: {detail['msg']}"
        for detail in error.errors()
    ]
    log.warning("%s %s refused: %s", request.method, request.url.path, "; ".join(faults))
    fault = models.Fault(
        code=InvalidError.code,
        message=f"{request.method} {request.url.path} is no request of this API: see docs/json.md",
        faults=faults,
    )
    return JSONResponse(fault.model_dump(), status_code=INVALID_STATUS)


async def _refuse_path(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    log.warning("%s %s refused: %s", request.method, request.url.path, error.detail)
    fault = models.Fault(
        code="not_found",
        message=f"{request.method} {request.url.path} is not part of this API: see docs/json.md",
    )
    return JSONResponse(fault.model_dump(), status_code=error.status_code)
