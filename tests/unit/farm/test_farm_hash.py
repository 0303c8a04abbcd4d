"""The client hash against the shared vectors and the contract in ebpf/farm.h."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telamon.farm import hash as farm_hash

ROOT = Path(__file__).parents[3]
VECTORS = json.loads((ROOT / "tests/vectors/farm_hash.json").read_text())


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: f"{v['client']}-{v['port']}-{v['seed']}")
def test_vector(vector: dict[str, int | str | None]) -> None:
    client, port, seed = str(vector["client"]), vector["port"], int(str(vector["seed"]))
    assert port is None or isinstance(port, int)
    key = farm_hash.client_key(client, port)
    assert key.hex() == vector["key"]
    assert farm_hash.jhash(key, seed) == vector["jhash"]
    assert farm_hash.bucket(client, port, seed) == vector["bucket"]


def test_jhash_of_the_empty_key_is_its_initial_value() -> None:
    assert farm_hash.jhash(b"", 0) == 0xDEADBEEF
    assert farm_hash.jhash(b"", 0xDEADBEEF) == 0xBD5B7DDE


def test_bucket_count_is_the_headers() -> None:
    header = (ROOT / "ebpf/farm.h").read_text()
    found = re.search(r"#define FARM_BUCKETS\s+(\d+)", header)
    assert found is not None
    assert int(found[1]) == farm_hash.BUCKETS


@given(st.ip_addresses(), st.none() | st.integers(0, 65535), st.integers(0, 2**32 - 1))
def test_every_client_has_a_bucket(client: object, port: int | None, seed: int) -> None:
    assert 0 <= farm_hash.bucket(str(client), port, seed) < farm_hash.BUCKETS


def test_a_module_seed_depends_on_secret_and_module_and_is_never_zero() -> None:
    seeds = {farm_hash.module_seed(s, m) for s in (b"a", b"b") for m in ("web", "dns")}
    assert len(seeds) == 4
    assert 0 not in seeds
