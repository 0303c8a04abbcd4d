"""Giving an order: the options that every order has, and what becomes of it on each node."""

from collections.abc import Sequence
from typing import Annotated

import typer

from telamon.agent.models import ActionKind, ActionRequest
from telamon.cli.options import agent_of
from telamon.cli.output import finish
from telamon.cli.waiting import wait_until_done

Force = Annotated[bool, typer.Option("--force", help="The forced variant; see docs/operation.md.")]
Wait = Annotated[bool, typer.Option("--wait", help="Return when it is carried out.")]
Timeout = Annotated[float, typer.Option(min=0, help="Seconds that --wait waits.")]
TIMEOUT_S = 120.0


def order(
    context: typer.Context,
    module: str,
    action: ActionKind,
    nodes: Sequence[str] | None = None,
    *,
    force: bool = False,
    wait: bool,
    timeout: float,
    as_json: bool,
) -> None:
    """Gives an order to the nodes named, else to those that it concerns; shows each one's answer,
    and with `wait` returns when those that accepted have carried it out.
    """
    agent = agent_of(context)
    request = ActionRequest(action=action, nodes=list(nodes) if nodes else None, force=force)
    results = agent.act(module, request)
    accepted = [node for node, result in results.nodes.items() if result.accepted]
    if wait and accepted:
        wait_until_done(agent, module, action, accepted, timeout)
    finish(results, f"{action} is {'done' if wait else 'accepted'}", as_json=as_json)
