"""Reading modules from disk: module.yaml and the scripts it names.

Invariant: every fault of a module is found in one go, those of its scripts included; a faulty
module does not hide another.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from telamon.cluster.config import Cluster
from telamon.configuration.fault import Fault
from telamon.configuration.file import read_text
from telamon.errors import TelamonError
from telamon.module import config
from telamon.module.config import AnyModule, ParsedModule
from telamon.module.path import printable

FILE = "module.yaml"


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a module's directory holds: the module, or the reasons why it is none."""

    directory: Path
    parsed: ParsedModule | None
    faults: tuple[Fault, ...] = ()

    @property
    def model(self) -> AnyModule:
        """The module; only to be asked for when there are no faults."""
        assert self.parsed is not None
        return self.parsed.model


def load_module(directory: Path) -> Loaded:
    """Reads one module's directory."""
    file = str(directory / FILE)
    try:
        parsed = config.parse(
            read_text(directory / FILE, "a module is a directory with a module.yaml"), file
        )
    except TelamonError as error:
        return Loaded(directory, None, (Fault(file, 0, str(error)),))
    if isinstance(parsed, tuple):
        return Loaded(directory, None, parsed)
    faults = tuple(_script_faults(directory, parsed))
    return Loaded(directory, parsed, faults)


def load_modules(modules: Path) -> dict[str, Loaded]:
    """Every installed module by the name of its directory."""
    found: dict[str, Loaded] = {}
    for directory in sorted(modules.iterdir()) if modules.is_dir() else []:
        if directory.name.startswith(".") or not directory.is_dir():
            continue
        loaded = load_module(directory)
        if loaded.parsed is not None and loaded.model.module != directory.name:
            message = (
                f"module: {loaded.model.module!r} stands in the directory {directory.name!r}; "
                "install it with `telamon module install`"
            )
            wrong = loaded.parsed.document.fault(("module",), message)
            loaded = Loaded(directory, loaded.parsed, (*loaded.faults, wrong))
        found[directory.name] = loaded
    return found


def relation_faults(loaded: Iterable[Loaded], cluster: Cluster) -> tuple[Fault, ...]:
    """Faults between modules and cluster, of those that are well formed in themselves."""
    return config.relate([one.parsed for one in loaded if one.parsed is not None], cluster)


def _script_faults(directory: Path, parsed: ParsedModule) -> Iterator[Fault]:
    application = parsed.model.application
    named = [
        (("application", "start"), application.start),
        (("application", "stop"), application.stop),
        *(
            (("checks", index, "custom", "script"), check.custom.script)
            for index, check in enumerate(parsed.model.checks)
            if check.custom is not None
        ),
    ]
    for location, name in named:
        script = directory / name
        if not script.is_file():
            yield parsed.document.fault(
                location, f"script {printable(name)} is missing in the module's directory: add it"
            )
        elif not os.access(script, os.X_OK):
            yield parsed.document.fault(
                location, f"script {printable(name)} is not executable: run `chmod +x` on it"
            )
