"""A compiled object file: opened, adjusted (map sizes, constants, which programs), then loaded.

Adjusting is possible only between opening and loading. Programs and maps taken from a loaded object
have descriptors of their own, so the object can be closed at once.
"""

import ctypes
import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from telamon.bpf import library
from telamon.bpf.map import Map
from telamon.bpf.program import Program
from telamon.errors import BpfError

_BTF_KIND_DATASEC = 15
_READ_ONLY_DATA = b".rodata"


class _BtfType(ctypes.Structure):
    _fields_ = (
        ("name_offset", ctypes.c_uint32),
        ("info", ctypes.c_uint32),
        ("size", ctypes.c_uint32),
    )


class _BtfVariable(ctypes.Structure):
    """struct btf_var_secinfo: a variable's place in its section."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("offset", ctypes.c_uint32),
        ("size", ctypes.c_uint32),
    )


class BpfObject:
    """One object file on its way into the kernel."""

    def __init__(self, path: Path) -> None:
        self._path = path
        library.forget_messages()
        self._object = library.pointer(
            "bpf_object__open_file", os.fsencode(path), None, attempt=f"opening {path}"
        )

    def resize_map(self, name: str, max_entries: int) -> None:
        """Sets a map's capacity; a ring buffer's in bytes, a power of two and of whole pages."""
        library.call(
            "bpf_map__set_max_entries",
            self._map(name),
            max_entries,
            attempt=f"resizing the map {name} of {self._path} to {max_entries}",
        )

    def reuse_map(self, name: str, existing: Map) -> None:
        """Takes a map that exists already instead of making one."""
        library.call(
            "bpf_map__reuse_fd",
            self._map(name),
            existing.fileno(),
            attempt=f"giving {self._path} the existing map {name}",
        )

    def set_constant(self, name: str, value: int) -> None:
        """Sets a `const volatile` integer, which the verifier then takes as known."""
        data, offset, size = self._constant(name)
        ctypes.memmove(data + offset, value.to_bytes(size, byteorder=sys.byteorder), size)

    def skip_program(self, name: str) -> None:
        """Leaves a program out of the load."""
        library.call(
            "bpf_program__set_autoload",
            self._program(name),
            False,
            attempt=f"leaving out {name} of {self._path}",
        )

    def load(self) -> None:
        """Creates the maps and has the verifier check every program."""
        library.forget_messages()
        attempt = f"loading {self._path}"
        try:
            library.call("bpf_object__load", self._object, attempt=attempt)
        except BpfError as error:
            raise library.refusal(attempt, error.errno, library.last_messages()) from error

    def program_names(self) -> list[str]:
        """All programs of the file."""
        return [
            library.load().bpf_program__name(found).decode()
            for found in self._each("bpf_object__next_program")
        ]

    def program(self, name: str) -> Program:
        """A handle on a loaded program."""
        descriptor = library.call(
            "bpf_program__fd", self._program(name), attempt=f"taking {name} of {self._path}"
        )
        return Program.duplicate(descriptor, name)

    def map(self, name: str) -> Map:
        """A handle on a created map."""
        descriptor = library.call(
            "bpf_map__fd", self._map(name), attempt=f"taking the map {name} of {self._path}"
        )
        return Map.duplicate(descriptor, name)

    def close(self) -> None:
        """Frees what is neither pinned nor held elsewhere."""
        opened, self._object = self._object, 0
        if opened:
            library.load().bpf_object__close(opened)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _map(self, name: str) -> int:
        return library.pointer(
            "bpf_object__find_map_by_name",
            self._object,
            name.encode(),
            attempt=f"finding the map {name} in {self._path}",
        )

    def _program(self, name: str) -> int:
        return library.pointer(
            "bpf_object__find_program_by_name",
            self._object,
            name.encode(),
            attempt=f"finding the program {name} in {self._path}",
        )

    def _each(self, function: str) -> Iterator[int]:
        following = getattr(library.load(), function)
        found: int | None = following(self._object, None)
        while found:
            yield found
            found = following(self._object, found)

    def _constant(self, name: str) -> tuple[int, int, int]:
        """Address of the section's data, the constant's offset and size in it."""
        attempt = f"finding the constant {name} in {self._path}"
        bpf = library.load()
        data = library.pointer(
            "bpf_map__initial_value",
            self._map(_READ_ONLY_DATA.decode()),
            ctypes.byref(ctypes.c_size_t()),
            attempt=attempt,
        )
        btf = library.pointer("bpf_object__btf", self._object, attempt=attempt)
        section_id = library.call(
            "btf__find_by_name_kind", btf, _READ_ONLY_DATA, _BTF_KIND_DATASEC, attempt=attempt
        )
        address = library.pointer("btf__type_by_id", btf, section_id, attempt=attempt)
        count = _BtfType.from_address(address).info & 0xFFFF
        variables = (_BtfVariable * count).from_address(address + ctypes.sizeof(_BtfType))
        for variable in variables:
            described = library.pointer("btf__type_by_id", btf, variable.type, attempt=attempt)
            name_offset = _BtfType.from_address(described).name_offset
            if bpf.btf__name_by_offset(btf, name_offset) == name.encode():
                return data, variable.offset, variable.size
        raise library.refusal(attempt, errno.ENOENT)
