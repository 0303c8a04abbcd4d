"""Blocking looks, aside of the loop and of its pool of threads.

Invariant: a look that hangs in the kernel (a name server that is silent, a process whose memory
cannot be read) holds up nobody but the next look of its own check, and not the agent's end either:
its thread is a daemon, and there is one of it at most.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from telamon.errors import TelamonError

T = TypeVar("T")


class StillHangsError(TelamonError):
    """The look before has not ended."""


class Aside(Generic[T]):
    """Runs one blocking call at a time."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._is_busy = False

    async def run(self, call: Callable[[], T]) -> T:
        """What `call` returns or raises. Cancelling leaves the call to itself."""
        if self._is_busy:
            raise StillHangsError(
                f"{self._title} hangs since an earlier look: see its kernel stack"
            )
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def tell(result: T | None, error: BaseException | None) -> None:
            if done.done():
                return
            if error is not None:
                done.set_exception(error)
            else:
                done.set_result(result)  # type: ignore[arg-type]

        def work() -> None:
            result, error = None, None
            try:
                result = call()
            except Exception as caught:  # noqa: BLE001 - raised again where it is awaited
                error = caught
            self._is_busy = False
            # The agent may have ended meanwhile, and its loop with it.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(tell, result, error)

        self._is_busy = True
        threading.Thread(target=work, name=self._title, daemon=True).start()
        return await done
