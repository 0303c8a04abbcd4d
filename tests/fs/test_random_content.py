"""An fsx of our own: random operations on one file, through several descriptors and a mapping.

What is read is compared with a model byte by byte; the copy is compared with the backing tree.
"""

import mmap
import os
import random
from pathlib import Path

import pytest
from tests.fs import calls
from tests.fs.calls import Allocate
from tests.fs.conftest import Serve

SIZE_MAX = 512 << 10
BLOCK = 4096


class Exerciser:
    """The file, its model, and one method for each kind of operation."""

    def __init__(self, path: Path, seed: int, has_mapping: bool) -> None:
        self._random = random.Random(seed)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT)
        self._direct = os.open(path, os.O_RDWR | os.O_DIRECT)
        self._synced = os.open(path, os.O_RDWR | os.O_DSYNC)
        self._other = os.open(path.with_name("other"), os.O_RDWR | os.O_CREAT)
        os.pwrite(self._other, self._random.randbytes(SIZE_MAX), 0)
        self._page = mmap.mmap(-1, SIZE_MAX)
        self._model = bytearray()
        self._kinds = [
            self.write,
            self.write,
            self.write_direct,
            self.write_synced,
            self.truncate,
            self.punch,
            self.zero,
            self.allocate,
            self.copy,
            self.synchronize,
            self.read,
            self.read,
        ]
        if has_mapping:
            self._kinds += [self.store, self.store]

    def step(self) -> str:
        """One random operation; says which."""
        kind = self._random.choice(self._kinds)
        kind()
        return kind.__name__

    def close(self) -> None:
        """Ends every use."""
        for descriptor in (self._file, self._direct, self._synced, self._other):
            os.close(descriptor)

    def _range(self, grain: int = 1) -> tuple[int, int]:
        offset = self._random.randrange(0, SIZE_MAX // grain) * grain
        length = min(self._random.choice([100, 3000, 9000, 70000]), SIZE_MAX - offset)
        return offset, max(length // grain, 1) * grain

    def _put(self, offset: int, content: bytes) -> None:
        end = offset + len(content)
        if len(self._model) < end:
            self._model.extend(bytes(end - len(self._model)))
        self._model[offset:end] = content

    def write(self) -> None:
        offset, length = self._range()
        content = self._random.randbytes(length)
        assert os.pwrite(self._file, content, offset) == length
        self._put(offset, content)

    def write_direct(self) -> None:
        offset, length = self._range(BLOCK)
        self._page[:length] = self._random.randbytes(length)
        assert os.pwritev(self._direct, [memoryview(self._page)[:length]], offset) == length
        self._put(offset, self._page[:length])

    def write_synced(self) -> None:
        offset, length = self._range()
        content = self._random.randbytes(length)
        assert os.pwrite(self._synced, content, offset) == length
        self._put(offset, content)

    def truncate(self) -> None:
        size = self._random.randrange(SIZE_MAX)
        os.ftruncate(self._file, size)
        if size < len(self._model):
            del self._model[size:]
        else:
            self._model.extend(bytes(size - len(self._model)))

    def punch(self) -> None:
        offset, length = self._range()
        calls.allocate(self._file, Allocate.PUNCH_HOLE | Allocate.KEEP_SIZE, offset, length)
        self._clear(offset, length)

    def zero(self) -> None:
        offset, length = self._range()
        calls.allocate(self._file, Allocate.ZERO_RANGE, offset, length)
        self._put(offset, bytes(length))

    def allocate(self) -> None:
        offset, length = self._range()
        calls.allocate(self._file, Allocate.KEEP_SIZE, offset, length)

    def _clear(self, offset: int, length: int) -> None:
        end = min(offset + length, len(self._model))
        if offset < end:
            self._model[offset:end] = bytes(end - offset)

    def copy(self) -> None:
        offset, length = self._range()
        source = self._random.randrange(SIZE_MAX - length + 1)
        copied = os.copy_file_range(self._other, self._file, length, source, offset)
        self._put(offset, os.pread(self._other, copied, source))

    def store(self) -> None:
        size = len(self._model)
        if size == 0:
            return
        with mmap.mmap(self._file, size) as mapping:
            for _ in range(self._random.randrange(1, 5)):
                offset = self._random.randrange(size)
                content = self._random.randbytes(
                    min(self._random.randrange(1, 9000), size - offset)
                )
                mapping[offset : offset + len(content)] = content
                self._put(offset, content)
            if self._random.random() < 0.5:
                mapping.flush()

    def synchronize(self) -> None:
        self._random.choice([os.fsync, os.fdatasync])(self._file)

    def read(self) -> None:
        offset, length = self._range()
        assert os.pread(self._file, length, offset) == bytes(self._model[offset : offset + length])

    def check(self) -> None:
        """The whole file is what the model says."""
        assert os.fstat(self._file).st_size == len(self._model)
        assert os.pread(self._file, SIZE_MAX * 2, 0) == bytes(self._model)


@pytest.mark.parametrize("has_mapping", [False, True], ids=["plain", "mapped"])
@pytest.mark.parametrize("seed", range(6))
def test_content_follows_the_model_and_the_copy(
    serve: Serve, seed: int, *, has_mapping: bool
) -> None:
    served = serve()
    print(f"seed {seed}")
    exerciser = Exerciser(served.path / "file", seed, has_mapping)
    history = []
    for step in range(600):
        history.append(exerciser.step())
        if step % 100 == 99:
            exerciser.check()
            served.settle()
            differences = served.differences()
            assert not differences, f"{differences} after {history[-20:]}"
    exerciser.close()
    served.stop()
    assert not served.differences()
