"""A kernel object held by a descriptor and, where pinned, by a name in bpffs.

Invariant: a handle owns its descriptor alone. Closing it frees the kernel object unless a pin,
another handle or a loaded program still holds it.
"""

import errno
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from telamon.bpf import library


class Handle:
    """Base of programs, maps and links. `label` names the object in errors."""

    def __init__(self, descriptor: int, label: str) -> None:
        self._descriptor = descriptor
        self.label = label

    @classmethod
    def duplicate(cls, descriptor: int, label: str) -> Self:
        """A handle of its own on a descriptor that someone else owns."""
        return cls(os.dup(descriptor), label)

    @classmethod
    def open_pin(cls, path: Path) -> Self:
        """A handle on what is pinned at `path`."""
        descriptor = library.call(
            "bpf_obj_get", os.fsencode(path), attempt=f"opening the pin {path}"
        )
        return cls(descriptor, path.name)

    def fileno(self) -> int:
        """The descriptor; raises ValueError after `close`."""
        if self._descriptor < 0:
            raise ValueError(f"{self.label} is closed")
        return self._descriptor

    def pin(self, path: Path) -> None:
        """Gives the object a name in bpffs that outlives this process."""
        library.call(
            "bpf_obj_pin",
            self.fileno(),
            os.fsencode(path),
            attempt=f"pinning {self.label} at {path}",
        )

    def close(self) -> None:
        """Gives up the descriptor; harmless when done before."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def unpin(path: Path) -> bool:
    """Removes a pin; False if there was none."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise library.refusal(f"removing the pin {path}", error.errno or errno.EIO) from error
    return True


def remove_directory(path: Path) -> None:
    """Removes an empty directory of bpffs."""
    try:
        path.rmdir()
    except OSError as error:
        raise library.refusal(f"removing {path}", error.errno or errno.EIO) from error
