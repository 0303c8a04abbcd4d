"""Checks and health endpoints in module.yaml: defaults, and every fault with its words."""

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from telamon.cluster import config as cluster_config
from telamon.cluster.creation import render
from telamon.configuration.fault import Fault
from telamon.configuration.model import Parsed
from telamon.module import config
from telamon.module.check_config import Check, CheckAction, When
from telamon.module.model import Module

MIRROR: dict[str, Any] = {
    "module": "db",
    "kind": "mirror",
    "nodes": ["n1", "n2"],
    "virtual_ips": [{"address": "10.0.0.100/24", "network": "lan"}],
    "replicate": {"directories": [{"path": "/srv/db"}]},
}
FARM: dict[str, Any] = {
    "module": "web",
    "kind": "farm",
    "nodes": ["n1", "n2"],
    "virtual_ips": [{"address": "10.0.0.101/24", "network": "lan"}],
    "services": [{"protocol": "tcp", "ports": [80, "8000-8010"]}],
}
ADDRESSES = {"n1": {"lan": "10.0.0.1", "own": "10.1.0.1"}, "n2": {"lan": "10.0.0.2"}}


def parsed(base: dict[str, Any], **keys: object) -> config.ParsedModule:
    found = config.parse(yaml.safe_dump({**base, **keys}))
    assert not isinstance(found, tuple), found
    return found


def model(base: dict[str, Any], **keys: object) -> Module:
    return parsed(base, **keys).model


def messages(base: dict[str, Any], **keys: object) -> list[str]:
    found = config.parse(yaml.safe_dump({**base, **keys}))
    return [fault.message for fault in found] if isinstance(found, tuple) else []


@pytest.mark.parametrize(
    ("target", "action", "when"),
    [
        ({"process": {"name": "postgres"}}, CheckAction.RESTART, When.APPLICATION),
        ({"tcp": {"port": 80}}, CheckAction.RESTART, When.APPLICATION),
        ({"http": {"url": "http://127.0.0.1/"}}, CheckAction.RESTART, When.APPLICATION),
        ({"custom": {"script": "scripts/look"}}, CheckAction.RESTART, When.APPLICATION),
        ({"ip": {}}, CheckAction.STOPSTART, When.APPLICATION),
        ({"ping": {"addresses": ["10.0.0.254"]}}, CheckAction.WAIT, When.STARTED),
        ({"interface": {"network": "lan"}}, CheckAction.WAIT, When.STARTED),
        ({"module": {"name": "other"}}, CheckAction.WAIT, When.STARTED),
        ({"custom": {"script": "look"}, "action": "wait"}, CheckAction.WAIT, When.STARTED),
        (
            {"ping": {"addresses": ["::1"]}, "when": "application", "action": "stop"},
            CheckAction.STOP,
            When.APPLICATION,
        ),
    ],
)
def test_the_usual_action_and_time(target: dict[str, Any], action: CheckAction, when: When) -> None:
    for base in (MIRROR, FARM):
        (check,) = model(base, checks=[target]).checks
        assert (check.asks_for, check.looks_while) == (action, when)


@pytest.mark.parametrize(
    ("check", "words"),
    [
        ({}, "exactly one detector"),
        ({"tcp": {"port": 1}, "ip": {}}, "exactly one detector"),
        ({"tcp": {"port": 0}}, "checks[0].tcp.port"),
        ({"tcp": {"port": 80, "adress": "10.0.0.1"}}, "did you mean 'address'?"),
        ({"tcp": {"port": 80}, "action": "reboot"}, "'reboot' is not an action; known: restart"),
        ({"tcp": {"port": 80}, "when": "always"}, "no time to look; known: application, started"),
        ({"tcp": {"port": 80}, "interval": "50ms"}, "50ms is too short"),
        ({"tcp": {"port": 80}, "timeout": "3s"}, "timeout <= interval is broken: 3s > 2s"),
        ({"tcp": {"port": 80}, "timeout": "0s"}, "0s ends every look"),
        ({"tcp": {"port": 80}, "failures": 0}, "failures"),
        ({"tcp": {"port": 80}, "interval": 2}, "write the unit"),
        ({"ping": {"addresses": []}}, "addresses"),
        ({"ping": {"addresses": ["gateway"]}}, "not an IPv4 or IPv6 address"),
        ({"ping": {"addresses": ["10.0.0.9"]}, "grace": "5s"}, "only a check `when: application`"),
        ({"interface": {}}, "give either `name` or `network`"),
        ({"interface": {"name": "e0", "network": "lan"}}, "give either `name` or `network`"),
        ({"http": {"url": "ftp://10.0.0.1/"}}, "url"),
        ({"http": {"url": "http://a b/"}}, "url"),
        ({"http": {"url": "http://a:99999/"}}, "Port out of range"),
        ({"http": {"url": "http://[::1/"}}, "Invalid IPv6 URL"),
        ({"http": {"url": "http:///path"}}, "is not a URL"),
        ({"custom": {"script": "look", "arguments": ["a\0b"]}}, "arguments"),
        ({"http": {"url": "http://a/", "status": 99}}, "status"),
        ({"custom": {"script": "/bin/true"}}, "must be relative"),
        ({"process": {}}, "give `pid_file`, `name` or `command`"),
        ({"process": {"command": "("}}, "not a regular expression"),
        ({"process": {"name": "a-name-of-16-byt"}}, "the kernel keeps 15 bytes"),
        ({"process": {"pid_file": "run/pid"}}, "not the absolute path"),
        ({"process": {"name": "a", "at_least": 3, "at_most": 2}}, "at_most >= at_least is broken"),
        ({"process": {"pid_file": "/run/a", "at_least": 2}}, "a pid file names one process"),
        ({"module": {"name": "other", "states": ["up"]}}, "states"),
    ],
)
def test_faults_of_one_check(check: dict[str, Any], words: str) -> None:
    for base in (MIRROR, FARM):
        assert any(words in message for message in messages(base, checks=[check])), words


def test_checks_have_names_of_their_own() -> None:
    twice = [{"name": "a", "tcp": {"port": 1}}, {"name": "a", "tcp": {"port": 2}}]
    assert messages(MIRROR, checks=twice) == ["checks[1]: another check is named 'a' already"]
    many = [{"tcp": {"port": port}} for port in range(1, 66)]
    assert messages(MIRROR, checks=many) == ["checks: at most 64 checks, not 65"]


def test_a_mirror_does_not_wait_for_itself() -> None:
    for check in (
        {"tcp": {"port": 80}},
        {"tcp": {"port": 80, "address": "127.0.0.1"}},
        {"tcp": {"port": 80, "address": "10.0.0.100"}},
        {"ip": {}},
    ):
        (message,) = messages(MIRROR, checks=[{**check, "action": "wait"}])
        assert "would wait for its own application" in message
        assert messages(FARM, checks=[{**check, "action": "wait"}]) == []
    elsewhere = {"tcp": {"port": 80, "address": "10.0.0.9"}, "action": "wait"}
    assert messages(MIRROR, checks=[elsewhere]) == []
    (message,) = messages(MIRROR, checks=[{**elsewhere, "when": "application"}])
    assert "looks only while it runs" in message


def test_a_farm_knows_no_swap() -> None:
    (message,) = messages(FARM, checks=[{"tcp": {"port": 80}, "action": "swap"}])
    assert "a farm knows no swap: use restart, stopstart, wait, stop or none" in message


def test_a_module_does_not_check_itself() -> None:
    assert "cannot check itself" in messages(MIRROR, checks=[{"module": {"name": "db"}}])[0]


@pytest.mark.parametrize(
    ("health", "words"),
    [
        ({}, "health.port: required"),
        ({"port": 70000}, "health.port"),
        ({"port": 9010, "path": "ready"}, "health.path"),
        ({"port": 9010, "path": "/a?b"}, "health.path"),
        ({"port": 9010, "address": "10.0.0.1", "network": "lan"}, "either `address` or `network`"),
    ],
)
def test_faults_of_a_health_endpoint(health: dict[str, Any], words: str) -> None:
    assert any(words in message for message in messages(MIRROR, health=health))


def test_a_health_endpoint_is_not_on_the_applications_port() -> None:
    own = [{"tcp": {"port": 9010}}]
    assert "is the application's" in messages(MIRROR, checks=own, health={"port": 9010})[0]
    far = [{"tcp": {"port": 9010, "address": "10.0.0.9"}}]
    assert messages(MIRROR, checks=far, health={"port": 9010}) == []
    assert "is a service of" in messages(FARM, health={"port": 8005})[0]


def test_a_farm_without_virtual_ips_needs_a_health_endpoint() -> None:
    assert "needs a virtual IP, or `health:`" in messages(FARM, virtual_ips=[])[0]
    assert messages(FARM, virtual_ips=[], health={"port": 9010}) == []
    slow = messages(FARM, virtual_ips=[], health={"port": 9010}, drain_timeout="5s")
    assert slow == ["health.notice: health.notice <= drain_timeout is broken: 10s > 5s"]


def relate(*modules: config.ParsedModule) -> list[str]:
    cluster = cluster_config.parse(render("east", ADDRESSES))
    assert isinstance(cluster, Parsed), cluster
    return [fault.message for fault in config.relate(modules, cluster.model)]


def test_ports_are_compared_with_the_cluster_and_other_modules() -> None:
    api = relate(parsed(MIRROR, health={"port": 7440}))
    assert "port 7440 is ports.api of cluster.yaml" in api[0]
    mirror = {**MIRROR, "replicate": {**MIRROR["replicate"], "port": 7777}}
    assert "replication" in relate(parsed(mirror, health={"port": 7777}))[0]
    assert (
        "the replication port of module 'db'"
        in (relate(parsed(mirror), parsed(FARM, health={"port": 7777}))[0])
    )
    assert (
        "is the health endpoint of module 'web'"
        in (relate(parsed(FARM, health={"port": 7777}), parsed(mirror))[0])
    )
    assert (
        "a service of module 'web'" in relate(parsed(FARM), parsed(mirror, health={"port": 80}))[0]
    )
    both = relate(parsed(FARM, health={"port": 9010}), parsed(mirror, health={"port": 9010}))
    assert "health endpoint of module 'web' on a common node" in both[0]
    apart = {"port": 9010, "address": "127.0.0.1"}, {"port": 9010, "network": "lan"}
    assert relate(parsed(FARM, health=apart[0]), parsed(mirror, health=apart[1])) == []


def test_networks_and_nodes_must_exist() -> None:
    (message,) = relate(parsed(MIRROR, checks=[{"interface": {"network": "wan"}}]))
    assert "'wan' is not in cluster.yaml" in message
    (message,) = relate(parsed(MIRROR, checks=[{"interface": {"network": "own"}}]))
    assert "node 'n2' has no address in 'own'" in message
    (message,) = relate(parsed(MIRROR, health={"port": 9010, "network": "own"}))
    assert "node 'n2' has no address in 'own'" in message
    (message,) = relate(parsed(MIRROR, checks=[{"module": {"name": "web", "node": "n9"}}]))
    assert "'n9' is not in cluster.yaml" in message


KEYS = sorted({*Check.model_fields, "port", "address", "url", "script", "addresses", "path"})
values = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 70_000) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYS),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(values, values)
def test_anything_is_read_or_refused(checks: object, health: object) -> None:
    for base in (MIRROR, FARM):
        found = config.parse(yaml.safe_dump({**base, "checks": checks, "health": health}))
        if isinstance(found, tuple):
            assert found
            assert all(isinstance(fault, Fault) for fault in found)
