"""A lab: several hosts on one machine, made of namespaces.

Commands of one process and of many may follow each other in any order: all memory is in the record
(record.py) and in the kernel, and every change happens under the lab's lock. What a lab is made of
dies with its keeper (keeper.py), so a lab that was killed halfway needs no repair.

Hosts, wires and power only; the cluster that runs on the hosts is nodes.py's.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Self

from telamon.errors import NotFoundError, RefusedError
from telamon.lab import keeper, network, nodes, power, record
from telamon.lab.host import RunningHost
from telamon.lab.network import Direction
from telamon.lab.record import Cut, Record
from telamon.lab.spec import Host, LabSpec, lab_spec


class Lab:
    """One lab that is up. Used as a context manager it is taken down at the end of the block."""

    def __init__(self, name: str) -> None:
        """The lab of that name that is up, made by this process or another."""
        found = record.load(name)
        if not _is_up(found):
            raise NotFoundError(
                f"lab {name} is not up: make it with `telamon lab up --name {name}`"
            )
        self.name = name
        self.spec: LabSpec = lab_spec(found.lab_file, f"lab {name}")
        self._leash: keeper.Leash | None = None

    @classmethod
    def up(
        cls,
        name: str,
        lab_file: str,
        source: str = "lab.yaml",
        is_attached: bool = True,
    ) -> Self:
        """Makes a lab. An attached one ends with the calling process, whatever ends that."""
        spec = lab_spec(lab_file, source)
        with record.locked(name):
            _refuse_if_up(name)
            leash = _make(name, spec, lab_file, is_attached)
        lab = cls(name)
        # The leash lives as long as this object's process, not as this object.
        lab._leash = _LEASHES.setdefault(name, leash) if is_attached else None
        return lab

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    @property
    def record(self) -> Record:
        """What is on, off and cut at this moment."""
        return record.load(self.name)

    def host(self, name: str) -> RunningHost:
        """A host that is on."""
        init = self.record.hosts[self._host(name).name]
        if init is None:
            raise RefusedError(f"{name} is off: `telamon lab on {name}` switches it on")
        return RunningHost(name, init)

    def cut(
        self, name: str, network_name: str | None = None, direction: Direction = Direction.BOTH
    ) -> None:
        """Drops what the host sends, receives, or both, on one network or on all of them."""
        named = self._cuts(name, network_name, direction)
        self._change_cuts(self._host(name), lambda before: before | named)

    def heal(
        self, name: str, network_name: str | None = None, direction: Direction = Direction.BOTH
    ) -> None:
        """Ends cuts; healing what is not cut changes nothing."""
        named = self._cuts(name, network_name, direction)
        self._change_cuts(self._host(name), lambda before: before - named)

    def off(self, name: str) -> None:
        """The power of one host fails."""
        host = self._host(name)
        with record.locked(self.name):
            now = self.record
            if (init := now.hosts[name]) is None:
                raise RefusedError(f"{name} is off already")
            power.fail(self.name, now.keeper, host, init)
            record.save(self.name, replace(now, hosts={**now.hosts, name: None}))

    def on(self, name: str) -> None:
        """Boots a host that is off."""
        host = self._host(name)
        with record.locked(self.name):
            now = self.record
            if now.hosts[name] is not None:
                raise RefusedError(f"{name} is on already")
            booting = power.boot(self.name, self.spec, now.keeper, [host], now.cuts)[name]
            record.save(self.name, replace(now, hosts={**now.hosts, name: booting.init}))
            booting.go()

    def down(self) -> None:
        """Ends the lab."""
        down(self.name)

    def _host(self, name: str) -> Host:
        for host in self.spec.hosts:
            if host.name == name:
                return host
        known = ", ".join(host.name for host in self.spec.hosts)
        raise NotFoundError(f"lab {self.name} has no host {name}; its hosts are {known}")

    def _cuts(self, name: str, network_name: str | None, direction: Direction) -> frozenset[Cut]:
        links = self._host(name).links
        if network_name is not None and network_name not in links:
            raise NotFoundError(
                f"{name} has no network {network_name}; its networks are {', '.join(links)}"
            )
        wanted = links if network_name is None else [network_name]
        return frozenset((name, one, part) for one in wanted for part in direction.parts)

    def _change_cuts(self, host: Host, change: Callable[[frozenset[Cut]], frozenset[Cut]]) -> None:
        with record.locked(self.name):
            now = self.record
            cuts = change(now.cuts)
            if now.hosts[host.name] is not None:
                network.silence(now.keeper, host, power.cuts_of(host, cuts))
            record.save(self.name, replace(now, cuts=cuts))


# Letting go of a leash ends the lab, so the leashes of attached labs are held until their end.
_LEASHES: dict[str, keeper.Leash] = {}


def labs() -> list[str]:
    """The names of all labs that are up."""
    return [name for name in record.names() if _is_up(_found(name))]


def down(name: str) -> None:
    """Ends a lab and clears away what is left of it; a lab that was killed halfway too."""
    with record.locked(name):
        try:
            if (found := _found(name)) is None:
                raise NotFoundError(f"there is no lab called {name}")
            power.end(found.keeper)
            power.await_release_of_disks(name)
        finally:
            record.remove(name)
            _LEASHES.pop(name, None)


def _make(name: str, spec: LabSpec, lab_file: str, is_attached: bool) -> keeper.Leash:
    store = record.directory(name) / "store"
    record.clear(name)
    store.mkdir()
    leash = keeper.start(store, is_attached)
    now = Record(
        lab_file=lab_file,
        keeper=leash.keeper,
        is_ready=False,
        hosts={host.name: None for host in spec.hosts},
        cuts=frozenset(),
    )
    try:
        record.save(name, now)
        network.make_bridges(leash.keeper, spec.networks)
        booting = power.boot(name, spec, leash.keeper, spec.hosts, now.cuts)
        running = {host: RunningHost(host, one.init) for host, one in booting.items()}
        nodes.furnish(name, spec, running)
        for one in booting.values():
            one.go()
        if spec.agents:
            nodes.await_agents(spec, running)
        leash.ready()
        hosts = {host: one.init for host, one in booting.items()}
        record.save(name, replace(now, is_ready=True, hosts=hosts))
    except BaseException:
        power.end(leash.keeper)
        record.remove(name)
        raise
    return leash


def _found(name: str) -> Record | None:
    try:
        return record.load(name)
    except NotFoundError:
        return None


def _is_up(found: Record | None) -> bool:
    return found is not None and found.is_ready and found.keeper.is_alive


def _refuse_if_up(name: str) -> None:
    """Refuses a name in use; ends what was left behind by a lab that was killed halfway."""
    found = _found(name)
    if _is_up(found):
        raise RefusedError(
            f"lab {name} is up already: `telamon lab down --name {name}` takes it down, and another"
            " --name makes a second one"
        )
    if found is not None:
        power.end(found.keeper)
        power.await_release_of_disks(name)
