"""Which names of a tree are left out of replication, and so out of comparison.

Patterns are those of `exclude` in module.yaml, relative to the directory: `*` and `?` stop at a
slash, `**` does not. A directory that matches is left out with all below it.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

_PARTS = re.compile(rb"\*\*/?|\*|\?|[^*?]+")


@dataclass(frozen=True, slots=True)
class Excludes:
    """The patterns of one directory."""

    _patterns: tuple[re.Pattern[bytes], ...]
    _holders: frozenset[bytes]

    @classmethod
    def of(cls, patterns: Iterable[str | bytes]) -> "Excludes":
        """From the texts of module.yaml."""
        texts = [text.encode() if isinstance(text, str) else text for text in patterns]
        return cls(
            tuple(re.compile(_expression(text), re.DOTALL) for text in texts),
            frozenset(text.rpartition(b"/")[0] for text in texts),
        )

    def leaves_out(self, path: bytes) -> bool:
        """True for a relative path that is not replicated."""
        return any(pattern.fullmatch(path) for pattern in self._patterns)

    def holds_left_out(self, directory: bytes) -> bool:
        """True for a directory in which names that are left out may come and go, and with them its
        modification time.
        """
        return directory in self._holders


def _expression(text: bytes) -> bytes:
    expression = b""
    for part in _PARTS.findall(text):
        if part == b"**/":
            expression += b"(?:.*/)?"
        elif part == b"**":
            expression += b".*"
        elif part == b"*":
            expression += b"[^/]*"
        elif part == b"?":
            expression += b"[^/]"
        else:
            expression += re.escape(part)
    return expression
