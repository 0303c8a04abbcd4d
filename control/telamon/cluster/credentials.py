"""A cluster's credentials: one authority, one certificate for each node, one secret for heartbeats.

Invariants: a node is who its certificate says (common name and DNS name are the node's name,
organization is the cluster's id); certificates serve both ends of a connection; private parts are
written with mode 0600 before any of their content. The authority's key stays on the node that made
the cluster, which alone can admit further ones.

Files in /etc/telamon: ca.crt, ca.key (on one node), node.crt, node.key, heartbeat.key,
cluster.yaml.
"""

import datetime
import os
import secrets
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from telamon.errors import InvalidError, NotFoundError

VALIDITY = datetime.timedelta(days=20 * 365)
CLOCK_TOLERANCE = datetime.timedelta(days=1)
SECRET_BYTES = 32

AUTHORITY = "ca.crt"
AUTHORITY_KEY = "ca.key"
CERTIFICATE = "node.crt"
KEY = "node.key"
SECRET = "heartbeat.key"
PRIVATE = frozenset({AUTHORITY_KEY, KEY, SECRET})


@dataclass(frozen=True, slots=True)
class Authority:
    """What vouches for every node of one cluster."""

    certificate: bytes
    key: bytes
    secret: bytes


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this node is, as its certificate says."""

    node: str
    cluster_id: str


def new_authority(cluster: str, cluster_id: str) -> Authority:
    """Makes the authority of a new cluster."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, f"{cluster} authority"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, cluster_id),
        ]
    )
    certificate = (
        _begun(name, name, key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    return Authority(
        certificate=certificate.public_bytes(serialization.Encoding.PEM),
        key=_pem(key),
        secret=secrets.token_hex(SECRET_BYTES).encode() + b"\n",
    )


def node_files(
    authority: Authority, node: str, addresses: list[IPv4Address | IPv6Address]
) -> dict[str, bytes]:
    """The files that make a host this node of the cluster, the authority's key left out."""
    issuer = x509.load_pem_x509_certificate(authority.certificate)
    issuer_key = serialization.load_pem_private_key(authority.key, password=None)
    assert isinstance(issuer_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    organization = issuer.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, node), *organization])
    names: list[x509.GeneralName] = [x509.DNSName(node), *map(x509.IPAddress, addresses)]
    both_ends = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    certificate = (
        _begun(name, issuer.subject, key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(both_ends), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
        .sign(issuer_key, hashes.SHA256())
    )
    return {
        AUTHORITY: authority.certificate,
        CERTIFICATE: certificate.public_bytes(serialization.Encoding.PEM),
        KEY: _pem(key),
        SECRET: authority.secret,
    }


def read_identity(directory: Path) -> Identity:
    """Who the certificate in `directory` says this node is."""
    path = directory / CERTIFICATE
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0]
        organization = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0]
    except FileNotFoundError as error:
        raise NotFoundError(
            f"{path} does not exist, so this host belongs to no cluster: run `telamon cluster "
            "init` here, or "
            "`telamon cluster join BUNDLE` with the bundle that it made on another node"
        ) from error
    except (ValueError, IndexError) as error:
        raise InvalidError(
            f"{path} is not a certificate of a node: {error}; run `telamon cluster join BUNDLE` "
            "again"
        ) from error
    return Identity(node=str(common.value), cluster_id=str(organization.value))


def read_secret(directory: Path) -> bytes:
    """The secret that authenticates heartbeats."""
    path = directory / SECRET
    try:
        secret = bytes.fromhex(path.read_text().strip())
    except (OSError, ValueError) as error:
        raise InvalidError(
            f"{path} could not be read as a secret: {error}; run `telamon cluster join BUNDLE` "
            "again"
        ) from error
    if len(secret) != SECRET_BYTES:
        raise InvalidError(
            f"{path} holds {len(secret)} bytes instead of {SECRET_BYTES}; run `telamon cluster "
            "join BUNDLE` again"
        )
    return secret


def write_files(directory: Path, files: dict[str, bytes]) -> None:
    """Writes credentials and configuration, each file atomically, secrets readable by root only."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        temporary = directory / f".{name}.new"
        mode = 0o600 if name in PRIVATE else 0o644
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(directory / name)


def _begun(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        # A node whose clock is behind must not refuse the cluster that was made just now.
        .not_valid_before(now - CLOCK_TOLERANCE)
        .not_valid_after(now + VALIDITY)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
