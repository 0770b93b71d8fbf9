"""The HTTP server: uvicorn, which ends open feeds before it waits for the requests under way."""

import socket

import uvicorn
from fastapi import FastAPI

KEEP_ALIVE_SECONDS = 75
"""How long an idle connection stays open: longer than clients and proxies commonly wait, so that they, not we, close it."""
GRACE_SECONDS = 10
"""How long requests under way may take to end when the server goes down; a client that reads no more would hold it up for ever."""


class Server(uvicorn.Server):
    """Serves one application."""

    def __init__(self, app: FastAPI, host: str = "127.0.0.1", port: int = 0) -> None:
        """Serve `app` on this address."""
        self._app = app
        super().__init__(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=GRACE_SECONDS,
                log_config=None,
                access_log=False,
                server_header=False,
            )
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Go down: feeds first, which would never end by themselves."""
        self._app.state.service.feed.close()
        await super().shutdown(sockets)
