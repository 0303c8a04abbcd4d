"""A directory with 100,000 entries: listed whole, from any place, and while it changes."""

import ctypes
import os
from pathlib import Path

import pytest
from tests.fs.served import ServedDirectory

ENTRIES = 100_000
STEP = 997

_libc = ctypes.CDLL(None, use_errno=True)
_libc.opendir.restype = ctypes.c_void_p
_libc.opendir.argtypes = [ctypes.c_char_p]
_libc.readdir.restype = ctypes.c_void_p
_libc.readdir.argtypes = [ctypes.c_void_p]
_libc.telldir.restype = ctypes.c_long
_libc.telldir.argtypes = [ctypes.c_void_p]
_libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
_libc.closedir.argtypes = [ctypes.c_void_p]
_NAME_OFFSET = 19  # of d_name in struct dirent, 64 bit


class Stream:
    """opendir(3) and its places, which Python's scandir hides."""

    def __init__(self, directory: Path) -> None:
        self._stream = _libc.opendir(os.fsencode(directory))
        assert self._stream

    def next(self) -> bytes | None:
        entry = _libc.readdir(self._stream)
        return ctypes.string_at(entry + _NAME_OFFSET) if entry else None

    def place(self) -> int:
        place: int = _libc.telldir(self._stream)
        return place

    def go_to(self, place: int) -> None:
        _libc.seekdir(self._stream, place)

    def close(self) -> None:
        _libc.closedir(self._stream)


@pytest.fixture
def names() -> set[str]:
    return {f"{number:06}" for number in range(ENTRIES)}


@pytest.mark.parametrize("capture", ["relay"], indirect=True)  # names pass no file's content
def test_hundred_thousand_entries(served: ServedDirectory, names: set[str]) -> None:
    directory = served.path / "many"
    directory.mkdir()
    for name in names:
        os.close(os.open(directory / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
    listed = os.listdir(directory)
    assert len(listed) == ENTRIES
    assert set(listed) == names

    assert_places_hold(directory)

    # What is neither removed nor made meanwhile appears exactly once.
    doomed = set(sorted(names)[::2])
    seen = []
    with os.scandir(directory) as found:
        for number, entry in enumerate(found):
            seen.append(entry.name)
            if number % 2 == 0 and doomed:
                (directory / doomed.pop()).unlink()
    assert sorted(name for name in seen if int(name) % 2) == sorted(names)[1::2]
    for name in doomed:
        (directory / name).unlink()
    assert set(os.listdir(directory)) == set(sorted(names)[1::2])
    served.assert_settled_and_equal()


def assert_places_hold(directory: Path) -> None:
    """A stream that goes back to a place goes on from there with the same names."""
    stream = Stream(directory)
    try:
        after: dict[int, bytes | None] = {}
        count = 0
        while True:
            place = stream.place()
            name = stream.next()
            if count % STEP == 0:
                after[place] = name
            if name is None:
                break
            count += 1
        assert count == ENTRIES + 2
        for place, name in reversed(after.items()):
            stream.go_to(place)
            assert stream.next() == name
    finally:
        stream.close()
