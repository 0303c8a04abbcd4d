"""A farm node for the packet tests: one filter, TCP and UDP servers, commands on standard input.

Run inside a network namespace: `node.py KIND NUMBER`. Each line in is one JSON command, each line
out its JSON answer. The servers greet a TCP client with the node's number, then echo.
"""

import asyncio
import base64
import json
import os
import shutil
import sys
import tempfile
import time
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from telamon.farm import filter as xdp
from telamon.farm import nft
from telamon.farm.face import RunningFilter
from telamon.farm.hash import Affinity
from telamon.farm.layout import Address, AddressRule, Mode, Other, Service, TableImage
from telamon.farm.ownership import Ownership
from telamon.farm.responder import Responder
from telamon_nfqueue import filter as nfqueue

INTERFACE = "eth0"
TABLE = 0
TCP, UDP = 6, 17
PORT_BY_CLIENT, PORT_BY_CONNECTION = 7000, 7001
SECOND = 1_000_000_000


class Node:
    def __init__(self, kind: str, number: int) -> None:
        self.number = number
        self.mac = Path(f"/sys/class/net/{INTERFACE}/address").read_text().strip()
        self.ownership = Ownership(number)
        self.kind = kind
        self.pins = xdp.PINS.parent / f"telamon-test-{os.getppid()}-{number}"
        self.run = Path(tempfile.gettempdir()) / self.pins.name
        self.filter = self.attached()
        self.filter.set_member(number, bytes.fromhex(self.mac.replace(":", "")))

    def attached(self) -> RunningFilter:
        if self.kind == "nft":
            return nft.attach(INTERFACE)
        if self.kind == "nfqueue":
            return nfqueue.attach(INTERFACE, self.run)
        return xdp.attach(INTERFACE, [xdp.Attachment.GENERIC], self.pins)

    def claim(self, target: Address, requester: Address) -> str | None:
        now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        return self.ownership.virtual_mac(target, requester, now)

    def configure(self, addresses: list[str], virtual_mac: str, other: str) -> None:
        mac = bytes.fromhex(virtual_mac.replace(":", ""))
        rule = AddressRule(TABLE, Mode.FLOOD, Other[other], mac)
        rules = {ip_address(address): rule for address in addresses}
        ports = {PORT_BY_CLIENT: Affinity.CLIENT, PORT_BY_CONNECTION: Affinity.CONNECTION}
        self.ownership.rules = rules
        self.filter.set_addresses(rules)
        self.filter.set_services(
            Service(address, protocol, port, TABLE, affinity, Mode.FLOOD)
            for address in rules
            for protocol in (TCP, UDP)
            for port, affinity in ports.items()
        )

    def switch(self, packed: str) -> None:
        image = TableImage.unpacked(base64.b64decode(packed))
        self.ownership.images = {TABLE: image}
        self.filter.switch_table(TABLE, image)

    def lease(self, seconds: float) -> None:
        until = time.clock_gettime_ns(time.CLOCK_BOOTTIME) + int(seconds * SECOND)
        self.ownership.lease_until_ns = until
        self.filter.renew_lease(until)

    def adopt(self) -> None:
        """As a restarted agent does."""
        self.filter.close()
        self.filter = self.attached()
        self.filter.set_member(self.number, bytes.fromhex(self.mac.replace(":", "")))

    def detach(self) -> None:
        self.filter.close()
        if self.kind == "nft":
            nft.detach(INTERFACE)
        elif self.kind == "nfqueue":
            nfqueue.detach(INTERFACE, self.run)
            shutil.rmtree(self.run)
        else:
            xdp.detach(INTERFACE, self.pins)

    def owned(self) -> list[int]:
        owners = self.filter.table(TABLE).buckets[0::2]
        return [bucket for bucket, owner in enumerate(owners) if owner == self.number]

    def lease_remaining(self) -> float:
        remaining = self.filter.lease_until_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        return max(remaining / SECOND, 0.0)

    def counters(self) -> dict[str, int]:
        return {counter.name: packets for counter, packets in self.filter.counters().items()}

    async def greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"{self.number}\n".encode())
        while line := await reader.readline():
            writer.write(line)
        writer.close()


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self, number: int) -> None:
        self.number = number

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        self.transport.sendto(f"{self.number} ".encode() + data, address)


async def serve(node: Node, addresses: list[str]) -> None:
    loop = asyncio.get_running_loop()
    for port in (PORT_BY_CLIENT, PORT_BY_CONNECTION):
        await asyncio.start_server(node.greet, addresses, port, backlog=1024)
        for address in addresses:
            await loop.create_datagram_endpoint(
                lambda: Datagrams(node.number), local_addr=(address, port)
            )


async def main(kind: str, number: int) -> None:
    node = Node(kind, number)
    answering = Responder(INTERFACE, node.mac, node.claim).run() if kind != "xdp" else None
    responder = asyncio.create_task(answering) if answering else None
    commands = asyncio.StreamReader(limit=1 << 20)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while line := await commands.readline():
        name, *arguments = json.loads(line)
        if name == "serve":
            answer = await serve(node, *arguments)
        else:
            answer = getattr(node, name)(*arguments)
        print(json.dumps(answer), flush=True)
    if responder:
        responder.cancel()
    node.detach()


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
