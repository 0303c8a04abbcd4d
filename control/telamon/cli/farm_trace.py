"""`telamon farm trace`: who answers SYNs to a farm, seen from a client, and whether it is who the
table says.
"""

import asyncio
import sys
from collections import Counter
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError

from telamon.agent.models import FarmTable
from telamon.cli.exits import Exit
from telamon.cli.options import Json
from telamon.cli.output import show
from telamon.errors import InvalidError

if TYPE_CHECKING:
    from rich.console import Console

    from telamon.farm.prediction import Prediction
    from telamon.farm.probe import Probe

COUNT_LIMIT = 10_000
Address = IPv4Address | IPv6Address


def trace(
    target: Annotated[str, typer.Argument(metavar="VIP:PORT", help="[VIP]:PORT for IPv6.")],
    *,
    count: Annotated[int, typer.Option(min=1, max=COUNT_LIMIT, help="How many SYNs.")] = 100,
    source: Annotated[
        list[str] | None,
        typer.Option(metavar="ADDRESS", help="Own addresses to ask from; may be repeated."),
    ] = None,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to listen after the last.")] = 1.0,
    table: Annotated[
        Path | None,
        typer.Option(help="Compare with tables exported by `telamon farm table`; - reads stdin."),
    ] = None,
    as_json: Json = False,
) -> None:
    """From a client: send SYNs and show which nodes answer, and whether exactly one does for each.

    Needs no agent. The half-open connections are reset. Ends with 1 unless each SYN had one answer.
    """
    address, port = _target(target)
    sources = [_address(text) for text in source or []]
    if any(each.version != address.version for each in sources):
        raise InvalidError(f"--source must be of the same family as {address}")
    prediction = None if table is None else _prediction(table)
    from telamon.farm.probe import probe  # noqa: PLC0415 - loads scapy

    probes = asyncio.run(probe(address, port, count, sources=sources, wait_s=wait))
    found = [_found(one, port, prediction) for one in probes]
    summary = _summary(f"{address} port {port}", found)
    show(as_json, {**summary, "probes": found}, lambda out: _draw(out, summary))
    if summary["exactly_one"] != count or summary["other_than_predicted"]:
        raise typer.Exit(Exit.FAILED)


def _found(one: "Probe", port: int, prediction: "Prediction | None") -> dict[str, Any]:
    names = prediction.nodes_by_mac if prediction else {}
    predicted = prediction and prediction.owner("tcp", port, one.client, one.client_port)
    return {
        "client": str(one.client),
        "client_port": one.client_port,
        "answers": [
            {"mac": each.mac, "node": names.get(each.mac), "sequence": each.sequence}
            for each in sorted(one.answers)
        ],
        "refused_by": sorted(one.refusals),
        "predicted": predicted,
    }


def _summary(target: str, found: list[dict[str, Any]]) -> dict[str, Any]:
    single = [one for one in found if len(one["answers"]) == 1]
    by = Counter(one["answers"][0]["node"] or one["answers"][0]["mac"] for one in single)
    other = [
        one
        for one in single
        if one["predicted"] is not None and one["answers"][0]["node"] != one["predicted"]
    ]
    return {
        "target": target,
        "sent": len(found),
        "exactly_one": len(single),
        "unanswered": sum(not one["answers"] for one in found),
        "several": sum(len(one["answers"]) > 1 for one in found),
        "refused": sum(bool(one["refused_by"]) for one in found),
        "by_node": dict(sorted(by.items())),
        "predicted": sum(one["predicted"] is not None for one in found),
        "other_than_predicted": len(other),
    }


def _draw(out: "Console", summary: dict[str, Any]) -> None:
    sent = summary["sent"]
    for node, count in summary["by_node"].items():
        out.print(f"{node:20} {count:6} {100 * count / sent:5.1f} %", markup=False)
    out.print(
        f"{sent} SYNs to {summary['target']}: {summary['exactly_one']} answered by exactly one,"
        f" {summary['unanswered']} by nobody, {summary['several']} by several;"
        f" {summary['refused']} refused",
        markup=False,
    )
    if summary["predicted"]:
        out.print(
            f"{summary['predicted']} predicted by the table, {summary['other_than_predicted']} of"
            " them answered by another node",
            markup=False,
        )


def _target(text: str) -> tuple[Address, int]:
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or not 0 < int(port) <= 65535:
        raise InvalidError(f"{text!r} is no target: write 10.0.0.100:80 or [fd00::100]:80")
    return _address(host.removeprefix("[").removesuffix("]")), int(port)


def _address(text: str) -> Address:
    try:
        return ip_address(text)
    except ValueError:
        raise InvalidError(f"{text!r} is no IP address: write 10.0.0.100 or fd00::100") from None


def _prediction(path: Path) -> "Prediction":
    from telamon.farm.hash import Affinity  # noqa: PLC0415 - not needed without a table
    from telamon.farm.prediction import Covered, Prediction, owners_of  # noqa: PLC0415

    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text()
        exported = FarmTable.model_validate_json(text)
        owners = owners_of(exported.owners)
        services = [
            Covered(
                one.protocol,
                tuple((ports[0], ports[-1]) for ports in one.ports),
                Affinity(one.affinity),
                owners[one.share],
            )
            for one in exported.services
        ]
    except (OSError, ValidationError, ValueError, IndexError) as error:
        raise InvalidError(
            f"{path} holds no table ({str(error).splitlines()[0]}): write it with `telamon farm"
            " table` on a node"
        ) from error
    return Prediction(
        exported.seed,
        services,
        {node.number: name for name, node in exported.nodes.items()},
        {mac: name for name, node in exported.nodes.items() for mac in node.macs},
    )
