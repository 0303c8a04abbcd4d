"""Pins outlive their loader, are adopted only when complete, and leave nothing behind."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.bpf.conftest import run
from tests.bpf.watcher import Inode, Watcher

from telamon.bpf.capture import BackEnd, CaptureSet
from telamon.errors import RefusedError

DEADLINE_S = 20


def ensure_in_another_process(module: str, pins: Path, directory: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from telamon.bpf.capture import CaptureSet;"
        "loaded = CaptureSet(sys.argv[1], Path(sys.argv[2])).ensure([Path(sys.argv[3])]);"
        "sys.exit(0 if loaded.pins else loaded.reason)"
    )
    command = [sys.executable, "-c", script, module, str(pins), str(directory)]
    subprocess.run(command, check=True, timeout=60)


def write_and_drain(pins: Path, path: Path) -> int:
    path.write_bytes(b"")
    with Watcher(pins) as reader:
        reader.watch(Inode.of(path))
        with path.open("r+b", buffering=0) as file:
            file.write(b"x" * 100)
        return len(reader.drain())


def test_capture_goes_on_without_its_loader(ext4: Path, pins: Path) -> None:
    ensure_in_another_process("orphan", pins, ext4)
    assert write_and_drain(pins / "orphan", ext4 / "orphan") == 1
    CaptureSet("orphan", pins).remove()


def test_sealed_pins_are_adopted_not_replaced(ext4: Path, pins: Path) -> None:
    capture = CaptureSet("adopted", pins)
    first = capture.ensure([ext4])
    path = ext4 / "adopted"
    path.write_bytes(b"")
    with Watcher(pins / "adopted") as reader:
        reader.watch(Inode.of(path))
        ensure_in_another_process("adopted", pins, ext4)
        assert capture.ensure([ext4]) == first
        path.write_bytes(b"x")
        assert reader.drain(), "the ring that was open before the adoption still gets events"
    capture.remove()


def test_unsealed_pins_are_replaced(ext4: Path, pins: Path) -> None:
    capture = CaptureSet("torn", pins)
    capture.ensure([ext4])
    for seal in (pins / "torn").glob("sealed_*"):
        seal.rmdir()
    (pins / "torn" / "link_write_delayed").unlink()
    assert capture.ensure([ext4]).back_end is BackEnd.TP_BTF
    assert write_and_drain(pins / "torn", ext4 / "torn") == 1
    capture.remove()


def test_sealed_pins_that_lost_a_program_are_refused(ext4: Path, pins: Path) -> None:
    capture = CaptureSet("damaged", pins)
    capture.ensure([ext4])
    (pins / "damaged" / "link_write_delayed").unlink()
    with pytest.raises(RefusedError, match="write_delayed"):
        capture.ensure([ext4])
    capture.remove()


def test_removal_leaves_nothing_and_ends_the_capture(ext4: Path, pins: Path) -> None:
    capture = CaptureSet("removed", pins)
    capture.ensure([ext4])
    path = ext4 / "removed"
    path.write_bytes(b"")
    with Watcher(pins / "removed") as reader:
        reader.watch(Inode.of(path))
        capture.remove()
        assert not (pins / "removed").exists()
        deadline = time.monotonic() + DEADLINE_S
        path.write_bytes(b"x")
        while reader.drain():
            assert time.monotonic() < deadline, "the programs still run"
            path.write_bytes(b"x")
    capture.remove()


def test_two_modules_do_not_see_each_others_files(ext4: Path, pins: Path) -> None:
    left, right = CaptureSet("left", pins), CaptureSet("right", pins)
    left.ensure([ext4])
    right.ensure([ext4])
    path = ext4 / "shared"
    path.write_bytes(b"")
    with Watcher(pins / "left") as one, Watcher(pins / "right") as other:
        one.watch(Inode.of(path))
        path.write_bytes(b"x")
        assert one.drain()
        assert other.drain() == []
    left.remove()
    right.remove()


def test_other_file_systems_get_fexit_or_relay_with_its_reason(pins: Path) -> None:
    capture = CaptureSet("other", pins)
    loaded = capture.ensure([Path("/proc")])
    if loaded.back_end is BackEnd.RELAY:
        assert loaded.pins is None
        assert "fexit" in loaded.reason
        assert not (pins / "other").exists()
    else:
        assert loaded.back_end is BackEnd.FEXIT
    capture.remove()


def test_a_missing_object_says_how_to_build_it(
    ext4: Path, pins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("telamon.bpf.location._CHECKOUT", Path("/nonexistent"))
    monkeypatch.setattr("telamon.bpf.location.INSTALLED", Path("/nonexistent"))
    loaded = CaptureSet("missing", pins).ensure([ext4])
    assert loaded.back_end is BackEnd.RELAY
    assert "make build" in loaded.reason


def test_misses_of_idle_programs_are_none(ext4: Path, pins: Path) -> None:
    capture = CaptureSet("idle", pins)
    capture.ensure([ext4])
    assert capture.recursion_misses() == 0
    capture.remove()


def test_bpffs_is_mounted_where_it_is_missing(ext4: Path, tmp_path: Path) -> None:
    root = tmp_path / "bpffs"
    root.mkdir()
    capture = CaptureSet("unmounted", root / "telamon")
    try:
        assert capture.ensure([ext4]).back_end is BackEnd.TP_BTF
        capture.remove()
    finally:
        run("umount", root)
