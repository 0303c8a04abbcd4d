"""Reading cluster.yaml from disk."""

from pathlib import Path

from telamon.cluster import config
from telamon.cluster.config import Cluster
from telamon.configuration.fault import refuse
from telamon.configuration.file import read_text


def load_cluster(path: Path) -> Cluster:
    """The cluster that `path` describes, or every fault of it."""
    parsed = config.parse(
        read_text(path, "run `telamon cluster init` or `telamon cluster join BUNDLE`"), str(path)
    )
    if isinstance(parsed, tuple):
        raise refuse(parsed)
    return parsed.model
