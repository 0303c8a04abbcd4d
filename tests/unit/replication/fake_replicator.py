"""A replicator that speaks replicator/CONTROL.md and replicates nothing, for tests of the agent's
side.

Its role and lineage live in its state directory, so that it survives a restart as the real one
does. Beside the documented commands it has `inject`: `{"status": {...}, "event": {...}, "refuse":
{command: message}, "stall": [command]}` changes what it says next.
"""

import argparse
import asyncio
import json
import os
import secrets
import signal
from pathlib import Path
from typing import Any

NEVER = "0" * 16


class FakeReplicator:
    def __init__(self, control_socket: Path) -> None:
        self.control_socket = control_socket
        self.configuration: dict[str, Any] = {}
        self.role = "idle"
        self.commits = "peer"
        self.link = "down"
        self.changed: dict[str, Any] = {}
        self.refusals: dict[str, str] = {}
        self.stalled: set[str] = set()
        self.commands: list[str] = []
        self.lineage: dict[str, Any] = {
            "generation": NEVER,
            "peer_generation": NEVER,
            "history": [],
            "data_state": "Inconsistent",
            "clean": True,
            "role_at_shutdown": "idle",
        }
        self._asked = asyncio.Condition()
        self._writers: set[asyncio.StreamWriter] = set()
        self.ended = asyncio.Event()

    async def until_asked(self, command: str) -> None:
        async with self._asked:
            await self._asked.wait_for(lambda: command in self.commands)

    async def serve(self) -> asyncio.Server:
        self.control_socket.unlink(missing_ok=True)
        return await asyncio.start_unix_server(self._connection, self.control_socket)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while True:
                length = int.from_bytes(await reader.readexactly(4), "little")
                request = json.loads(await reader.readexactly(length))
                self._answer(request, writer)
                async with self._asked:
                    self._asked.notify_all()
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    def _answer(self, request: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        command = request["command"]
        self.commands.append(command)
        if command in self.stalled:
            return
        if command in self.refusals:
            refusal = {"code": "refused", "message": self.refusals[command]}
            self._send(writer, {"id": request["id"], "ok": False, "refusal": refusal})
            return
        result = getattr(self, f"do_{command}")(request)
        self._send(writer, {"id": request["id"], "ok": True, "result": result or {}})
        if command == "stop":
            self.ended.set()

    def _send(self, writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
        body = json.dumps(message).encode()
        writer.write(len(body).to_bytes(4, "little") + body)

    def send_event(self, event: dict[str, Any]) -> None:
        for writer in self._writers:
            self._send(writer, event)

    def send_raw(self, raw: bytes) -> None:
        for writer in self._writers:
            writer.write(raw)

    def drop_connections(self) -> None:
        for writer in self._writers:
            writer.close()

    def do_hello(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"protocol": request["protocol"], "version": "fake", "pid": os.getpid()}

    def do_configure(self, request: dict[str, Any]) -> None:
        self.configuration = request
        record = self._record()
        if record.exists():
            self.lineage = json.loads(record.read_text())

    def do_connect(self, _: dict[str, Any]) -> None:
        self._become("secondary")

    def do_disconnect(self, _: dict[str, Any]) -> None:
        self._become("idle")

    def do_promote(self, request: dict[str, Any]) -> None:
        if request["force"]:
            self.lineage |= {"data_state": "UpToDate", "generation": secrets.token_hex(8)}
        self.commits = "waiting"
        self._become("primary")

    def do_grant(self, _: dict[str, Any]) -> None:
        self.lineage |= {
            "peer_generation": self.lineage["generation"],
            "generation": secrets.token_hex(8),
        }
        self.commits = "alone"
        self._save()

    def do_outdate(self, _: dict[str, Any]) -> None:
        self.lineage["data_state"] = "Outdated"
        self._save()

    def do_demote(self, _: dict[str, Any]) -> None:
        self.lineage["clean"] = True
        self._become("idle")

    def do_status(self, _: dict[str, Any]) -> dict[str, Any]:
        return {
            "role": self.role,
            "link": self.link,
            "link_reason": "",
            "commits": self.commits,
            "lineage": self.lineage,
            "peer_lineage": None,
            "capture": "relay",
            "directories": [
                {
                    "path": directory["path"],
                    "mounted": self.role == "primary",
                    "fenced": self.role != "primary",
                    "mode": "relay",
                }
                for directory in self.configuration.get("directories", [])
            ],
        } | self.changed

    def do_resync(self, _: dict[str, Any]) -> None:
        pass

    def do_verify(self, _: dict[str, Any]) -> None:
        pass

    def do_stop(self, _: dict[str, Any]) -> None:
        self.lineage["clean"] = True
        self._become("idle")

    def do_inject(self, request: dict[str, Any]) -> None:
        status = request.get("status", {})
        self.link = status.pop("link", self.link)
        self.lineage |= status.pop("lineage", {})
        self.changed |= status
        self.refusals |= request.get("refuse", {})
        self.stalled |= set(request.get("stall", []))
        if "event" in request:
            self.send_event(request["event"])

    def _become(self, role: str) -> None:
        self.role = role
        self._save()
        self.send_event({"event": "role", "role": role})

    def _record(self) -> Path:
        return Path(self.configuration["state_directory"]) / "fake-lineage.json"

    def _save(self) -> None:
        if self.configuration:
            self._record().parent.mkdir(parents=True, exist_ok=True)
            self._record().write_text(json.dumps(self.lineage))


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--control", type=Path, required=True)
    fake = FakeReplicator(parser.parse_args().control)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, fake.ended.set)
    async with await fake.serve():
        await fake.ended.wait()
        # Lets the answer to `stop` leave.
        await asyncio.sleep(0)
    fake.control_socket.unlink(missing_ok=True)


if __name__ == "__main__":
    asyncio.run(main())
