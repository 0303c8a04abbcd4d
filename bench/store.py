"""Commits, buffered access and names, on the mirrored directory and on plain ext4."""

from collections.abc import Iterator

from bench.figure import Figure, Goal, GoalKind
from bench.ground import interleaved_p50_us, mirrored_lab, side_by_side

_ROUNDS = 40
_WARM_ROUNDS = 8
_COMMITS = 200
_LARGE = 64
_NAMES = 500

# Issue of the goals: what a commit may cost above a local one.
_COMMIT_GOALS_US = {"alone": 12.0, "memory": 40.0, "disk": 60.0}


def commit_alone() -> Iterator[Figure]:
    """A commit on a primary whose peer is gone."""
    yield _commit("alone")


def commit_memory() -> Iterator[Figure]:
    """A commit that the peer holds in memory when it is acknowledged."""
    yield _commit("memory")


def commit_disk() -> Iterator[Figure]:
    """A commit that is on both disks when it is acknowledged."""
    yield _commit("disk")


def buffered() -> Iterator[Figure]:
    """Reads and writes through the page cache."""
    with mirrored_lab() as lab, side_by_side(lab) as (ours, native):
        for name, kind, count in (
            ("write_1MiB", "write_large", _LARGE),
            ("write_4KiB", "write_small", 1000),
            ("read_1MiB", "read_large", _LARGE),
        ):
            figures = interleaved_p50_us(ours, native, kind, _ROUNDS, count)
            yield Figure(f"buffered_{name}", "us", *figures)


def metadata() -> Iterator[Figure]:
    """Names and small files."""
    with mirrored_lab() as lab, side_by_side(lab) as (ours, native):
        collected: dict[str, list[tuple[float, float]]] = {}
        for _ in range(4):
            # The order matters: what one kind makes the next one uses and the last one removes.
            for kind in ("create", "status", "read_whole", "rename", "unlink"):
                pair = interleaved_p50_us(ours, native, kind, 1, _NAMES)
                collected.setdefault(kind, []).append(pair)
        for kind, pairs in collected.items():
            here, there = (sorted(side)[len(pairs) // 2] for side in zip(*pairs, strict=True))
            yield Figure(f"metadata_{kind}", "us", here, there)


def _commit(kind: str) -> Figure:
    acknowledge = "disk" if kind == "alone" else kind
    with (
        mirrored_lab(acknowledge, is_alone=kind == "alone") as lab,
        side_by_side(lab) as (ours, native),
    ):
        interleaved_p50_us(
            ours, native, "commit", _WARM_ROUNDS, _COMMITS
        )  # until everything is warm
        figures = interleaved_p50_us(ours, native, "commit", _ROUNDS, _COMMITS)
    goal = Goal(GoalKind.AT_MOST_MORE, _COMMIT_GOALS_US[kind])
    return Figure(f"commit_{kind}", "us", *figures, goal=goal)
