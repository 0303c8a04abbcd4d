"""The acknowledgement oracles: what they accept and what they find."""

from pathlib import Path

import pytest

from telamon.lab.oracles import commits, registers

VERSIONS = [
    # history, stored version of file1 (0: absent), is accepted
    ("! name:file1 7", 7, True),
    ("! name:file1 7", 6, False),
    ("! name:file1 7", 0, False),
    ("? name:file1 7", 7, True),
    ("? name:file1 7", 0, True),
    ("! name:file1 7\n? name:file1 8", 7, True),
    ("! name:file1 7\n? name:file1 8", 8, True),
    ("! name:file1 7\n? name:file1 8", 6, False),
    ("? name:file1 7\n! name:file1 7\n? name:file1 8\n! name:file1 8", 7, False),
    ("! name:file1 7\n! name:file1 0", 0, True),
    ("! name:file1 7\n! name:file1 0", 7, False),
]


@pytest.mark.parametrize(("history", "stored", "is_accepted"), VERSIONS)
def test_register(tmp_path: Path, history: str, stored: int, is_accepted: bool) -> None:
    log, directory = tmp_path / "history", tmp_path / "directory"
    log.write_text(f"{history}\n! name:torn off")
    directory.mkdir()
    if stored:
        (directory / "file1").write_bytes(stored.to_bytes(8, "big") * 512)
    assert (registers.violations(log, directory) == []) is is_accepted


def test_a_torn_register_is_a_violation(tmp_path: Path) -> None:
    log = tmp_path / "history"
    log.write_text("! slot:1 7\n")
    seven, eight = ((7).to_bytes(8, "big"), (8).to_bytes(8, "big"))
    (tmp_path / "slots").write_bytes(bytes(4096) + seven * 511 + eight)
    assert len(registers.violations(log, tmp_path)) == 1


def test_commit_log_and_gap(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("1 1000000000\n2 1500000000\n3 4000000000\n4 5000000000\n5 50000")
    promised = commits.read_log(log)
    assert [one.number for one in promised] == [1, 2, 3, 4]
    assert commits.longest_gap(promised).length_s == 2.5
    assert commits.longest_gap(promised, since_ns=4_500_000_000).length_s == 1.0
    assert commits.longest_gap(promised[:1]).length_s == 0.0
