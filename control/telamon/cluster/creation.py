"""Making a cluster: from names and addresses to the files of every node, and the bundles that carry
them.

Invariant: what is written here passes `telamon config check`. A bundle is a tar of one node's
files; it holds that node's private key, so it is as secret as the key itself.
"""

import io
import json
import secrets
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from telamon.cluster import config
from telamon.cluster.config import Cluster
from telamon.cluster.credentials import (
    AUTHORITY,
    AUTHORITY_KEY,
    CERTIFICATE,
    KEY,
    SECRET,
    new_authority,
    node_files,
)
from telamon.configuration.fault import refuse
from telamon.errors import InvalidError, NotFoundError

CONFIGURATION = "cluster.yaml"
BUNDLE_LIMIT_BYTES = 1 << 20
BUNDLED = frozenset({AUTHORITY, CERTIFICATE, KEY, SECRET, CONFIGURATION})


@dataclass(frozen=True, slots=True)
class NewCluster:
    """The files of each node, and the authority's key, which belongs on one node only."""

    cluster: Cluster
    files: Mapping[str, Mapping[str, bytes]]
    authority_key: bytes

    def files_of_first(self, node: str) -> dict[str, bytes]:
        """The files of the node that keeps the authority's key."""
        return {**self.files[node], AUTHORITY_KEY: self.authority_key}


def render(
    name: str,
    nodes: Mapping[str, Mapping[str, str]],
    replication: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """The text of a cluster.yaml. `nodes`: node -> network -> address; `replication`: network ->
    how.
    """
    networks: dict[str, None] = {}
    for addresses in nodes.values():
        networks.update(dict.fromkeys(addresses))
    lines = [
        "# The cluster, the same on every node. Check it with: telamon config check",
        f"cluster: {_scalar(name)}",
        f"id: {_scalar(secrets.token_hex(16))}",
        "networks:",
        *(
            f"  - {{name: {_scalar(network)}{_how(replication.get(network))}}}"
            for network in networks
        ),
        "nodes:",
    ]
    for node, addresses in nodes.items():
        inner = ", ".join(f"{_scalar(key)}: {_scalar(value)}" for key, value in addresses.items())
        lines.append(f"  - {{name: {_scalar(node)}, addresses: {{{inner}}}}}")
    return "\n".join(lines) + "\n"


def create(text: str, file: str = CONFIGURATION) -> NewCluster:
    """Makes the credentials of the cluster that `text` describes."""
    parsed = config.parse(text, file)
    if isinstance(parsed, tuple):
        raise refuse(parsed)
    cluster = parsed.model
    authority = new_authority(cluster.cluster, cluster.id)
    files = {
        node.name: {
            **node_files(authority, node.name, list(node.addresses.values())),
            CONFIGURATION: text.encode(),
        }
        for node in cluster.nodes
    }
    return NewCluster(cluster=cluster, files=files, authority_key=authority.key)


def pack(files: Mapping[str, bytes]) -> bytes:
    """A bundle with one node's files."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.mode = 0o600
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def unpack(path: Path) -> dict[str, bytes]:
    """The files of a bundle; anything but exactly those is refused."""
    try:
        if path.stat().st_size > BUNDLE_LIMIT_BYTES:
            raise InvalidError(
                f"{path} is too large for a bundle: name the file that `telamon cluster init` made"
            )
        with tarfile.open(path) as archive:
            files = {member.name: _content(archive, member) for member in archive}
    except FileNotFoundError as error:
        raise NotFoundError(
            f"bundle {path} does not exist; copy it from the node where `telamon cluster init` ran"
        ) from error
    except (tarfile.TarError, OSError) as error:
        raise InvalidError(
            f"{path} is not a bundle: {error}; copy it again from the node that made it"
        ) from error
    if files.keys() != BUNDLED:
        raise InvalidError(
            f"{path} is not a bundle of a node: it holds {', '.join(sorted(files)) or 'nothing'} "
            "instead of "
            f"{', '.join(sorted(BUNDLED))}"
        )
    return files


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = archive.extractfile(member) if member.isfile() else None
    if stream is None:
        raise InvalidError(f"{member.name} in the bundle is not a file; copy the bundle again")
    return stream.read(BUNDLE_LIMIT_BYTES)


def _how(replication: str | None) -> str:
    return f", replication: {replication}" if replication else ""


def _scalar(text: str) -> str:
    """Quoted unless no YAML reader could take it for anything but a word."""
    plain = text[:1].isalpha() and text.replace("-", "").isalnum()
    return text if plain and text not in ("true", "false", "null") else json.dumps(text)
