"""A small service as a mirror module: it answers with one byte, and is started in no time."""

from pathlib import Path

import yaml

from telamon.lab.host import RunningHost

SERVER = """
import os, pathlib, socket, sys
listener = socket.socket(socket.AF_INET6)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("::", int(sys.argv[1])))
listener.listen(64)
if os.fork():
    os._exit(0)
os.setsid()
pathlib.Path(sys.argv[2]).write_text(str(os.getpid()))
null = os.open("/dev/null", os.O_RDWR)
for stream in (0, 1, 2):
    os.dup2(null, stream)
while True:
    connection, _ = listener.accept()
    try:
        connection.send(b"!")
    except OSError:
        pass
    connection.close()
"""


def make_service(
    host: RunningHost, name: str, directory: str, port: int, addresses: list[str]
) -> Path:
    """Writes the module on a host; returns its directory there."""
    source = Path(f"/run/modules/{name}")
    module = {
        "module": name,
        "kind": "mirror",
        "nodes": ["n1", "n2"],
        "virtual_ips": [{"address": address, "network": "lan"} for address in addresses],
        "replicate": {"directories": [{"path": directory}]},
    }
    started = f"/run/{name}.pid"
    scripts = {
        "start": f'#!/bin/sh\nexec /usr/bin/python3 -S -E "${{0%/*}}/server.py" {port} {started}\n',
        "stop": f"#!/bin/sh\n! test -e {started} || kill $(cat {started}); rm -f {started}\n",
        "server.py": SERVER,
    }
    host.write(source / "module.yaml", yaml.safe_dump(module))
    for script, text in scripts.items():
        host.write(source / "scripts" / script, text, mode=0o755)
    return source
