"""A network namespace of the test's own, with two Ethernet links joined: `near0` and `far0`."""

import ctypes
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: int) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")


@pytest.fixture
def network_namespace() -> Iterator[None]:
    with Path("/proc/thread-self/ns/net").open() as outside:
        _call("unshare", CLONE_NEWNET)
        try:
            for command in (
                "ip link set lo up",
                "ip link add near0 type veth peer name far0",
                "ip link set near0 up",
                "ip link set far0 up",
                "ip address add 10.9.0.1/24 dev near0",
                "ip address add fd09::1/64 dev near0 nodad",
            ):
                subprocess.run(command.split(), check=True)
            yield
        finally:
            _call("setns", outside.fileno(), CLONE_NEWNET)
