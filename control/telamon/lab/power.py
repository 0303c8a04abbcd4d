"""Power of lab hosts.

Switching off is a power failure: the wires fall silent, the disk stops taking data and loses what
was not flushed to it, and every process is gone, in this order, so that no dying process tells
anybody anything. Switching on is a boot: the disk's journal is recovered, and of what ran before
only what boot scripts start runs again.
"""

import os
import signal
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from telamon.errors import TimedOutError
from telamon.lab import host_init, kernel, network, record
from telamon.lab.host import RunningHost, environment
from telamon.lab.network import Direction
from telamon.lab.process import Process
from telamon.lab.record import Cut
from telamon.lab.root import DISK
from telamon.lab.spec import Host, HostKind, LabSpec

_END_TIMEOUT_S = 10.0
_STUCK_S = 1.0
_POLL_S = 0.005
_EVERYTHING = frozenset({Direction.IN, Direction.OUT})


def boot(
    lab: str, spec: LabSpec, keeper: Process, hosts: Sequence[Host], cuts: Iterable[Cut]
) -> Mapping[str, host_init.Booting]:
    """Makes hosts and their links. They wait for `go`, so that they can be furnished first."""
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        made = list(pool.map(lambda host: _make(lab, spec, keeper, host), hosts))
    for host, booting in zip(hosts, made, strict=True):
        network.connect(keeper, booting.init, host)
        network.silence(keeper, host, cuts_of(host, cuts))
    return {host.name: booting for host, booting in zip(hosts, made, strict=True)}


def cuts_of(host: Host, cuts: Iterable[Cut]) -> frozenset[tuple[str, Direction]]:
    """The cuts that concern one host."""
    return frozenset((name, one) for owner, name, one in cuts if owner == host.name)


def fail(lab: str, keeper: Process, host: Host, init: Process) -> None:
    """The power failure of one host; returns when nothing of it is left but its disk."""
    disk = RunningHost(host.name, init).path(DISK)
    network.silence(keeper, host, {(name, one) for name in host.links for one in _EVERYTHING})
    kernel.pull_the_plug(disk)
    end(init)
    network.disconnect(keeper, host)
    await_release_of_disks(lab, host.name)


def end(init: Process) -> None:
    """Kills the first process of a namespace and with it all others, and waits until they ended.

    A process that waits for an answer of a file system in user space can only end when the
    connection to that is broken; the kernel breaks it when the serving process ends, and we do when
    that takes long.
    """
    connections = _fuse_connections(init)
    init.send(signal.SIGKILL)
    if init.wait_until_ended(_STUCK_S):
        return
    for connection in connections:
        abort = Path(f"/sys/fs/fuse/connections/{connection}/abort")
        if abort.exists():
            abort.write_text("1")
    if not init.wait_until_ended(_END_TIMEOUT_S):
        raise TimedOutError(
            f"process {init.id} of the lab does not end although it was killed: look at"
            f" /proc/{init.id}/stack, then repeat the command"
        )


def await_release_of_disks(lab: str, host: str | None = None) -> None:
    """Waits until the kernel has let go of the disk of a host that is gone, or of all of a lab's.
    To mount an image a second time before that would destroy it.
    """
    ending = f".{lab}.image" if host is None else f"/{_image(lab, host)}"
    deadline = time.monotonic() + _END_TIMEOUT_S
    while busy := _loops_with(ending):
        if time.monotonic() > deadline:
            raise TimedOutError(
                f"the kernel still holds {', '.join(busy)} of lab {lab}: a process outside of it"
                " uses one of its file systems; end that process and repeat the command"
            )
        time.sleep(_POLL_S)


def _make(lab: str, spec: LabSpec, keeper: Process, host: Host) -> host_init.Booting:
    has_agent = spec.agents and host.kind is HostKind.NODE
    store = record.directory(lab) / "store"
    plan = host_init.Boot(
        keeper=keeper.id,
        host=host.name,
        image=str(store / _image(lab, host.name)),
        view=str(store / f"{host.name}.root"),
        disk_bytes=spec.disk_bytes,
        directories=spec.directories,
        hosts_file=_hosts_file(spec),
        agent=[str(Path(sys.executable).parent / "telamond")] if has_agent else [],
        log=str(record.directory(lab) / f"{host.name}.log"),
    )
    return host_init.start(plan, environment())


def _hosts_file(spec: LabSpec) -> str:
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
    return "\n".join([*lines, *(f"{host.address} {host.name}" for host in spec.hosts), ""])


def _image(lab: str, host: str) -> str:
    """The name of a host's disk image. Loop devices are known by it, so it names the lab too."""
    return f"{host}.{lab}.image"


def _loops_with(ending: str) -> list[str]:
    found = []
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        with suppress(OSError):  # it was released just now
            if backing.read_text().rstrip("\n").removesuffix(" (deleted)").endswith(ending):
                found.append(backing.parent.parent.name)
    return found


def _fuse_connections(init: Process) -> list[int]:
    """The numbers below /sys/fs/fuse/connections of a host's FUSE mounts."""
    try:
        lines = Path(f"/proc/{init.id}/mountinfo").read_bytes().split(b"\n")
    except OSError:
        return []
    found = []
    for line in lines:
        fields, _, rest = line.partition(b" - ")
        if rest.startswith(b"fuse") and not rest.startswith(b"fusectl"):
            major, _, minor = fields.split(b" ")[2].partition(b":")
            found.append(os.makedev(int(major), int(minor)))
    return found
