"""Where the compiled eBPF objects are: in the build tree of a checkout, else where the package
installs them.
"""

import errno
from pathlib import Path

from telamon.errors import BpfError

INSTALLED = Path("/usr/lib/telamon/ebpf")
_CHECKOUT = Path(__file__).resolve().parents[3]


def object_path(name: str) -> Path:
    """The path of NAME.bpf.o, or an error that says how to get it."""
    built = _CHECKOUT / "build" / "ebpf" / f"{name}.bpf.o"
    installed = INSTALLED / f"{name}.bpf.o"
    for candidate in (built, installed):
        if candidate.is_file():
            return candidate
    raise BpfError(
        f"the eBPF object {name}.bpf.o is missing at {built} and {installed}: run `make build`, "
        "or reinstall the package",
        errno.ENOENT,
    )
