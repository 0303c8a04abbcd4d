"""`telamon cluster`: make a cluster, join one, look at it."""

import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from telamon.cli.options import Json, agent_of, group, paths_of
from telamon.cli.output import show
from telamon.errors import InvalidError, RefusedError

if TYPE_CHECKING:
    from rich.console import Console

app = group("cluster", "Make, join and show the cluster.")

Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace the cluster this host belongs to.")
]


@app.command()
def init(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME")],
    *,
    nodes: Annotated[
        list[str],
        typer.Option(
            "--node",
            metavar="NODE=NETWORK:ADDRESS,...",
            help="A node and its address on each network; once for each node.",
        ),
    ],
    replication: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NETWORK=preferred|allowed|never",
            help="Whether mirrored data travels on a network; allowed unless said otherwise.",
        ),
    ] = None,
    this_node: Annotated[
        str | None, typer.Option(help="Which node this host is; else the one whose address it has.")
    ] = None,
    bundles: Annotated[
        Path, typer.Option(help="Where to write the bundles for the other nodes.")
    ] = Path(),
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Make a cluster: files for this host, a bundle for every other node."""
    from telamon.cluster.creation import create, pack, render  # noqa: PLC0415 - slow, used only here
    from telamon.cluster.credentials import write_files  # noqa: PLC0415

    described = dict(_node(text) for text in nodes)
    roots = paths_of(context)
    _refuse_overwriting(roots.cluster_file, overwrite)
    own = this_node or _node_of_this_host(described)
    if own not in described:
        raise InvalidError(f"--this-node {own} is none of the nodes: {', '.join(described)}")
    new = create(render(name, described, dict(_replication(text) for text in replication or [])))
    written = {}
    for node, files in new.files.items():
        if node != own:
            path = bundles / f"{name}-{node}.bundle"
            path.unlink(missing_ok=True)
            path.touch(mode=0o600)
            path.write_bytes(pack(files))
            written[node] = str(path)
    write_files(roots.configuration, new.files_of_first(own))

    def draw(out: "Console") -> None:
        out.print(f"this host is node {own} of cluster {name}: start telamond", markup=False)
        for node, path in written.items():
            out.print(
                f"{node}: copy {path} there, run `telamon cluster join {Path(path).name}`, and "
                "delete the bundle: it holds "
                "the node's private key",
                markup=False,
                soft_wrap=True,
            )

    show(as_json, {"cluster": name, "id": new.cluster.id, "node": own, "bundles": written}, draw)


@app.command()
def join(
    context: typer.Context,
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE")],
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Make this host the node that a BUNDLE of `telamon cluster init` is for."""
    from telamon.cluster.creation import unpack  # noqa: PLC0415 - slow, used only here
    from telamon.cluster.credentials import read_identity, write_files  # noqa: PLC0415

    roots = paths_of(context)
    _refuse_overwriting(roots.cluster_file, overwrite)
    write_files(roots.configuration, unpack(bundle))
    identity = read_identity(roots.configuration)
    show(
        as_json,
        {"id": identity.cluster_id, "node": identity.node},
        lambda out: out.print(f"this host is node {identity.node}: start telamond", markup=False),
    )


@app.command("show")
def show_cluster(context: typer.Context, as_json: Json = False) -> None:
    """Show nodes and networks as configured."""
    cluster = agent_of(context).cluster()

    def draw(out: "Console") -> None:
        out.print(
            f"cluster {cluster.name}, on node {cluster.node}: {cluster.configuration}", markup=False
        )
        for node, described in cluster.nodes.items():
            shown = "  ".join(f"{network} {at}" for network, at in described.addresses.items())
            out.print(f"{node:<16} {shown}", markup=False)

    show(as_json, cluster.model_dump(mode="json"), draw)


def _node(text: str) -> tuple[str, dict[str, str]]:
    name, separator, rest = text.partition("=")
    addresses = dict(part.partition(":")[::2] for part in rest.split(","))
    if not separator or not all(addresses.values()):
        raise InvalidError(
            f"--node {text!r} is not of the form NODE=NETWORK:ADDRESS,...: write for example "
            "n1=lan:10.0.0.1,repl:10.1.0.1"
        )
    return name, addresses


def _replication(text: str) -> tuple[str, str]:
    network, separator, how = text.partition("=")
    if not separator:
        raise InvalidError(
            f"--replication {text!r} is not of the form NETWORK=preferred|allowed|never"
        )
    return network, how


def _node_of_this_host(nodes: dict[str, dict[str, str]]) -> str:
    found = [
        node
        for node, addresses in nodes.items()
        if any(_is_own(address) for address in addresses.values())
    ]
    if len(found) != 1:
        raise InvalidError(
            f"this host has an address of {', '.join(found) or 'none of the nodes'}: say with "
            "--this-node which node it is"
        )
    return found[0]


def _is_own(address: str) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def _refuse_overwriting(cluster_file: Path, overwrite: bool) -> None:
    if cluster_file.exists() and not overwrite:
        raise RefusedError(
            f"this host belongs to a cluster already ({cluster_file}): stop its modules and say "
            "--overwrite to replace it"
        )
