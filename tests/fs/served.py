"""A directory that is served without a peer: each record is applied to a copy as it is appended."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from telamon.lab.oracles.tree import Difference, compare, describe

REPOSITORY = Path(__file__).parents[2]
BINARY = REPOSITORY / "target/release/examples/serve"
TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class Options:
    """How the directories are served."""

    capture: Path | None = None
    sync: str = "fsync"
    exclude: tuple[str, ...] = ()
    mapped: tuple[str, ...] = ()
    is_alone: bool = False

    def words(self) -> list[str]:
        """The harness's arguments."""
        words = ["--sync", self.sync]
        if self.capture is not None:
            words += ["--capture", str(self.capture)]
        for glob in self.exclude:
            words += ["--exclude", glob]
        for glob in self.mapped:
            words += ["--mapped", glob]
        return [*words, "--alone"] if self.is_alone else words


class ServedDirectory:
    """`path` is mounted; `backing` and `copy` are the trees to compare after `stop` or `settle`."""

    def __init__(self, base: Path, options: Options, count: int = 1) -> None:
        self.paths = [base / f"served{number}" for number in range(count)]
        self.copies = [base / f"copy{number}" for number in range(count)]
        for path in (*self.paths, *self.copies):
            path.mkdir(mode=0o755, exist_ok=True)
        self._backings = [base / f"backing{number}" for number in range(count)]
        for path, backing in zip(self.paths, self._backings, strict=True):
            # Another way to the tree below the mount: a bind mount made before it.
            backing.mkdir(exist_ok=True)
            _run("mount", "--bind", path, backing)
        pairs = [str(one) for pair in zip(self.paths, self.copies, strict=True) for one in pair]
        self._errors = (base / "errors").open("w+")
        self._process = subprocess.Popen(
            [str(BINARY), *options.words(), *pairs],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        assert self._answer() == "ready", self.errors()

    @property
    def path(self) -> Path:
        """The first served directory."""
        return self.paths[0]

    @property
    def pid(self) -> int:
        """The process that serves."""
        return self._process.pid

    def command(self, word: str) -> str:
        """One command, its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()
        return self._answer()

    def status(self) -> dict[str, object]:
        """Counters."""
        status: dict[str, object] = json.loads(self.command("status"))
        return status

    def settle(self) -> None:
        """Returns when the copy has everything."""
        answer = self.command("settle")
        assert answer == "ok", f"{answer}\n{self.errors()}"

    def differences(self) -> list[Difference]:
        """In what backing and copy differ."""
        pairs = zip(self._backings, self.copies, strict=True)
        return [one for backing, copy in pairs for one in compare(backing, copy)]

    def assert_settled_and_equal(self) -> None:
        """The dual-tree oracle, while mounted."""
        self.settle()
        differences = self.differences()
        assert not differences, describe(differences)

    def stop(self, word: str = "stop") -> None:
        """Unmounts; the copy must be equal then."""
        answer = self.command(word)
        assert answer == "ok", f"{answer}\n{self.errors()}"
        assert self._process.wait(TIMEOUT_S) == 0, self.errors()

    def kill(self) -> None:
        """The process ends as if by a crash."""
        self._process.kill()
        self._process.wait(TIMEOUT_S)

    def errors(self) -> str:
        """What it wrote on its standard error output."""
        self._errors.flush()
        return Path(self._errors.name).read_text(errors="replace")

    def remove(self) -> None:
        """Leaves no process and no mount, whatever happened; says how a process ended by itself."""
        if self._process.poll() is None:
            self.kill()
        else:
            print(f"the process ended with {self._process.returncode}", self.errors(), sep="\n")
        for path in self.paths:
            while _is_mounted(path):
                _run("umount", "-l", path)
        for backing in self._backings:
            _run("umount", "-l", backing)
        self._errors.close()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def differences_of_state(left: Path, right: Path) -> list[Difference]:
    """In what two trees differ that went through the same calls at different times."""
    return [one for one in compare(left, right) if not one.aspect.startswith("mtime")]


def _is_mounted(path: Path) -> bool:
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return str(path) in points


def _run(*command: str | Path) -> None:
    subprocess.run([str(word) for word in command], check=True, timeout=TIMEOUT_S)
