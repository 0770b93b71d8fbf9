"""Work that grows with a request, done beside the event loop, so that the other requests go on meanwhile."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Answer = TypeVar("Answer")

INLINE_BYTES = 16 * 1024
"""Most bytes of a body that are worked through in the event loop: about 2 ms of work, little more than what a thread costs."""

# One thread: several would take turns with each other, and the event loop would wait for all of
# them.
_thread = ThreadPoolExecutor(1, "large-requests")


async def apart(
    work: Callable[Parameters, Answer], *args: Parameters.args, **kwargs: Parameters.kwargs
) -> Answer:
    """Return what `work` returns, or raise what it raises; it runs in the one thread for large requests."""
    return await asyncio.get_running_loop().run_in_executor(_thread, partial(work, *args, **kwargs))
