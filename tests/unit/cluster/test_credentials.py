"""Credentials: nodes of one cluster trust each other and nobody else."""

import ssl
from ipaddress import ip_address
from pathlib import Path

import pytest

from telamon.cluster.credentials import (
    AUTHORITY,
    CERTIFICATE,
    KEY,
    SECRET,
    Identity,
    new_authority,
    node_files,
    read_identity,
    read_secret,
    write_files,
)
from telamon.errors import InvalidError, NotFoundError

CLUSTER_ID = "ab" * 16


def _node(directory: Path, name: str, authority=None) -> Path:
    authority = authority or new_authority("east", CLUSTER_ID)
    write_files(directory, node_files(authority, name, [ip_address("10.0.0.1")]))
    return directory


def _shake_hands(server_files: Path, client_files: Path, expected_name: str) -> None:
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for context, files in ((server_context, server_files), (client_context, client_files)):
        context.load_cert_chain(files / CERTIFICATE, files / KEY)
        context.load_verify_locations(files / AUTHORITY)
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_X509_STRICT
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    client = client_context.wrap_bio(to_client, to_server, server_hostname=expected_name)
    for _ in range(10):
        ends = 0
        for end in (client, server):
            try:
                end.do_handshake()
                ends += 1
            except ssl.SSLWantReadError:
                continue
        if ends == 2:
            return
    raise AssertionError("the handshake did not end")


def test_nodes_of_one_cluster_trust_each_other_by_name_and_address(tmp_path: Path) -> None:
    authority = new_authority("east", CLUSTER_ID)
    first = _node(tmp_path / "n1", "n1", authority)
    second = _node(tmp_path / "n2", "n2", authority)
    _shake_hands(first, second, "n1")
    _shake_hands(first, second, "10.0.0.1")
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        _shake_hands(first, second, "n2")


def test_another_cluster_is_not_trusted_even_under_the_same_id(tmp_path: Path) -> None:
    ours, theirs = _node(tmp_path / "n1", "n1"), _node(tmp_path / "n2", "n2")
    with pytest.raises(ssl.SSLError):
        _shake_hands(ours, theirs, "n1")


def test_identity_and_secret_are_read_back(tmp_path: Path) -> None:
    directory = _node(tmp_path, "n1")
    assert read_identity(directory) == Identity(node="n1", cluster_id=CLUSTER_ID)
    assert len(read_secret(directory)) == 32


def test_private_parts_are_private(tmp_path: Path) -> None:
    directory = _node(tmp_path, "n1")
    for name in (KEY, SECRET):
        assert (directory / name).stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in directory.iterdir()) == sorted(
        [AUTHORITY, CERTIFICATE, KEY, SECRET]
    )


def test_missing_and_damaged_credentials_name_the_cure(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"telamon cluster init.*telamon cluster join"):
        read_identity(tmp_path)
    (tmp_path / CERTIFICATE).write_text("nonsense")
    with pytest.raises(InvalidError, match="cluster join"):
        read_identity(tmp_path)
    for content in ("nonsense", "abcd"):
        (tmp_path / SECRET).write_text(content)
        with pytest.raises(InvalidError, match="cluster join"):
            read_secret(tmp_path)
