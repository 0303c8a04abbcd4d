"""Mirror modules for the tests: a directory without an application, or PostgreSQL."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

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
    host: RunningHost, directories: Sequence[str] = (DIRECTORY,), **replicate: object
) -> Path:
    """Writes a module without an application; returns its directory in the host."""
    source = Path("/run/module")
    module = {
        "module": MODULE,
        "kind": "mirror",
        "nodes": ["n1", "n2"],
        "virtual_ips": [{"address": "10.0.0.100/24", "network": "lan"}],
        "replicate": {"directories": [{"path": one} for one in directories], **replicate},
    }
    host.write(source / "module.yaml", yaml.safe_dump(module))
    for script in ("start", "stop"):
        host.write(source / "scripts" / script, "#!/bin/sh\n", mode=0o755)
    return source


def installed(
    lab: Lab, directories: Sequence[str] = (DIRECTORY,), **replicate: object
) -> MirrorInLab:
    """A mirror of plain directories on both nodes, not started."""
    mirror = MirrorInLab(lab, MODULE, dict.fromkeys(directories, ()))
    for node in lab.spec.nodes:
        for directory in directories:
            lab.host(node.name).run(["mkdir", "--parents", directory])
    mirror.install(make_module(lab.host("n1"), directories, **replicate))
    return mirror


@contextmanager
def mirrored(name: str, lab_file: str, **replicate: object) -> Iterator[MirrorInLab]:
    """A lab whose n1 is primary of a mirrored directory, with n2 in step."""
    with Lab.up(name, lab_file) as lab:
        mirror = installed(lab, **replicate)
        mirror.begin("n1", START_TIMEOUT_S)
        mirror.await_in_step(START_TIMEOUT_S)
        yield mirror


def assert_equal_trees(mirror: MirrorInLab) -> None:
    """The dual-tree oracle, once everything is shipped."""
    mirror.await_in_step(STEP_TIMEOUT_S)
    differences = mirror.differences()
    assert not differences, describe(differences)
