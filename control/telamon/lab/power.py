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


def fail(keeper: Process, host: Host, init: Process) -> None:
    """The power failure of one host; returns when nothing of it is left but its disk."""
    disk = RunningHost(host.name, init).path(DISK)
    loop = _loop_of(disk)
    network.silence(keeper, host, {(name, one) for name in host.links for one in _EVERYTHING})
    kernel.pull_the_plug(disk)
    end(init)
    network.disconnect(keeper, host)
    _await_release(loop, host.name)


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


def await_release_of_disks(lab: str) -> None:
    """Waits until the kernel has let go of every disk of a lab that ended."""
    store = f"/{lab}/store/"
    deadline = time.monotonic() + _END_TIMEOUT_S
    while busy := [one for one in _loops() if store in _backing(one)]:
        if time.monotonic() > deadline:
            raise TimedOutError(
                f"the kernel still holds {', '.join(busy)} for lab {lab}: a process outside of the"
                " lab uses one of its file systems; end it and repeat `telamon lab down`"
            )
        time.sleep(_POLL_S)


def _make(lab: str, spec: LabSpec, keeper: Process, host: Host) -> host_init.Booting:
    has_agent = spec.agents and host.kind is HostKind.NODE
    plan = host_init.Boot(
        keeper=keeper.id,
        host=host.name,
        store=str(record.directory(lab) / "store"),
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


def _loop_of(disk: Path) -> str:
    device = disk.stat().st_dev
    return Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve().name


def _loops() -> list[str]:
    return [entry.name for entry in Path("/sys/block").glob("loop*")]


def _backing(loop: str) -> str:
    """The file behind a loop device; empty when it is free."""
    try:
        return Path(f"/sys/block/{loop}/loop/backing_file").read_text().rstrip("\n")
    except OSError:
        return ""


def _await_release(loop: str, host: str) -> None:
    """Waits until the last mount of a dead host's disk is gone; a second mount of the same image
    before that would destroy it.
    """
    image = f"/{host}.image"
    deadline = time.monotonic() + _END_TIMEOUT_S
    while _backing(loop).removesuffix(" (deleted)").endswith(image):
        if time.monotonic() > deadline:
            raise TimedOutError(
                f"{host} is off, but the kernel still holds its disk {loop}: a process outside of"
                " the host uses it; end that process and repeat the command"
            )
        time.sleep(_POLL_S)


def _fuse_connections(init: Process) -> list[int]:
    """The numbers below /sys/fs/fuse/connections of a host's FUSE mounts."""
    try:
        lines = Path(f"/proc/{init.id}/mountinfo").read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        fields = line.split()
        kind = fields[fields.index("-") + 1]
        if kind.startswith("fuse") and kind != "fusectl":
            major, _, minor = fields[2].partition(":")
            found.append(os.makedev(int(major), int(minor)))
    return found
