"""`telamon config`: check configuration files, without a daemon."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from telamon.cli.options import Json, group, paths_of
from telamon.cli.output import show
from telamon.cluster import config as cluster_config
from telamon.cluster.config import Cluster
from telamon.configuration.fault import Fault, refuse
from telamon.configuration.file import read_text
from telamon.errors import NotFoundError, TelamonError
from telamon.module.loading import FILE, Loaded, load_module, load_modules, relation_faults
from telamon.paths import Paths

if TYPE_CHECKING:
    from rich.console import Console

app = group("config", "Check configuration files.")

CURE = "`telamon cluster init` makes one"


@app.callback()
def _group() -> None:
    """Check configuration files."""


@app.command()
def check(
    context: typer.Context,
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[PATH]...",
            help="A cluster.yaml, a module.yaml or a module's directory; else all installed.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Find every fault of the configuration at once. Needs no agent."""
    roots = paths_of(context)
    checked, faults = _check_named(paths, roots) if paths else _check_installed(roots)
    if faults:
        raise refuse(faults)

    def draw(out: "Console") -> None:
        for path in checked:
            out.print(f"{path}: no faults", markup=False)

    show(as_json, {"checked": [str(path) for path in checked], "faults": []}, draw)


def _check_installed(roots: Paths) -> tuple[list[Path], list[Fault]]:
    cluster, faults = _cluster(roots.cluster_file)
    modules = load_modules(roots.modules)
    faults += [fault for module in modules.values() for fault in module.faults]
    if cluster is not None:
        faults += relation_faults(modules.values(), cluster)
    return [roots.cluster_file, *(module.directory for module in modules.values())], faults


def _check_named(paths: list[Path], roots: Paths) -> tuple[list[Path], list[Fault]]:
    """Modules are also checked against the named cluster.yaml, else the installed one if there is
    one.
    """
    faults: list[Fault] = []
    cluster: Cluster | None = None
    modules: list[Loaded] = []
    for path in paths:
        if not path.exists():
            raise NotFoundError(
                f"{path} does not exist: name a cluster.yaml, a module.yaml or a module's directory"
            )
        if path.is_dir() or path.name == FILE:
            module = load_module(path if path.is_dir() else path.parent)
            modules.append(module)
            faults += module.faults
        else:
            cluster, found = _cluster(path)
            faults += found
    if cluster is None and modules and roots.cluster_file.exists():
        cluster, _ = _cluster(roots.cluster_file)
    if cluster is not None:
        faults += relation_faults(modules, cluster)
    return list(paths), faults


def _cluster(path: Path) -> tuple[Cluster | None, list[Fault]]:
    try:
        parsed = cluster_config.parse(read_text(path, CURE), str(path))
    except TelamonError as error:
        return None, [Fault(str(path), 0, str(error))]
    return (None, list(parsed)) if isinstance(parsed, tuple) else (parsed.model, [])
