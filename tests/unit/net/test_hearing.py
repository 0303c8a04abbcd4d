"""Foreign MACs and solicited-node groups on a real interface, and nothing left of them."""

import subprocess
from ipaddress import IPv6Address
from pathlib import Path

import pytest

from telamon.errors import NetworkError
from telamon.net.hearing import Groups, hear, stop_hearing
from telamon.net.solicited_node import asked_at

MAC = "02:00:5e:00:53:01"
FIRST, SECOND = IPv6Address("fd00::12:3456"), IPv6Address("fd00::ff:ffff")


pytestmark = pytest.mark.usefixtures("network_namespace")


def heard() -> str:
    command = ["bridge", "fdb", "show", "dev", "near0"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def groups() -> set[str]:
    lines = Path("/proc/thread-self/net/igmp6").read_text().splitlines()
    return {line.split()[2] for line in lines if line.split()[1] == "near0"}


async def test_macs_are_heard_until_they_are_not() -> None:
    before = heard()
    await hear("near0", [MAC, asked_at(FIRST)])
    await hear("near0", [MAC])
    assert MAC in heard()
    assert "33:33:ff:12:34:56" in heard()
    await stop_hearing("near0", [MAC, asked_at(FIRST), asked_at(SECOND)])
    assert heard() == before


async def test_an_interface_that_is_not_there() -> None:
    await stop_hearing("eth9", [MAC])
    with pytest.raises(NetworkError, match="eth9 does not exist"):
        await hear("eth9", [MAC])


def test_groups_are_reported_while_they_are_wanted() -> None:
    before = groups()
    reported = Groups("near0")
    reported.report([FIRST, SECOND])
    assert groups() - before == {
        "ff0200000000000000000001ff123456",
        "ff0200000000000000000001ffffffff",
    }
    reported.report([SECOND])
    assert groups() - before == {"ff0200000000000000000001ffffffff"}
    reported.close()
    assert groups() == before
