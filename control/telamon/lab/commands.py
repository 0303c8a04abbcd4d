"""`telamon lab`: hosts on this machine, made of namespaces.

Every command but `exec` answers with the state of the lab after it, in JSON if asked. Errors leave
as TelamonError; the program's main function shows them.
"""

from collections.abc import Callable
from pathlib import Path
from signal import Signals
from typing import Annotated

import typer
from rich.console import Console

from telamon.cli.options import Json, group
from telamon.errors import InvalidError, NotFoundError
from telamon.lab.enter import execute
from telamon.lab.lab import Lab, down, labs
from telamon.lab.network import Direction
from telamon.lab.process import Daemon
from telamon.lab.report import show
from telamon.lab.spec import DEFAULT

app = group("lab", "Hosts on this machine, made of namespaces.")

Name = Annotated[str, typer.Option("--name", help="Which lab; several may be up at once.")]
HostName = Annotated[str, typer.Argument(metavar="HOST")]
Which = Annotated[Daemon, typer.Argument(metavar="agent|replicator")]
NetworkName = Annotated[
    str | None, typer.Option("--network", help="Only this network, instead of all of the host's.")
]
Directions = Annotated[
    Direction, typer.Option("--direction", help="What the host receives, what it sends, or both.")
]


@app.command()
def up(
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="A lab.yaml.")] = None,
    name: Name = "lab",
    as_json: Json = False,
) -> None:
    """Make a lab. Without a file: nodes n1 and n2 on `lan` and `repl`, client c1 on `lan`."""
    if file is None:
        lab = Lab.up(name, DEFAULT, "the built-in lab", is_attached=False)
    else:
        lab = Lab.up(name, _text(file), str(file), is_attached=False)
    show([lab], as_json)


@app.command("list")
def list_labs(as_json: Json = False) -> None:
    """Show every lab that is up: its hosts, what runs on them, what is cut."""
    show([Lab(name) for name in labs()], as_json)


@app.command("exec")
def execute_command(
    host: HostName,
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND…")],
    name: Name = "lab",
) -> None:
    """Run a command in a host: with these streams, this terminal, and its exit status.

    The host has its own /run and /etc/telamon; /tmp is the machine's. 127: no such command;
    128 + n: ended by signal n.
    """
    raise typer.Exit(execute(Lab(name).host(host), command))


@app.command()
def cut(
    host: HostName,
    network: NetworkName = None,
    direction: Directions = Direction.BOTH,
    name: Name = "lab",
    as_json: Json = False,
) -> None:
    """Drop everything between a host and its networks, silently, as a failed switch does."""
    _change(name, as_json, lambda lab: lab.cut(host, network, direction))


@app.command()
def heal(
    host: HostName,
    network: NetworkName = None,
    direction: Directions = Direction.BOTH,
    name: Name = "lab",
    as_json: Json = False,
) -> None:
    """End cuts."""
    _change(name, as_json, lambda lab: lab.heal(host, network, direction))


@app.command()
def kill(
    host: HostName,
    daemon: Which,
    signal: Annotated[str, typer.Option("--signal", help="A name or a number.")] = "KILL",
    name: Name = "lab",
    as_json: Json = False,
) -> None:
    """Send a signal to a node's agent or replicator. The agent is started again after a second."""
    _change(name, as_json, lambda lab: lab.host(host).signal(daemon, _signal(signal)))


@app.command()
def pause(host: HostName, daemon: Which, name: Name = "lab", as_json: Json = False) -> None:
    """Stop an agent or replicator where it stands, as a hanging machine would."""
    _change(name, as_json, lambda lab: lab.host(host).signal(daemon, Signals.SIGSTOP))


@app.command()
def resume(host: HostName, daemon: Which, name: Name = "lab", as_json: Json = False) -> None:
    """Let a paused agent or replicator go on."""
    _change(name, as_json, lambda lab: lab.host(host).signal(daemon, Signals.SIGCONT))


@app.command()
def off(host: HostName, name: Name = "lab", as_json: Json = False) -> None:
    """Power failure: everything of the host is gone but what its disk had flushed."""
    _change(name, as_json, lambda lab: lab.off(host))


@app.command()
def on(host: HostName, name: Name = "lab", as_json: Json = False) -> None:
    """Boot a host that is off."""
    _change(name, as_json, lambda lab: lab.on(host))


@app.command("down")
def take_down(name: Name = "lab", as_json: Json = False) -> None:
    """End a lab. It leaves nothing, whatever state it is in."""
    down(name)
    show([Lab(other) for other in labs()], as_json)


@app.command()
def demo(name: Name = "demo") -> None:
    """PostgreSQL survives the loss of its node. Exit status 0 only if nothing was lost."""
    from telamon.lab.demo.story import tell  # noqa: PLC0415 -- its libraries are the demo's alone

    raise typer.Exit(0 if tell(name, Console()) else 1)


@app.command("demo-farm")
def demo_farm(
    name: Name = "demo-farm",
    work: Annotated[float, typer.Option(min=0.1, help="Seconds between two changes.")] = 4.0,
) -> None:
    """A farm loses, regains and drains nodes. Exit status 0 only if no other connection broke."""
    from telamon.lab.demo.farm_story import tell  # noqa: PLC0415 -- its libraries are the demo's

    raise typer.Exit(0 if tell(name, work, Console()) else 1)


def _change(name: str, as_json: bool, change: Callable[[Lab], None]) -> None:
    """Changes one lab and shows what came of it."""
    lab = Lab(name)
    change(lab)
    show([lab], as_json)


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError as error:
        raise NotFoundError(
            f"{file} cannot be read: {error.strerror}; name a lab.yaml, or none at all"
        ) from error
    except UnicodeDecodeError as error:
        raise InvalidError(f"{file} is not UTF-8 text: name a lab.yaml") from error


def _signal(text: str) -> Signals:
    word = text.upper().removeprefix("SIG")
    try:
        return Signals(int(word)) if word.isdecimal() else Signals[f"SIG{word}"]
    except (KeyError, ValueError):
        raise InvalidError(
            f"{text} is not a signal: write a name such as TERM or a number such as 15"
        ) from None
