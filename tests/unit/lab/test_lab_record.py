"""Who may not keep records is told so."""

import os
from pathlib import Path

import pytest

from telamon.errors import RefusedError
from telamon.lab import record


def test_a_lab_needs_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr(Path, "mkdir", refuse)
    monkeypatch.setattr(record, "LABS", tmp_path / "labs")
    with pytest.raises(RefusedError, match="as root"), record.locked("x"):
        pass
