"""The cluster that runs on a lab's nodes."""

from collections.abc import Mapping

from telamon.lab.host import RunningHost
from telamon.lab.spec import LabSpec


def furnish(spec: LabSpec, hosts: Mapping[str, RunningHost]) -> None:
    """Gives the nodes their cluster configuration and credentials, before they start."""
