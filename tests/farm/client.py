"""The client side of the packet tests: many client addresses, connections that stay open.

Run inside a network namespace; each line in is one JSON command, each line out its JSON answer.
"""

import asyncio
import json
import random
import socket
import sys
from pathlib import Path
from typing import Any

from scapy.layers import inet
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import ARP, Ether

ETH_P_ALL, ETH_P_ARP = 0x0003, 0x0806
TCP = 6
SILENCE_S = 1.0
OWN_MAC = Path("/sys/class/net/eth0/address").read_text().strip()

CONNECT_S = 8.0
ECHO_S = 4.0
DATAGRAM_S = 1.0


class Client:
    def __init__(self) -> None:
        self.open: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def connect(self, source: str, to: str, port: int) -> list[Any]:
        """Return [source, source port, who answered or the error's name]."""
        try:
            async with asyncio.timeout(CONNECT_S):
                reader, writer = await asyncio.open_connection(to, port, local_addr=(source, 0))
                own_port = writer.get_extra_info("sockname")[1]
                greeting = await reader.readline()
        except (OSError, TimeoutError) as error:
            return [source, 0, type(error).__name__]
        self.open.append((reader, writer))
        return [source, own_port, int(greeting or 0)]

    async def connect_all(self, sources: list[str], to: str, port: int) -> list[Any]:
        return list(await asyncio.gather(*(self.connect(each, to, port) for each in sources)))

    async def echo_all(self) -> int:
        """Return how many of the open connections still work."""
        return sum(await asyncio.gather(*(self._echo(*each) for each in self.open)))

    @staticmethod
    async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        try:
            async with asyncio.timeout(ECHO_S):
                writer.write(b"ping\n")
                return await reader.readline() == b"ping\n"
        except (OSError, TimeoutError):
            return False

    async def close_all(self) -> None:
        for _, writer in self.open:
            writer.close()
        self.open.clear()

    async def ask_all(self, sources: list[str], to: str, port: int) -> list[list[int]]:
        """Send one datagram from each source; return who answered each, as often as they did."""
        return list(await asyncio.gather(*(self._ask(each, to, port) for each in sources)))

    @staticmethod
    async def _ask(source: str, to: str, port: int) -> list[int]:
        family = socket.AF_INET6 if ":" in to else socket.AF_INET
        loop = asyncio.get_running_loop()
        answers = []
        with socket.socket(family, socket.SOCK_DGRAM) as asking:
            asking.setblocking(False)
            asking.bind((source, 0))
            asking.connect((to, port))
            await loop.sock_sendall(asking, b"who")
            try:
                async with asyncio.timeout(DATAGRAM_S):
                    while True:
                        answers.append(int((await loop.sock_recv(asking, 64)).split()[0]))
            except TimeoutError:
                return answers

    async def capture(self) -> None:
        """Watch who answers SYNs, until `captured`."""
        self.answers: dict[str, set[str]] = {}
        self.link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self.link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
        self.link.setblocking(False)
        self.link.bind(("eth0", ETH_P_ALL))
        asyncio.get_running_loop().add_reader(self.link, self._note_answers)

    async def captured(self) -> dict[str, list[str]]:
        """Return for each SYN answered the MACs that sent a SYN-ACK."""
        asyncio.get_running_loop().remove_reader(self.link)
        self._note_answers()
        self.link.close()
        return {flow: sorted(macs) for flow, macs in self.answers.items()}

    def _note_answers(self) -> None:
        while True:
            try:
                frame = self.link.recv(2048)
            except BlockingIOError:
                return
            is_ipv4 = frame[12:14] == b"\x08\x00"
            protocol, segment = (frame[23], 34) if is_ipv4 else (frame[20], 54)
            if protocol == TCP and frame[segment + 13] & 0x12 == 0x12:
                to = frame[30:34] if is_ipv4 else frame[38:54]
                flow = (to + frame[segment : segment + 4]).hex()
                self.answers.setdefault(flow, set()).add(frame[6:12].hex(":"))

    async def stranger(self, source: str, to: str, port: int) -> bool:
        """Send a segment of no known connection; return whether it is answered by a reset."""
        family = socket.AF_INET6 if ":" in to else socket.AF_INET
        loop = asyncio.get_running_loop()
        own_port = random.randint(20000, 60000)
        layer = IPv6 if family == socket.AF_INET6 else inet.IP
        segment = inet.TCP(sport=own_port, dport=port, flags="A", seq=1, ack=1)
        # Built behind its IP layer for the checksum.
        ack = bytes(layer(src=source, dst=to) / segment)[-20:]
        with socket.socket(family, socket.SOCK_RAW, TCP) as raw:
            raw.setblocking(False)
            raw.bind((source, 0))
            await loop.sock_sendto(raw, ack, (to, 0))
            try:
                async with asyncio.timeout(SILENCE_S):
                    while True:
                        packet = await loop.sock_recv(raw, 2048)
                        reply = packet[20:] if family == socket.AF_INET else packet
                        if reply[2:4] == own_port.to_bytes(2, "big") and reply[13] & 0x04:
                            return True
            except TimeoutError:
                return False

    async def ping(self, source: str, to: str) -> int:
        """Send one echo request; return how many replies come."""
        version6 = ":" in to
        family = socket.AF_INET6 if version6 else socket.AF_INET
        protocol = socket.IPPROTO_ICMPV6 if version6 else socket.IPPROTO_ICMP
        mark = random.randint(1, 0xFFFF)
        layer, echo = (IPv6, ICMPv6EchoRequest) if version6 else (inet.IP, inet.ICMP)
        request = bytes(layer(src=source, dst=to) / echo(id=mark))[40 if version6 else 20 :]
        reply_type, replies = (129 if version6 else 0), 0
        loop = asyncio.get_running_loop()
        with socket.socket(family, socket.SOCK_RAW, protocol) as raw:
            raw.setblocking(False)
            raw.bind((source, 0))
            await loop.sock_sendto(raw, request, (to, 0))
            try:
                async with asyncio.timeout(SILENCE_S):
                    while True:
                        reply = (await loop.sock_recv(raw, 2048))[0 if version6 else 20 :]
                        is_ours = reply[4:6] == mark.to_bytes(2, "big")
                        replies += reply[0] == reply_type and is_ours
            except TimeoutError:
                return replies

    async def who_has(self, address: str, requester: str) -> list[list[str]]:
        """Ask by ARP; return [Ethernet source, MAC claimed] of each reply."""
        question = Ether(src=OWN_MAC, dst="ff:ff:ff:ff:ff:ff") / ARP(
            op=1, hwsrc=OWN_MAC, psrc=requester, pdst=address
        )
        replies = []
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ARP)) as link:
            link.setblocking(False)
            link.bind(("eth0", ETH_P_ARP))
            link.send(bytes(question))
            try:
                async with asyncio.timeout(SILENCE_S):
                    while True:
                        reply = Ether(await loop.sock_recv(link, 2048))
                        if reply[ARP].op == 2 and reply[ARP].psrc == address:
                            replies.append([reply.src, reply[ARP].hwsrc])
            except TimeoutError:
                return replies


async def main() -> None:
    client = Client()
    commands = asyncio.StreamReader(limit=1 << 20)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while line := await commands.readline():
        name, *arguments = json.loads(line)
        print(json.dumps(await getattr(client, name)(*arguments)), flush=True)


asyncio.run(main())
