"""The HTTP server: uvicorn, with our limits."""

import gc
from typing import Any

import uvicorn
from fastapi import FastAPI

from rosterlog.api.http.protocol import GuardedProtocol
from rosterlog.api.ops.workers import Workers

KEEP_ALIVE_SECONDS = 75
"""How many seconds an idle connection stays open.

It is longer than clients and proxies commonly wait, so that they close it, not we.
"""
GRACE_SECONDS = 10
"""How many seconds requests under way may take to end when the server goes down.

It is longer than a command waits to be visible.
"""
WORKER_SECONDS = 60
"""How many seconds a worker may give no sign of life before it is replaced.

On a busy machine its start alone takes more than uvicorn's five.
"""

OPTIONS: dict[str, Any] = {
    "http": GuardedProtocol,
    "ws": "none",
    # Nothing here depends on the caller that a proxy names.
    "proxy_headers": False,
    "timeout_keep_alive": KEEP_ALIVE_SECONDS,
    "timeout_graceful_shutdown": GRACE_SECONDS,
    "timeout_worker_healthcheck": WORKER_SECONDS,
    "log_config": None,
    "access_log": False,
    "server_header": False,
    # On every answer, those of the protocol itself included: no browser takes an answer for
    # another type of content.
    "headers": [("X-Content-Type-Options", "nosniff")],
}
"""The settings of uvicorn wherever we serve."""


def spare_the_collector() -> None:
    """Let Python look for reference cycles less often.

    Each search goes through the aggregates that a process knows, which have no cycles. It cost a
    fifth of the commands, and made every hundredth wait for a tenth of a second (measured).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 1_000)


def run(app: FastAPI | str, host: str, port: int, workers: int = 1) -> None:
    """Serve `app` until a signal ends it.

    With several workers `app` is the name of a function that returns the application.
    """
    spare_the_collector()
    if workers == 1:
        # Without this number uvicorn would take it from WEB_CONCURRENCY, and not start.
        uvicorn.run(app, factory=isinstance(app, str), host=host, port=port, workers=1, **OPTIONS)
        return
    config = uvicorn.Config(
        app, factory=isinstance(app, str), host=host, port=port, workers=workers, **OPTIONS
    )
    Workers(config, [config.bind_socket()]).run()
