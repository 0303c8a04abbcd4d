"""A map, as bytes in and bytes out: callers own the layouts (ebpf/*.h) and pack them themselves.

Keys and values are checked for size before the kernel sees them, because it would read past a short
buffer. Walking a map that is being changed may repeat or miss elements, never invent any.
"""

import ctypes
import errno
import mmap
from collections.abc import Iterator, Mapping
from enum import IntEnum
from functools import cached_property

from telamon.bpf import library
from telamon.bpf.handle import Handle

_BATCH_ELEMENTS = 4096
_PER_CPU_TYPES = frozenset({5, 6, 10, 21})  # hash, array, LRU hash, cgroup storage


class UpdateFlag(IntEnum):
    """What an update may do (BPF_ANY, BPF_NOEXIST, BPF_EXIST)."""

    ANY = 0
    CREATE = 1
    REPLACE = 2


class _MapInfo(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("key_size", ctypes.c_uint32),
        ("value_size", ctypes.c_uint32),
        ("max_entries", ctypes.c_uint32),
        ("map_flags", ctypes.c_uint32),
        ("name", ctypes.c_char * 16),
    )


class _BatchOptions(ctypes.Structure):
    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("elem_flags", ctypes.c_uint64),
        ("flags", ctypes.c_uint64),
    )


def _cut(buffer: ctypes.Array[ctypes.c_char], size_bytes: int, count: int) -> list[bytes]:
    row = ctypes.string_at(buffer, size_bytes * count)
    return [row[at : at + size_bytes] for at in range(0, len(row), size_bytes)]


def possible_cpus() -> int:
    """How many values an element of a per-CPU map has."""
    return library.call("libbpf_num_possible_cpus", attempt="counting the CPUs")


class Map(Handle):
    """A held map."""

    @cached_property
    def _info(self) -> _MapInfo:
        info = _MapInfo()
        size = ctypes.c_uint32(ctypes.sizeof(info))
        library.call(
            "bpf_obj_get_info_by_fd",
            self.fileno(),
            ctypes.byref(info),
            ctypes.byref(size),
            attempt=f"asking about the map {self.label}",
        )
        return info

    @property
    def key_bytes(self) -> int:
        """Size of a key."""
        return int(self._info.key_size)

    @property
    def value_bytes(self) -> int:
        """Size of a value; in a per-CPU map, of one CPU's."""
        return int(self._info.value_size)

    @property
    def max_entries(self) -> int:
        """Capacity in elements; of a ring buffer, in bytes."""
        return int(self._info.max_entries)

    @property
    def _stride_bytes(self) -> int:
        if self._info.type in _PER_CPU_TYPES:
            return (self.value_bytes + 7) // 8 * 8 * possible_cpus()
        return self.value_bytes

    def lookup(self, key: bytes) -> bytes | None:
        """The value of `key`; of a per-CPU map, all CPUs' values in a row (see `per_cpu`)."""
        value = ctypes.create_string_buffer(self._stride_bytes)
        result = library.call(
            "bpf_map_lookup_elem",
            self.fileno(),
            self._key(key),
            value,
            attempt=f"reading the map {self.label}",
            allowed=(errno.ENOENT,),
        )
        return value.raw if result >= 0 else None

    def per_cpu(self, key: bytes) -> list[bytes] | None:
        """Each CPU's value of `key`."""
        row = self.lookup(key)
        if row is None:
            return None
        step = (self.value_bytes + 7) // 8 * 8
        return [row[at : at + self.value_bytes] for at in range(0, len(row), step)]

    def update(self, key: bytes, value: bytes, flag: UpdateFlag = UpdateFlag.ANY) -> None:
        """Writes one element; EEXIST or ENOENT when `flag` forbids it."""
        library.call(
            "bpf_map_update_elem",
            self.fileno(),
            self._key(key),
            self._sized(value, self._stride_bytes, "value"),
            int(flag),
            attempt=f"writing the map {self.label}",
        )

    def delete(self, key: bytes) -> bool:
        """Removes one element; False if there was none."""
        result = library.call(
            "bpf_map_delete_elem",
            self.fileno(),
            self._key(key),
            attempt=f"deleting from the map {self.label}",
            allowed=(errno.ENOENT,),
        )
        return result >= 0

    def update_many(self, elements: Mapping[bytes, bytes]) -> None:
        """Writes many elements in one system call. Not atomic: readers may see a part of them."""
        if not elements:
            return
        keys = b"".join(self._key(key) for key in elements)
        values = b"".join(
            self._sized(value, self._stride_bytes, "value") for value in elements.values()
        )
        count = ctypes.c_uint32(len(elements))
        options = _BatchOptions(sz=ctypes.sizeof(_BatchOptions))
        library.call(
            "bpf_map_update_batch",
            self.fileno(),
            keys,
            values,
            ctypes.byref(count),
            ctypes.byref(options),
            attempt=f"writing {len(elements)} elements of the map {self.label}",
        )

    def keys(self) -> Iterator[bytes]:
        """All keys, one system call each: for maps that know no batches, and for small ones."""
        key: bytes | None = None
        following = ctypes.create_string_buffer(self.key_bytes)
        while True:
            result = library.call(
                "bpf_map_get_next_key",
                self.fileno(),
                key,
                following,
                attempt=f"walking the map {self.label}",
                allowed=(errno.ENOENT,),
            )
            if result < 0:
                return
            key = following.raw
            yield key

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """All elements of a hash or array, thousands a system call."""
        keys = ctypes.create_string_buffer(self.key_bytes * _BATCH_ELEMENTS)
        values = ctypes.create_string_buffer(self._stride_bytes * _BATCH_ELEMENTS)
        position = ctypes.create_string_buffer(max(self.key_bytes, 4))
        options = _BatchOptions(sz=ctypes.sizeof(_BatchOptions))
        start: object = None
        while True:
            count = ctypes.c_uint32(_BATCH_ELEMENTS)
            result = library.call(
                "bpf_map_lookup_batch",
                self.fileno(),
                start,
                position,
                keys,
                values,
                ctypes.byref(count),
                ctypes.byref(options),
                attempt=f"walking the map {self.label}",
                allowed=(errno.ENOENT,),
            )
            found = zip(
                _cut(keys, self.key_bytes, count.value),
                _cut(values, self._stride_bytes, count.value),
                strict=True,
            )
            yield from found
            if result < 0:
                return
            start = position

    def mapping(self, *, writable: bool = False) -> mmap.mmap:
        """The values of an array made with BPF_F_MMAPABLE, in this process's memory."""
        access = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        length_bytes = (self.value_bytes + 7) // 8 * 8 * self.max_entries
        try:
            return mmap.mmap(self.fileno(), length_bytes, flags=mmap.MAP_SHARED, prot=access)
        except OSError as error:
            raise library.refusal(
                f"mapping {self.label} into memory", error.errno or errno.EIO
            ) from error

    def _key(self, key: bytes) -> bytes:
        return self._sized(key, self.key_bytes, "key")

    def _sized(self, given: bytes, size_bytes: int, what: str) -> bytes:
        if len(given) != size_bytes:
            raise ValueError(
                f"a {what} of the map {self.label} has {size_bytes} bytes, not {len(given)}"
            )
        return given
