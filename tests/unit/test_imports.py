"""Who may import whom in control/telamon (ARCHITECTURE.md, "Where things live")."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "control" / "telamon"

SHARED = frozenset({"errors", "paths", "configuration"})
"""What every part may use: the tree of errors, where things lie, and the reading of YAML."""

PARTS = {
    "net": frozenset(),
    "bpf": frozenset(),
    "cluster": frozenset({"mirror"}),
    "mirror": frozenset({"cluster"}),
    "module": frozenset({"cluster"}),
    "detect": frozenset({"module", "net"}),
    "replication": frozenset({"mirror"}),
    "farm": frozenset({"bpf", "cluster", "net", "module"}),
    "configuration": frozenset(),
}
"""What a part may import beside itself and SHARED. The agent, the lab and the CLI are not listed:
the agent and the lab put everything together, the CLI has rules of its own below.
"""

CORES = (
    "mirror/*.py",
    "detect/check.py",
    "detect/outcome.py",
    "cluster/membership.py",
    "cluster/heartbeat.py",
    "farm/view*.py",
    "farm/turn.py",
    "farm/message.py",
    "farm/hash.py",
)
"""Pure: the standard library and values, no I/O, no clock."""

CORE_LIBRARIES = frozenset({"cryptography"})
"""The heartbeat's cipher is a function of bytes."""

IMPURE = frozenset({"asyncio", "socket", "subprocess", "threading", "time", "random", "select"})


def imports(path: Path) -> Iterator[str]:
    """Every module that `path` imports, also inside functions; `telamon.part.file` in full."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [alias.name for alias in node.names]
            module = node.module or ""
            yield from ([f"telamon.{name}" for name in names] if module == "telamon" else [module])


def parts_of(path: Path) -> set[str]:
    found = {name.split(".")[1] for name in imports(path) if name.startswith("telamon.")}
    return found - SHARED


@pytest.mark.parametrize("part", PARTS)
def test_a_part_imports_only_what_it_may(part: str) -> None:
    for path in (PACKAGE / part).rglob("*.py"):
        foreign = parts_of(path) - {part} - PARTS[part]
        assert not foreign, f"{path.relative_to(PACKAGE)} imports {sorted(foreign)}"


def test_the_cli_knows_nothing_of_the_agent_but_its_models() -> None:
    for path in (PACKAGE / "cli").rglob("*.py"):
        of_the_agent = {name for name in imports(path) if name.startswith("telamon.agent")}
        assert of_the_agent <= {"telamon.agent.models"}, path.name


def test_only_agent_and_lab_bring_parts_together() -> None:
    for path in PACKAGE.rglob("*.py"):
        owner = path.relative_to(PACKAGE).parts[0]
        if owner not in {"agent", "lab", "cli"}:
            assert "agent" not in parts_of(path), f"{path.relative_to(PACKAGE)} imports the agent"


@pytest.mark.parametrize("pattern", CORES)
def test_cores_are_pure(pattern: str) -> None:
    paths = list(PACKAGE.glob(pattern))
    assert paths, f"no file is like {pattern}"
    for path in paths:
        libraries = {name.split(".")[0] for name in imports(path)} - {"telamon"}
        foreign = libraries - sys.stdlib_module_names - CORE_LIBRARIES
        assert not foreign, f"{path.relative_to(PACKAGE)} imports {sorted(foreign)}"
        assert not libraries & IMPURE, f"{path.relative_to(PACKAGE)} imports {libraries & IMPURE}"
