"""Predictions from exported tables: the same node as the table itself names, and no guess."""

import base64
import zlib
from ipaddress import ip_address

import pytest

from telamon.errors import InvalidError
from telamon.farm.hash import BUCKETS, Affinity, bucket
from telamon.farm.prediction import Covered, Prediction, owners_of
from telamon.farm.table import Member, Table

SEED = 77
TABLE = Table.build(b"secret", [Member(1), Member(2, 3)])
PREDICTION = Prediction(
    SEED,
    [
        Covered("tcp", ((80, 80), (8000, 8010)), Affinity.CLIENT, TABLE.owner),
        Covered("udp", ((53, 53),), Affinity.CONNECTION, TABLE.owner),
        Covered("tcp", ((22, 22),), Affinity.CLIENT, bytes(BUCKETS)),
    ],
    {1: "n1", 2: "n2"},
    {},
)


def exported(table: bytes) -> str:
    return base64.b64encode(zlib.compress(table)).decode()


@pytest.mark.parametrize("text", ["192.0.2.7", "192.0.2.200", "2001:db8::7"])
def test_it_names_the_owner_of_the_bucket(text: str) -> None:
    client = ip_address(text)
    by_client = f"n{TABLE.owner[bucket(client, None, SEED)]}"
    by_connection = f"n{TABLE.owner[bucket(client, 4000, SEED)]}"
    assert PREDICTION.owner("tcp", 80, client, 4000) == by_client
    assert PREDICTION.owner("tcp", 8005, client, 4001) == by_client
    assert PREDICTION.owner("udp", 53, client, 4000) == by_connection


@pytest.mark.parametrize(("protocol", "port"), [("tcp", 81), ("udp", 80), ("tcp", 22)])
def test_it_does_not_guess(protocol: str, port: int) -> None:
    assert PREDICTION.owner(protocol, port, ip_address("192.0.2.7"), 4000) is None


def test_exported_tables_are_read_back() -> None:
    assert owners_of([exported(TABLE.owner), exported(bytes(BUCKETS))]) == [
        TABLE.owner,
        bytes(BUCKETS),
    ]


@pytest.mark.parametrize(
    "text",
    ["", "!", "AAAA", exported(b""), exported(bytes(BUCKETS - 1)), exported(bytes(BUCKETS + 1))],
)
def test_what_is_no_table_is_refused(text: str) -> None:
    with pytest.raises(InvalidError, match="telamon farm table"):
        owners_of([text])
