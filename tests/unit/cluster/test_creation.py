"""A new cluster: its files pass the check, its bundles come back whole."""

from pathlib import Path

import pytest

from telamon.cluster import config
from telamon.cluster.creation import CONFIGURATION, create, pack, render, unpack
from telamon.cluster.credentials import AUTHORITY_KEY, Identity, read_identity, write_files
from telamon.configuration.model import Parsed
from telamon.errors import InvalidError, NotFoundError

NODES = {
    "n1": {"lan": "10.0.0.1", "repl": "fd01::1"},
    "n2": {"lan": "10.0.0.2", "repl": "fd01::2"},
}


def test_the_rendered_file_passes_the_check() -> None:
    parsed = config.parse(render("east", NODES, {"repl": "preferred"}))
    assert isinstance(parsed, Parsed)
    assert parsed.model.replication_networks() == ("repl", "lan")
    assert [node.name for node in parsed.model.nodes] == ["n1", "n2"]


def test_a_name_that_looks_like_a_number_stays_a_name() -> None:
    parsed = config.parse(render("7", {"1": {"2": "10.0.0.1"}}))
    assert isinstance(parsed, Parsed)
    assert parsed.model.cluster == "7"


def test_every_fault_is_told(tmp_path: Path) -> None:
    nodes = {"n1": {"lan": "10.0.0.1"}, "n2": {"lan": "10.0.0.1", "repl": "no"}}
    with pytest.raises(InvalidError) as raised:
        create(render("east", nodes))
    assert len(raised.value.faults) >= 1


def test_a_bundle_makes_a_host_that_node(tmp_path: Path) -> None:
    new = create(render("east", NODES))
    assert AUTHORITY_KEY in new.files_of_first("n1")
    assert AUTHORITY_KEY not in new.files["n2"]
    bundle = tmp_path / "n2.bundle"
    bundle.write_bytes(pack(new.files["n2"]))
    write_files(tmp_path / "etc", unpack(bundle))
    assert read_identity(tmp_path / "etc") == Identity(node="n2", cluster_id=new.cluster.id)
    assert (tmp_path / "etc" / CONFIGURATION).read_bytes() == new.files["n1"][CONFIGURATION]


def test_what_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="does not exist"):
        unpack(tmp_path / "none")
    odd = tmp_path / "odd"
    for content in (b"", b"nonsense" * 100, pack({"../../etc/passwd": b"x"}), pack({})):
        odd.write_bytes(content)
        with pytest.raises(InvalidError, match="not a bundle"):
            unpack(odd)
    odd.write_bytes(bytes(2 << 20))
    with pytest.raises(InvalidError, match="too large"):
        unpack(odd)
