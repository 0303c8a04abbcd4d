"""Quantities that carry their unit: durations, sizes and rates, as values and as fields.

Invariant: a bare number is refused, so nobody has to know which unit a key is counted in.
"""

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import PlainSerializer, PlainValidator

_UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_UNIT_BYTES = {
    "B": 1,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
    "TiB": 1 << 40,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
}
_QUANTITY = re.compile(r"(\d{1,12})(?:\.(\d{1,3}))? ?([A-Za-z]+)", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Duration:
    """A span of time, exact to the millisecond."""

    milliseconds: int

    @property
    def seconds(self) -> float:
        """The same span for interfaces that count in seconds."""
        return self.milliseconds / 1000

    def __mul__(self, factor: int) -> "Duration":
        return Duration(self.milliseconds * factor)

    def __str__(self) -> str:
        for unit, unit_ms in reversed(_UNIT_MS.items()):
            if self.milliseconds % unit_ms == 0 and self.milliseconds >= unit_ms:
                return f"{self.milliseconds // unit_ms}{unit}"
        return "0s"


@dataclass(frozen=True, slots=True, order=True)
class Size:
    """An amount of data."""

    size_bytes: int

    def __str__(self) -> str:
        for unit in ("TiB", "GiB", "MiB", "KiB"):
            if self.size_bytes % _UNIT_BYTES[unit] == 0 and self.size_bytes >= _UNIT_BYTES[unit]:
                return f"{self.size_bytes // _UNIT_BYTES[unit]}{unit}"
        return f"{self.size_bytes}B"


@dataclass(frozen=True, slots=True, order=True)
class Rate:
    """An amount of data in each second."""

    bytes_per_s: int

    def __str__(self) -> str:
        return f"{Size(self.bytes_per_s)}/s"


def parse_duration(text: object) -> Duration:
    """Read `200ms`, `2s`, `1.5m`, `24h`, `1d`."""
    return Duration(_scaled(text, _UNIT_MS, "a duration such as 200ms, 2s, 5m, 24h or 1d"))


def parse_size(text: object) -> Size:
    """Read `64MiB`, `10GB`, `512B`."""
    return Size(_scaled(text, _UNIT_BYTES, "a size such as 512KiB, 64MiB or 10GB"))


def parse_rate(text: object) -> Rate:
    """Read `100MiB/s`."""
    expected = "a rate such as 100MiB/s"
    if not isinstance(text, str) or not text.endswith("/s"):
        raise ValueError(f"{text!r} is not {expected}: write the unit")
    return Rate(_scaled(text.removesuffix("/s"), _UNIT_BYTES, expected))


def _scaled(text: object, units: dict[str, int], expected: str) -> int:
    match = _QUANTITY.fullmatch(text) if isinstance(text, str) else None
    if match is None or match[3] not in units:
        raise ValueError(f"{text!r} is not {expected}: write the unit")
    whole, fraction, unit = match.groups()
    thousandths = int(whole) * 1000 + int((fraction or "").ljust(3, "0"))
    if thousandths * units[unit] % 1000:
        raise ValueError(f"{text!r} is finer than the smallest unit that counts here")
    return thousandths * units[unit] // 1000


def _duration(value: object) -> Duration:
    return value if isinstance(value, Duration) else parse_duration(value)


def _size(value: object) -> Size:
    return value if isinstance(value, Size) else parse_size(value)


def _rate(value: object) -> Rate:
    return value if isinstance(value, Rate) else parse_rate(value)


DurationField = Annotated[Duration, PlainValidator(_duration), PlainSerializer(str, str)]
SizeField = Annotated[Size, PlainValidator(_size), PlainSerializer(str, str)]
RateField = Annotated[Rate, PlainValidator(_rate), PlainSerializer(str, str)]
