"""`python -m bench [--only NAME]`: runs benchmarks, prints a table, writes bench/latest.json.

The exit status is 0 when every goal of what was run is met, 1 when one is missed, 2 when a
benchmark could not be run; it then has no figure.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console

from bench import capture, database, farm_filter, farm_http, farm_table, farm_takeover, store
from bench.figure import Figure, table
from telamon.errors import TelamonError

LATEST = Path(__file__).resolve().parent / "latest.json"

BENCHMARKS: dict[str, Callable[[], Iterator[Figure]]] = {
    "commit_alone": store.commit_alone,
    "commit_memory": store.commit_memory,
    "commit_disk": store.commit_disk,
    "pgbench": database.pgbench,
    "buffered": store.buffered,
    "metadata": store.metadata,
    "captured_write": capture.captured_write,
    "farm_filter": farm_filter.decisions,
    "farm_table_switch": farm_filter.table_switch,
    "farm_table": farm_table.tables,
    "farm_loop": farm_table.loop_lateness,
    "farm_http": farm_http.beside_haproxy,
    "farm_http_cluster": farm_http.beside_xt_cluster,
    "farm_takeover": farm_takeover.takeover,
}


def main() -> int:
    """Runs what was asked for."""
    parser = argparse.ArgumentParser(prog="bench", description="Ratios against native.")
    parser.add_argument("--only", choices=BENCHMARKS, metavar="NAME", help=", ".join(BENCHMARKS))
    only = parser.parse_args().only
    console = Console()
    figures: list[Figure] = []
    could_run = True
    for name in [only] if only else BENCHMARKS:
        with console.status(f"{name} …"):
            try:
                figures += BENCHMARKS[name]()
            except TelamonError as error:
                could_run = False
                console.print(f"[red]{name} could not be run:[/] {error}")
    if figures:
        console.print(table(figures))
    LATEST.write_text(json.dumps([one.as_json() for one in figures], indent=2) + "\n")
    if not could_run:
        return 2
    return 1 if any(one.is_met is False for one in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
