"""What a simulated host keeps through a power cut, and what it loses. Data is a set of commits."""

from collections.abc import Callable
from dataclasses import dataclass, field

from telamon.mirror.lineage import Lineage


@dataclass
class Disk:
    """Platter and page cache."""

    lineage: Lineage = field(default_factory=Lineage)
    durable: set[int] = field(default_factory=set)
    cached: set[int] = field(default_factory=set)
    is_full: bool = False

    @property
    def content(self) -> set[int]:
        """What a reader of the file system sees."""
        return self.durable | self.cached

    def flush(self) -> None:
        self.durable |= self.cached
        self.cached.clear()

    def lose_power(self, survives: Callable[[], bool]) -> None:
        """Of what was not flushed, some may have reached the platter."""
        self.durable |= {commit for commit in sorted(self.cached) if survives()}
        self.cached.clear()
