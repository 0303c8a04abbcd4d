"""Labs for the tests of hosts and of what runs on them."""

import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from faults import seed

from telamon.lab import record
from telamon.lab.lab import Lab, down
from telamon.lab.spec import DEFAULT

TELAMON = Path(sys.executable).parent / "telamon"

_numbers = itertools.count(1)


@pytest.fixture
def lab_name() -> Iterator[str]:
    """A name that no other run uses; what is left under it is taken down."""
    name = f"test-{os.getpid()}-{next(_numbers)}"
    yield name
    if name in record.names():
        down(name)


@pytest.fixture
def chosen(capsys: pytest.CaptureFixture[str]) -> int:
    """The seed of this test, told to whoever watches: TELAMON_SEED gives it back."""
    drawn = seed()
    with capsys.disabled():
        print(f"\nTELAMON_SEED={drawn}")
    return drawn


@pytest.fixture
def bare_lab(lab_name: str) -> Iterator[Lab]:
    """The default lab without agents."""
    with Lab.up(lab_name, f"{DEFAULT}agents: false\n") as lab:
        yield lab


@pytest.fixture
def command(lab_name: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `telamon lab COMMAND --name ...` to its end."""

    def run(subcommand: str, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [TELAMON, "lab", subcommand, "--name", lab_name, *words],
            text=True,
            capture_output=True,
            timeout=60,
            check=False,
        )

    return run
