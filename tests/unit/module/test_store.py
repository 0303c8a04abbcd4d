"""Modules are installed whole and valid, or not at all."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from telamon.cluster import config
from telamon.cluster.config import Cluster
from telamon.cluster.creation import render
from telamon.configuration.model import Parsed
from telamon.errors import InvalidError, NotFoundError
from telamon.module.store import ModuleStore, pack_module

TEXT = """\
module: {name}
kind: mirror
nodes: [n1, n2]
virtual_ips: [{{address: {address}/24, network: lan}}]
replicate: {{port: {port}, directories: [{{path: /srv/{name}}}]}}
"""


@pytest.fixture
def cluster() -> Cluster:
    parsed = config.parse(render("east", {"n1": {"lan": "10.0.0.1"}, "n2": {"lan": "10.0.0.2"}}))
    assert isinstance(parsed, Parsed)
    return parsed.model


@pytest.fixture
def store(tmp_path: Path, cluster: Cluster) -> ModuleStore:
    return ModuleStore(tmp_path / "modules", cluster)


def _module(
    directory: Path, name: str = "db", address: str = "10.0.0.100", port: int = 7431
) -> Path:
    scripts = directory / "scripts"
    scripts.mkdir(parents=True)
    (directory / "module.yaml").write_text(TEXT.format(name=name, address=address, port=port))
    for script in ("start", "stop"):
        (scripts / script).write_text("#!/bin/sh\n")
        (scripts / script).chmod(0o755)
    return directory


def _names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_module_is_installed_replaced_and_removed(store: ModuleStore, tmp_path: Path) -> None:
    source = _module(tmp_path / "source")
    assert store.install(pack_module(source)).module == "db"
    (source / "scripts" / "extra").write_text("more")
    store.install(pack_module(source))
    installed = store.load()
    assert list(installed) == ["db"]
    assert installed["db"].faults == ()
    assert os.access(tmp_path / "modules" / "db" / "scripts" / "start", os.X_OK)
    assert (tmp_path / "modules" / "db" / "scripts" / "extra").exists()
    store.remove("db")
    assert store.load() == {}
    assert _names(tmp_path / "modules") == []


def test_every_fault_is_told_and_the_old_module_stays(store: ModuleStore, tmp_path: Path) -> None:
    source = _module(tmp_path / "source")
    store.install(pack_module(source))
    (source / "module.yaml").write_text(
        TEXT.format(name="db", address="10.0.0.1", port=7431) + "suprise: 1\n"
    )
    (source / "scripts" / "start").unlink()
    with pytest.raises(InvalidError) as raised:
        store.install(pack_module(source))
    assert any("suprise" in fault for fault in raised.value.faults)
    (source / "module.yaml").write_text(TEXT.format(name="db", address="10.0.0.1", port=7431))
    (source / "scripts" / "stop").chmod(0o644)
    with pytest.raises(InvalidError) as raised:
        store.install(pack_module(source))
    faults = "\n".join(raised.value.faults)
    assert "script 'scripts/start' is missing in the module's directory" in faults
    assert "'scripts/stop' is not executable" in faults
    assert "10.0.0.1 is a node's own address" in faults
    assert faults.startswith("module.yaml:")
    assert store.load()["db"].faults == ()
    assert _names(tmp_path / "modules") == ["db"]


def test_a_module_must_fit_the_others(store: ModuleStore, tmp_path: Path) -> None:
    store.install(pack_module(_module(tmp_path / "one")))
    with pytest.raises(InvalidError) as raised:
        store.install(pack_module(_module(tmp_path / "two", name="web")))
    faults = "\n".join(raised.value.faults)
    assert "10.0.0.100 belongs to module 'db' already" in faults
    assert "port 7431 is used by module 'db'" in faults
    store.install(pack_module(_module(tmp_path / "three", "web", "10.0.0.101", 7432)))
    assert list(store.load()) == ["db", "web"]


def test_a_faulty_module_does_not_hide_another(store: ModuleStore, tmp_path: Path) -> None:
    store.install(pack_module(_module(tmp_path / "one")))
    (tmp_path / "modules" / "broken").mkdir()
    _module(tmp_path / "modules" / "misnamed", "web", "10.0.0.101", 7432)
    loaded = store.load()
    assert loaded["db"].faults == ()
    assert "does not exist" in loaded["broken"].faults[0].message
    assert "stands in the directory 'misnamed'" in loaded["misnamed"].faults[0].message


def test_what_is_no_module_is_refused(store: ModuleStore, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="has no module"):
        pack_module(tmp_path)
    for archive in (b"", b"nonsense" * 200, bytes(1024)):
        with pytest.raises(InvalidError):
            store.install(archive)
    for name in ("db", "../modules", ".", "..", ""):
        with pytest.raises(NotFoundError):
            store.remove(name)


@pytest.mark.parametrize("kind", ["outside", "link", "device"])
def test_an_archive_cannot_reach_outside(store: ModuleStore, tmp_path: Path, kind: str) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        member = tarfile.TarInfo("../../escaped" if kind == "outside" else "member")
        if kind == "link":
            member.type, member.linkname = tarfile.SYMTYPE, "../../../etc/passwd"
        if kind == "device":
            member.type = tarfile.CHRTYPE
        archive.addfile(member, io.BytesIO())
    with pytest.raises(InvalidError):
        store.install(stream.getvalue())
    assert not (tmp_path / "escaped").exists()
    assert _names(tmp_path / "modules") == []


def test_an_interrupted_installation_is_swept_away(store: ModuleStore, tmp_path: Path) -> None:
    (tmp_path / "modules" / ".half" / "module").mkdir(parents=True)
    store.sweep()
    assert _names(tmp_path / "modules") == []
