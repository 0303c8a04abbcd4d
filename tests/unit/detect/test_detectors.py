"""Every kind of detector against what it is made for: real sockets, links, addresses, processes."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telamon.detect import custom, ping, process
from telamon.detect.aside import Aside, StillHangsError
from telamon.detect.custom import CustomDetector
from telamon.detect.http import HttpDetector
from telamon.detect.interface import InterfaceDetector
from telamon.detect.ip import IpDetector
from telamon.detect.module import ModuleDetector, Seen
from telamon.detect.outcome import GOOD, Look, Outcome, Sight
from telamon.detect.ping import PingDetector
from telamon.detect.process import ProcessDetector
from telamon.detect.tcp import TcpDetector
from telamon.errors import NotFoundError
from telamon.module.check_target import HttpTarget, ModuleTarget, ProcessTarget

LIMIT_S = 10.0
LOOPBACK = {4: ip_address("127.0.0.1"), 6: ip_address("::1")}


def run(look: Look, limit_s: float = LIMIT_S) -> Outcome:
    """One look, on a loop of its own."""

    async def main() -> Outcome:
        async with asyncio.timeout(limit_s):
            return await look()

    return asyncio.run(main())


def command(words: str) -> None:
    subprocess.run(words.split(), check=True)


def assert_bad(outcome: Outcome, *words: str) -> None:
    assert outcome.sight is Sight.BAD, outcome
    assert all(word in outcome.reason for word in words), outcome.reason


@contextmanager
def listening(version: int) -> Iterator[int]:
    family = socket.AF_INET6 if version == 6 else socket.AF_INET
    with socket.socket(family) as link:
        link.bind((str(LOOPBACK[version]), 0))
        link.listen()
        yield link.getsockname()[1]


# --- tcp ---


@pytest.mark.parametrize("version", [4, 6])
def test_tcp_is_good_while_somebody_accepts(version: int) -> None:
    with listening(version) as port:
        detector = TcpDetector(LOOPBACK[version], port)
        assert run(detector) == GOOD
    assert_bad(run(detector), str(LOOPBACK[version]), str(port), "Connection refused")


def test_tcp_waits_for_a_silent_host_no_longer_than_it_is_given(network_namespace: None) -> None:
    command("ip link set far0 address 02:00:00:00:00:02")
    command("ip neigh add 10.9.0.9 lladdr 02:00:00:00:00:02 dev near0")
    with pytest.raises(TimeoutError):
        run(TcpDetector(ip_address("10.9.0.9"), 80), 0.3)


# --- ping ---


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("group_range", ["1 0", "0 0"], ids=["raw", "unprivileged"])
def test_ping_is_answered(network_namespace: None, version: int, group_range: str) -> None:
    Path("/proc/sys/net/ipv4/ping_group_range").write_text(group_range)
    assert run(PingDetector((LOOPBACK[version],))) == GOOD


def test_one_answer_of_several_is_enough_and_none_is_a_failure(network_namespace: None) -> None:
    nobody = ip_address("203.0.113.1")
    assert run(PingDetector((nobody, LOOPBACK[4]))) == GOOD
    assert_bad(run(PingDetector((nobody,))), "203.0.113.1", "unreachable")
    with pytest.raises(TimeoutError):
        run(PingDetector((ip_address("10.9.0.77"),)), 0.3)


@given(st.binary(max_size=64))
def test_ping_takes_no_foreign_packet_for_an_answer(packet: bytes) -> None:
    nonce = b"n" * ping.NONCE_BYTES
    assert not ping.is_answer(packet, 4, nonce) or packet.endswith(nonce)
    assert not ping.is_answer(ping.request(4, nonce), 4, nonce)
    assert not ping.is_answer(ping.request(6, nonce), 6, nonce)
    reply = b"\0" + ping.request(4, nonce)[1:]
    assert ping.is_answer(reply, 4, nonce)
    assert ping.is_answer(b"\x45" + bytes(19) + reply, 4, nonce)
    assert not ping.is_answer(reply, 4, b"m" * ping.NONCE_BYTES)


# --- interface and ip ---


def test_interface_needs_both_ends_of_its_cable(network_namespace: None) -> None:
    by_name = InterfaceDetector("near0", None)
    by_address = InterfaceDetector(None, ip_address("10.9.0.1"))
    assert run(by_name) == run(by_address) == GOOD
    command("ip link set far0 down")
    assert_bad(run(by_name), "near0", "no carrier")
    assert_bad(run(by_address), "near0", "no carrier")
    command("ip link set near0 down")
    assert_bad(run(by_name), "near0", "switched off")
    assert_bad(run(InterfaceDetector("gone0", None)), "gone0", "does not exist")
    assert_bad(run(InterfaceDetector(None, ip_address("10.9.0.2"))), "10.9.0.2")


def test_ip_wants_every_address(network_namespace: None) -> None:
    here, v6, gone = (ip_address(one) for one in ("10.9.0.1", "fd09::1", "10.9.0.5"))
    assert run(IpDetector((here, v6))) == GOOD
    assert_bad(run(IpDetector((here, gone))), "10.9.0.5")


# --- http ---


class _Answers(BaseHTTPRequestHandler):
    """`/status/N` answers N, `/big` more than is read, `/moved` leads elsewhere, `/slow` is."""

    def do_GET(self) -> None:
        body = f"host {self.headers['host']}, it works".encode()
        status = 200
        if self.path.startswith("/status/"):
            status = int(self.path.rpartition("/")[2])
        if self.path == "/big":
            body = b"x" * (3 << 20) + b"end"
        if self.path == "/closed" and self.headers["authorization"] != "Basic bWU6c2VjcmV0":
            status = 401
        if self.path == "/moved":
            status = 302
        if self.path == "/slow":
            self.server.is_over.wait(LIMIT_S)  # type: ignore[attr-defined]
        self.send_response(status)
        if status == 302:
            self.send_header("location", "/status/200")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def web() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    server.is_over = threading.Event()  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.is_over.set()  # type: ignore[attr-defined]
    server.shutdown()
    thread.join()
    server.server_close()


def http(url: str, **keys: object) -> HttpDetector:
    return HttpDetector(HttpTarget.model_validate({"url": url, **keys}))


def test_http_judges_status_and_text(web: str) -> None:
    assert run(http(f"{web}/")) == GOOD
    assert run(http(f"{web}/", contains="it works")) == GOOD
    assert_bad(run(http(f"{web}/", contains="maintenance")), "without 'maintenance'")
    assert_bad(run(http(f"{web}/status/500")), "500, not 200")
    assert run(http(f"{web}/status/401", status=401)) == GOOD


def test_http_gives_the_password_of_the_url(web: str) -> None:
    assert_bad(run(http(f"{web}/closed")), "401, not 200")
    assert run(http(f"{web}/closed".replace("//", "//me:secret@"))) == GOOD


def test_http_follows_nobody_and_reads_no_more_than_its_limit(web: str) -> None:
    assert_bad(run(http(f"{web}/moved")), "302, not 200")
    assert_bad(run(http(f"{web}/big", contains="end")), "without 'end'")


def test_http_names_the_host_of_the_url(web: str) -> None:
    # 127.0.0.1 by another name, which needs no file of hosts.
    name = f"127.1:{web.rpartition(':')[2]}"
    assert run(http(f"http://{name}/", contains=f"host {name}")) == GOOD


def test_http_fails_where_nobody_listens_or_nobody_is_known(web: str) -> None:
    with listening(4) as port:
        pass
    assert_bad(run(http(f"http://127.0.0.1:{port}/")), "connect")
    assert_bad(run(http("http://nobody.invalid/")), "nobody.invalid has no address")
    assert_bad(run(http(web.replace("http", "https"))), "https")


def test_http_ends_when_its_time_is_over(web: str) -> None:
    with pytest.raises(TimeoutError):
        run(http(f"{web}/slow"), 0.5)


def test_http_ignores_the_proxies_of_the_environment(
    web: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert run(http(f"{web}/")) == GOOD


# --- process ---


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    mark = f"x{os.getpid()}mark"
    program = "import sys, time; print(flush=True); time.sleep(600)"
    child = subprocess.Popen([sys.executable, "-c", program, mark], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    yield child
    child.kill()
    child.wait()
    child.stdout.close()


def processes(**keys: object) -> ProcessDetector:
    return ProcessDetector(ProcessTarget.model_validate(keys))


def test_processes_are_known_by_name_command_and_user(
    sleeper: subprocess.Popen[bytes],
) -> None:
    mark = rf"\bx{os.getpid()}mark$"
    name = Path(f"/proc/{sleeper.pid}/comm").read_text().strip()
    assert run(processes(command=mark)) == GOOD
    assert run(processes(command=mark, name=name, user="root", at_most=1)) == GOOD
    assert_bad(run(processes(command=mark, at_least=2)), "1 processes", "at least 2")
    assert_bad(run(processes(command=mark, name="other")), "0 processes")
    assert_bad(run(processes(command=mark, user="nobody")), "0 processes")
    assert_bad(run(processes(command=mark, user="no-such-user")), "no-such-user", "not exist")
    sleeper.kill()
    # A process that has ended counts no more, although its parent has not asked for it yet.
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert_bad(run(processes(command=mark)), "0 processes")


def test_more_processes_than_may_run_are_a_failure(sleeper: subprocess.Popen[bytes]) -> None:
    mark = rf"\bx{os.getpid()}mark$"
    other = subprocess.Popen(["sh", "-c", "read line; : $0", mark[2:-1]], stdin=subprocess.PIPE)
    try:
        assert run(processes(command=mark, at_least=2)) == GOOD
        assert_bad(run(processes(command=mark, at_most=1)), "2 processes", "at most 1")
    finally:
        other.kill()
        other.communicate()


def test_a_pid_file_names_one_process(sleeper: subprocess.Popen[bytes], tmp_path: Path) -> None:
    file = tmp_path / "pid"
    detector = processes(pid_file=str(file))
    assert_bad(run(detector), "No such file")
    file.write_text(f"{sleeper.pid}\nmore\n")
    assert run(detector) == GOOD
    assert run(processes(pid_file=str(file), command="mark")) == GOOD
    assert_bad(run(processes(pid_file=str(file), command="postgres")), str(sleeper.pid))
    for text in ("", "pid", "-1", "../1", "0", "99999999999999999999"):
        file.write_text(text)
        assert run(detector).sight is Sight.BAD, text
    file.write_text(str(sleeper.pid))
    sleeper.kill()
    sleeper.wait()
    assert_bad(run(detector), "does not run")


def test_a_container_is_another_host(tmp_path: Path) -> None:
    mark = f"y{os.getpid()}inside"
    program = "import time; print(flush=True); time.sleep(600)"
    child = subprocess.Popen(
        ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c", program, mark],
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    child.stdout.readline()
    try:
        # unshare itself has the mark in its command line, and is of this host.
        assert run(processes(command=mark, at_least=1, at_most=1)) == GOOD
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


@given(st.text(alphabet="() \n)xyz", max_size=15))
def test_a_name_of_any_characters_is_read(name: str) -> None:
    place = Path(f"/proc/{os.getpid()}")
    before = (place / "comm").read_bytes()
    try:
        (place / "comm").write_text(name)
        found = process._read(place)
        assert found is not None
        assert found.name == (place / "comm").read_text()[:-1]
    finally:
        (place / "comm").write_bytes(before.strip())


# --- custom ---


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], CustomDetector]:
    def make(text: str, *arguments: str) -> CustomDetector:
        path = tmp_path / "check"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return CustomDetector(path, arguments, tmp_path, {"PATH": os.environ["PATH"], "WORD": "w"})

    return make


def test_a_script_says_by_its_status(script: Callable[..., CustomDetector]) -> None:
    assert run(script("exit 0")) == GOOD
    assert_bad(run(script("echo first; echo not there >&2; exit 1")), "exited with 1: not there")
    assert_bad(run(script("exit 77")), "exited with 77")
    assert_bad(run(script("kill -9 $$")), "signal 9")
    assert run(script('[ "$WORD $1 $2" = "w a b c" ] && ! read line', "a", "b c")) == GOOD


def test_a_script_that_is_none_says_nothing(
    script: Callable[..., CustomDetector], tmp_path: Path
) -> None:
    detector = script("exit 0")
    (tmp_path / "check").chmod(0o644)
    outcome = run(detector)
    assert outcome.sight is Sight.NOTHING
    assert "Permission denied" in outcome.reason


def test_a_script_and_its_children_end_with_their_time(
    script: Callable[..., CustomDetector], tmp_path: Path
) -> None:
    detector = script("trap '' TERM; sleep 600 & echo $! >child; wait")
    with pytest.raises(TimeoutError):
        run(detector, 0.5)
    child = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + LIMIT_S
    while _is_running(child):  # a process that is not our child gives no event
        assert time.monotonic() < deadline, "the child outlives its script"
        time.sleep(0.01)


def test_a_script_may_leave_something_behind_that_holds_its_output(
    script: Callable[..., CustomDetector], tmp_path: Path
) -> None:
    assert run(script("sleep 600 & echo $! >child; exit 0"), 5.0) == GOOD
    os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)


def test_a_script_that_never_stops_talking_is_killed(script: Callable[..., CustomDetector]) -> None:
    assert_bad(run(script("exec yes")), "said more than 1 MiB")
    assert run(script(f"head -c {custom.OUTPUT_LIMIT_BYTES} /dev/zero; exit 0")) == GOOD


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


# --- module ---


def test_module_wants_it_ready_and_in_the_wanted_state() -> None:
    seen: dict[tuple[str, str | None], Seen] = {
        ("db", None): Seen("SECOND", True),
        ("db", "n2"): Seen("PRIM", False, "starting"),
    }

    async def state_of(module: str, node: str | None) -> Seen:
        if (module, node) not in seen:
            raise NotFoundError(f"module {module} is not installed on node {node}")
        return seen[module, node]

    def look(**keys: object) -> Outcome:
        return run(ModuleDetector(ModuleTarget.model_validate(keys), state_of))

    assert look(name="db") == GOOD
    assert look(name="db", states=["PRIM", "SECOND"]) == GOOD
    assert_bad(look(name="db", states=["PRIM", "ALONE"]), "SECOND, not PRIM or ALONE")
    assert_bad(look(name="db", node="n2"), "on n2 is PRIM, not ready: starting")
    assert_bad(look(name="web"), "not installed")


# --- aside ---


def test_a_call_that_hangs_holds_up_only_its_next_one() -> None:
    release = threading.Event()

    async def main() -> None:
        aside: Aside[bool] = Aside("waiting")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await aside.run(lambda: release.wait(LIMIT_S))
        with pytest.raises(StillHangsError, match="waiting hangs"):
            await aside.run(lambda: True)
        release.set()
        async with asyncio.timeout(LIMIT_S):
            while True:
                try:
                    assert await aside.run(lambda: True)
                except StillHangsError:
                    await asyncio.sleep(0.01)
                else:
                    break

    asyncio.run(main())


def test_an_error_aside_is_raised_where_it_is_awaited() -> None:
    def fails() -> None:
        raise OSError(5, "broken")

    with pytest.raises(OSError, match="broken"):
        asyncio.run(Aside[None]("failing").run(fails))
