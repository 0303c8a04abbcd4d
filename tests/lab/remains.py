"""What a lab could leave behind on the machine."""

import time
from dataclasses import dataclass
from pathlib import Path

from telamon.lab import record
from telamon.lab.process import Process, processes_of

DEADLINE_S = 10.0


@dataclass(frozen=True)
class Footprint:
    """Everything a lab holds while it is up."""

    name: str
    processes: frozenset[Process]

    @classmethod
    def of(cls, name: str) -> "Footprint":
        now = record.load(name)
        inits = [now.keeper, *(one for one in now.hosts.values() if one is not None)]
        processes = frozenset(one for init in inits for one in processes_of(init))
        assert len(processes) >= len(inits)
        assert cls(name, processes).disks() != []
        return cls(name, processes)

    def disks(self) -> list[str]:
        """Loop devices with an image of the lab."""
        found = []
        for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
            try:
                if f".{self.name}.image" in backing.read_text():
                    found.append(str(backing))
            except OSError:
                continue
        return found

    def is_gone(self) -> bool:
        return not any(one.is_alive for one in self.processes) and not self.disks()

    def await_gone(self) -> None:
        """Namespaces have no existence of their own: they end with the processes."""
        deadline = time.monotonic() + DEADLINE_S
        while not self.is_gone():
            assert time.monotonic() < deadline, (
                f"left: {[one.id for one in self.processes if one.is_alive]} {self.disks()}"
            )
            time.sleep(0.02)
        assert f"/{self.name}".encode() not in Path("/proc/self/mountinfo").read_bytes()
