"""Installing and removing modules: a module is on disk either whole and valid, or as it was before.

A module travels as a tar of its directory. It is unpacked beside its place, checked there against
the cluster and all other modules, synchronised, and renamed into place; a crash in between leaves a
hidden directory that the next start sweeps away. Whether a module may be touched now (it must not
run) is the caller's to know.
"""

import contextlib
import ctypes
import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from telamon.cluster.config import Cluster
from telamon.configuration.fault import refuse
from telamon.errors import InvalidError, NotFoundError, TelamonError
from telamon.module.config import AnyModule
from telamon.module.loading import FILE, Loaded, load_module, load_modules, relation_faults

ARCHIVE_LIMIT_BYTES = 16 << 20
ARCHIVE_LIMIT_MEMBERS = 2000
HIDDEN = "."
AT_FDCWD = -100
RENAME_EXCHANGE = 2

_libc = ctypes.CDLL(None, use_errno=True)


def pack_module(directory: Path) -> bytes:
    """The tar of a module's directory."""
    if not (directory / FILE).is_file():
        raise NotFoundError(
            f"{directory} is not a module: it has no {FILE}; name a module's directory"
        )
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(directory.rglob("*")):
            archive.add(path, str(path.relative_to(directory)), recursive=False)
            if stream.tell() > ARCHIVE_LIMIT_BYTES:
                raise InvalidError(
                    f"module {directory} is larger than {ARCHIVE_LIMIT_BYTES >> 20} MiB: keep "
                    "configuration and scripts "
                    "in it, and the application's data elsewhere"
                )
    return stream.getvalue()


class ModuleStore:
    """The installed modules of a node."""

    def __init__(self, modules: Path, cluster: Cluster) -> None:
        self._modules = modules
        self._cluster = cluster

    def sweep(self) -> None:
        """Removes what an interrupted installation left."""
        for left in self._modules.glob(f"{HIDDEN}*"):
            shutil.rmtree(left, ignore_errors=True)

    def load(self) -> dict[str, Loaded]:
        """Every installed module, each with its own faults and those towards the cluster."""
        loaded = load_modules(self._modules)
        relations = relation_faults(loaded.values(), self._cluster)
        return {
            name: replace(
                one,
                faults=(
                    *one.faults,
                    *(fault for fault in relations if Path(fault.file).parent == one.directory),
                ),
            )
            for name, one in loaded.items()
        }

    @contextlib.contextmanager
    def staged(self, archive: bytes) -> Iterator[tuple[Path, AnyModule]]:
        """Unpacks and checks a module beside its place; it is gone again afterwards."""
        self._modules.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=HIDDEN, dir=self._modules) as temporary:
            unpacked = Path(temporary) / "module"
            unpacked.mkdir(mode=0o755)
            _unpack(archive, unpacked)
            loaded = load_module(unpacked)
            faults = list(loaded.faults)
            if loaded.parsed is not None:
                others = load_modules(self._modules)
                others.pop(loaded.model.module, None)
                # The new one comes last, so that faults between modules are its own.
                faults += relation_faults([*others.values(), loaded], self._cluster)
            own = [
                replace(fault, file=str(Path(fault.file).relative_to(unpacked)))
                for fault in faults
                if Path(fault.file).is_relative_to(unpacked)
            ]
            if own:
                raise refuse(own)
            yield unpacked, loaded.model

    def install(self, archive: bytes) -> AnyModule:
        """Puts a module in place of an earlier one of its name, if there is one."""
        with self.staged(archive) as (unpacked, model):
            place = self._modules / model.module
            try:
                _synchronise(unpacked)
                if place.exists():
                    _exchange(unpacked, place)
                else:
                    unpacked.rename(place)
                _synchronise_directory(self._modules)
            except OSError as error:
                raise TelamonError(
                    f"module {model.module} could not be put in {place}: {error.strerror}; make "
                    "space there and try again"
                ) from error
            return model

    def remove(self, name: str) -> None:
        """Takes a module away; its data and its state directory stay."""
        place = self._modules / name
        if name not in load_modules(self._modules):
            raise NotFoundError(
                f"module {name} is not installed on this node; `telamon module list` shows those "
                "that are"
            )
        with tempfile.TemporaryDirectory(prefix=HIDDEN, dir=self._modules) as temporary:
            place.rename(Path(temporary) / "removed")
            _synchronise_directory(self._modules)


def _exchange(one: Path, other: Path) -> None:
    """Swaps two directories in one step, so that there is no instant without a module."""
    result = _libc.renameat2(
        AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE
    )
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _check(member: tarfile.TarInfo) -> None:
    """Refuses what would land outside, links and devices; drops owner and set-id bits. Debian 12's
    Python 3.11.2 has no extraction filters that would do it.
    """
    path = Path(member.name)
    if path.is_absolute() or ".." in path.parts or not (member.isfile() or member.isdir()):
        raise ValueError(f"{member.name} is no plain file or directory inside the module")
    member.uid, member.gid, member.uname, member.gname = os.getuid(), os.getgid(), "", ""
    member.mode &= 0o755


def _unpack(archive: bytes, directory: Path) -> None:
    if len(archive) > ARCHIVE_LIMIT_BYTES:
        raise InvalidError(
            f"the module is larger than {ARCHIVE_LIMIT_BYTES >> 20} MiB: install a smaller one"
        )
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as tar:
            members = []
            for member in tar:
                _check(member)
                members.append(member)
                if len(members) > ARCHIVE_LIMIT_MEMBERS:
                    raise InvalidError(
                        f"the module has more than {ARCHIVE_LIMIT_MEMBERS} files: keep data "
                        "elsewhere"
                    )
            tar.extractall(directory, members)
    except (tarfile.TarError, OSError, ValueError, EOFError) as error:
        raise InvalidError(
            f"the module is not a tar that can be unpacked: {error}; pack it again"
        ) from error


def _synchronise(directory: Path) -> None:
    for root, _, names in os.walk(directory):
        for name in names:
            path = Path(root) / name
            if path.is_symlink():
                continue
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
        _synchronise_directory(Path(root))


def _synchronise_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
