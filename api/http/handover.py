"""What threads come to, brought into the event loop: one wake-up for all that came since the last one."""

import asyncio
from collections import deque
from concurrent.futures import Future
from typing import Any, TypeVar

Answer = TypeVar("Answer")


class Handover:
    """Lets coroutines wait for what other threads do; made in the event loop that they run in."""

    def __init__(self) -> None:
        """Wake the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._done: deque[tuple[Future[Any], asyncio.Future[Any]]] = deque()
        self._awake = False

    async def result(self, future: Future[Answer], seconds: float) -> Answer:
        """Return what `future` comes to, or raise it; raises `TimeoutError` where it takes longer.

        Who is cancelled cancels it.
        """
        waiting: asyncio.Future[Answer] = self._loop.create_future()
        future.add_done_callback(lambda done: self._arrive(done, waiting))
        expiry = self._loop.call_later(seconds, _expire, waiting)
        try:
            return await waiting
        finally:
            expiry.cancel()
            future.cancel()

    def _arrive(self, done: Future[Any], waiting: asyncio.Future[Any]) -> None:
        self._done.append((done, waiting))
        if not self._awake:
            self._awake = True
            self._loop.call_soon_threadsafe(self._hand_over)

    def _hand_over(self) -> None:
        # First: who comes from now on wakes the loop again.
        self._awake = False
        while self._done:
            done, waiting = self._done.popleft()
            if waiting.done():
                continue
            if error := done.exception():
                waiting.set_exception(error)
            else:
                waiting.set_result(done.result())


def _expire(waiting: asyncio.Future[Any]) -> None:
    if not waiting.done():
        waiting.set_exception(TimeoutError())
