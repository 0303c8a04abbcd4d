"""telamond: the agent of a node.

SIGTERM and SIGINT end the agent and nothing else: applications, virtual IPs, replication and mounts
go on, and the next agent finds them again; that is how a restart or an upgrade of the agent harms
nobody. `telamond --stop-modules` asks the running agent to stop every module in order (and to start
them again after the next boot); the unit telamon-modules.service does so when the host shuts down.
"""

import argparse
import asyncio
import http.client
import importlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from importlib.metadata import version as installed_version
from pathlib import Path

from telamon.agent.node import Node
from telamon.agent.notify import notify
from telamon.errors import InvalidError, TelamonError, UnreachableError
from telamon.net.announce import prepare_announcing
from telamon.paths import Paths

EXIT_FAILED = 1
EXIT_INVALID = 6
SHUTDOWN_LIMIT_S = 600.0
NO_CONTENT = 204

log = logging.getLogger(__name__)


def main() -> None:
    """The program's entry."""
    arguments = _arguments()
    logging.basicConfig(
        level=logging.DEBUG if arguments.debug else logging.INFO,
        format="%(levelname)s %(name)s: %(message)s"
        if "JOURNAL_STREAM" in os.environ
        else "%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    # Their lines at this level retell our own.
    for chatty in ("httpx", "httpcore", "pyroute2", "asyncio", "uvicorn"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    paths = Paths(
        arguments.configuration.absolute(), arguments.state.absolute(), arguments.run.absolute()
    )
    try:
        if arguments.stop_modules:
            _stop_modules(paths)
        else:
            asyncio.run(_run(paths))
    except TelamonError as error:
        sys.exit(_complain([error]))
    except BaseExceptionGroup as group:
        # What the world denied is a sentence; anything else is a defect, with its trace.
        of_the_world, defects = group.split(TelamonError)
        if of_the_world is None or defects is not None:
            raise
        sys.exit(_complain(_leaves(of_the_world)))


def _leaves(group: BaseExceptionGroup[TelamonError]) -> list[TelamonError]:
    found: list[TelamonError] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


def _complain(errors: Sequence[TelamonError]) -> int:
    status = EXIT_FAILED
    for error in errors:
        log.error("%s", error)
        if isinstance(error, InvalidError):
            status = EXIT_INVALID
            for fault in error.faults:
                log.error("%s", fault)
    return status


def _arguments() -> argparse.Namespace:
    paths = Paths()
    parser = argparse.ArgumentParser(
        prog="telamond",
        description="The agent of a Telamon node. SIGTERM ends the agent alone; modules go on.",
    )
    parser.add_argument(
        "--stop-modules",
        action="store_true",
        help="ask the running agent to stop every module of this node in order, wait, and end",
    )
    parser.add_argument("--configuration", type=Path, default=paths.configuration, metavar="DIR")
    parser.add_argument("--state", type=Path, default=paths.state, metavar="DIR")
    parser.add_argument("--run", type=Path, default=paths.run, metavar="DIR")
    parser.add_argument("--debug", action="store_true", help="log everything")
    return parser.parse_args()


async def _run(paths: Paths) -> None:
    version = installed_version("telamon")
    ends = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ends.set)
    node = Node(paths, version)
    async with node.running():
        # The peers hear this node before the slow imports; an agent that restarts is soon back.
        serve = (await asyncio.to_thread(importlib.import_module, "telamon.agent.serve")).serve
        await prepare_announcing()
        async with serve(node, version):
            notify("READY=1")
            log.info("node %s of cluster %s is ready", node.name, node.cluster.cluster)
            await ends.wait()
            notify("STOPPING=1")


def _stop_modules(paths: Paths) -> None:
    connection = http.client.HTTPConnection("telamon", timeout=SHUTDOWN_LIMIT_S)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(SHUTDOWN_LIMIT_S)
    try:
        connection.sock.connect(str(paths.agent_socket))
        connection.request("POST", "/v1/shutdown")
        status = connection.getresponse().status
    except OSError as error:
        raise UnreachableError(
            f"the agent does not answer on {paths.agent_socket}: {error}; its modules were not "
            "stopped"
        ) from error
    if status != NO_CONTENT:
        raise TelamonError(
            f"the agent could not stop every module (status {status}): see `telamon events`"
        )


if __name__ == "__main__":
    main()
