"""The modules that come with Telamon are valid, and their scripts are scripts."""

import os
import subprocess
from pathlib import Path

import pytest

from telamon.module import config

MODULES = sorted(Path(__file__).resolve().parents[3].glob("modules/*/module.yaml"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.parent.name)
def test_is_valid(path: Path) -> None:
    parsed = config.parse(path.read_text(), path.name)
    assert not isinstance(parsed, tuple), parsed
    application = parsed.model.application
    looks = [check.custom.script for check in parsed.model.checks if check.custom is not None]
    for script in (application.start, application.stop, *looks):
        file = path.parent / script
        assert os.access(file, os.X_OK)
        assert file.read_bytes().startswith(b"#!")
        subprocess.run(["bash", "-n", file], check=True)


def test_there_are_some() -> None:
    assert MODULES
