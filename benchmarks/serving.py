"""One worker of the service in a process of its own, with a route that does nothing, and the projector in another process."""

import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from os import environ
from pathlib import Path
from socket import create_server

from starlette.responses import Response

from api import server
from api.app import create_app

EMPTY = "/benchmarks/empty"
START_SECONDS = 60


@contextmanager
def serving(conninfo: str) -> Iterator[int]:
    """Serve a database and project into it until the context ends; yield the port."""
    with create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    program = Path(sys.executable).with_name("rosterlog")
    settings = {**environ, "ROSTERLOG_DATABASE_URL": conninfo}
    with ExitStack() as stack:
        for command in ([str(program), "project"], [sys.executable, "-m", "benchmarks.serving", conninfo, str(port)]):
            process = stack.enter_context(subprocess.Popen(command, env=settings, stderr=subprocess.DEVNULL))
            stack.callback(process.terminate)
            time.sleep(1)
        _wait_until_ready(f"http://127.0.0.1:{port}/readyz")
        yield port


def _wait_until_ready(url: str) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError("the service did not become ready")


async def empty() -> Response:
    return Response(status_code=204)


def main(conninfo: str, port: int) -> None:
    app = create_app(lambda: conninfo)
    app.add_api_route(EMPTY, empty, include_in_schema=False)
    server.run(app, "127.0.0.1", port)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
