"""Mirror modules of plain directories, without an application of their own."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import yaml

from telamon.lab.host import RunningHost
from telamon.lab.lab import Lab
from telamon.lab.mirror import MirrorInLab
from telamon.lab.oracles.tree import describe

MODULE = "files"
DIRECTORY = "/srv/data"
START_TIMEOUT_S = 60.0
STEP_TIMEOUT_S = 120.0


def make_module(
    host: RunningHost,
    directories: Sequence[str] = (DIRECTORY,),
    of_directory: Mapping[str, object] = MappingProxyType({}),
    **replicate: object,
) -> Path:
    """Writes a module without an application; returns its directory in the host. `of_directory` are
    further keys of each directory.
    """
    source = Path("/run/module")
    module = {
        "module": MODULE,
        "kind": "mirror",
        "nodes": ["n1", "n2"],
        "virtual_ips": [{"address": "10.0.0.100/24", "network": "lan"}],
        "replicate": {
            "directories": [{"path": _in_yaml(one), **of_directory} for one in directories],
            **replicate,
        },
    }
    host.write(source / "module.yaml", yaml.safe_dump(module))
    for script in ("start", "stop"):
        host.write(source / "scripts" / script, "#!/bin/sh\n", mode=0o755)
    return source


def _in_yaml(path: str) -> str | bytes:
    """A path that is not UTF-8 is written as `!!binary`."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return os.fsencode(path)
    return path


def installed(
    lab: Lab,
    directories: Sequence[str] = (DIRECTORY,),
    of_directory: Mapping[str, object] = MappingProxyType({}),
    **replicate: object,
) -> MirrorInLab:
    """A mirror of plain directories on both nodes, not started."""
    excludes = of_directory.get("exclude", ())
    assert isinstance(excludes, Sequence)
    mirror = MirrorInLab(lab, MODULE, dict.fromkeys(directories, excludes))
    for node in lab.spec.nodes:
        for directory in directories:
            lab.host(node.name).run(["mkdir", "--parents", directory])
    mirror.install(make_module(lab.host("n1"), directories, of_directory, **replicate))
    return mirror


@contextmanager
def mirrored(
    name: str,
    lab_file: str,
    directories: Sequence[str] = (DIRECTORY,),
    of_directory: Mapping[str, object] = MappingProxyType({}),
    **replicate: object,
) -> Iterator[MirrorInLab]:
    """A lab whose n1 is primary of mirrored directories, with n2 in step."""
    with Lab.up(name, lab_file) as lab:
        mirror = installed(lab, directories, of_directory, **replicate)
        mirror.begin("n1", START_TIMEOUT_S)
        mirror.await_in_step(START_TIMEOUT_S)
        yield mirror


def assert_equal_trees(mirror: MirrorInLab) -> None:
    """The dual-tree oracle, once everything is shipped."""
    mirror.await_in_step(STEP_TIMEOUT_S)
    differences = mirror.differences()
    assert not differences, describe(differences)
