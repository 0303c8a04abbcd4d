"""libnftables.so.1: run nft commands in this process, as one transaction each.

A renewed lease costs 0.1 ms this way; a process `nft` would cost 5 ms, five times a second. The
context belongs to the network namespace of the thread that made it.
"""

import ctypes
import functools
import threading
from typing import Any, Self

from telamon.errors import NetworkError

_JSON, _TERSE = 1 << 4, 1 << 11
_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "nft_ctx_new": (ctypes.c_void_p, (ctypes.c_uint32,)),
    "nft_ctx_free": (None, (ctypes.c_void_p,)),
    "nft_ctx_buffer_output": (ctypes.c_int, (ctypes.c_void_p,)),
    "nft_ctx_buffer_error": (ctypes.c_int, (ctypes.c_void_p,)),
    "nft_ctx_get_output_buffer": (ctypes.c_char_p, (ctypes.c_void_p,)),
    "nft_ctx_get_error_buffer": (ctypes.c_char_p, (ctypes.c_void_p,)),
    "nft_ctx_set_dry_run": (None, (ctypes.c_void_p, ctypes.c_bool)),
    "nft_ctx_output_set_flags": (None, (ctypes.c_void_p, ctypes.c_uint)),
    "nft_run_cmd_from_buffer": (ctypes.c_int, (ctypes.c_void_p, ctypes.c_char_p)),
}


@functools.cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libnftables.so.1")
    except OSError as error:
        raise NetworkError(
            f"nftables cannot be used: {error}; install the package nftables"
        ) from error
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class Nftables:
    """A context of libnftables, for one thread at a time: others wait. Close it, or use it in
    `with`.
    """

    def __init__(self) -> None:
        library = _library()
        self._alone = threading.Lock()
        self._context: int | None = library.nft_ctx_new(0)
        if not self._context:
            raise NetworkError("nftables cannot be used: no context; is there memory left?")
        library.nft_ctx_buffer_output(self._context)
        library.nft_ctx_buffer_error(self._context)

    def run(
        self,
        commands: str,
        attempt: str,
        *,
        as_json: bool = False,
        is_terse: bool = False,
        is_trial: bool = False,
    ) -> str:
        """Run commands, all or none, and return what they print, tersely without the elements of
        sets; as a trial, let the kernel check them and do nothing. `attempt` is for the error.
        """
        library = _library()
        with self._alone:
            assert self._context, "the context is open"
            flags = _JSON * as_json | _TERSE * is_terse
            library.nft_ctx_output_set_flags(self._context, flags)
            library.nft_ctx_set_dry_run(self._context, is_trial)
            status = library.nft_run_cmd_from_buffer(self._context, commands.encode())
            # Reading a buffer empties it: both are read each time.
            output: bytes = library.nft_ctx_get_output_buffer(self._context)
            refusal: bytes = library.nft_ctx_get_error_buffer(self._context)
        if status:
            lines = refusal.decode(errors="replace").splitlines() or ["no reason given"]
            raise NetworkError(
                f"could not {attempt} with nftables: {lines[0]}; run the agent as root, on a kernel"
                " with nf_tables (netdev family, jhash) and connection tracking"
            )
        return output.decode(errors="replace")

    def close(self) -> None:
        """Free the context; what it configured stays."""
        with self._alone:
            if self._context:
                _library().nft_ctx_free(self._context)
                self._context = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
