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
from uuid import UUID

from psycopg import AsyncConnection
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from starlette.responses import Response

from rosterlog.api.app import create_app
from rosterlog.api.http import server
from rosterlog.api.rest.schemas.answers import ClassMember, ClassMemberList
from rosterlog.projections.tables import ClassMemberRow

EMPTY, NAIVE = "/benchmarks/empty", "/benchmarks/naive"
START_SECONDS = 60


@contextmanager
def serving(conninfo: str) -> Iterator[int]:
    """Serve a database and project into it until the context ends; yield the port."""
    with create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    program = Path(sys.executable).with_name("rosterlog")
    settings = {**environ, "ROSTERLOG_DATABASE_URL": conninfo}
    with ExitStack() as stack:
        for command in (
            [str(program), "project"],
            [sys.executable, "-m", "benchmarks.serving", conninfo, str(port)],
        ):
            process = stack.enter_context(
                subprocess.Popen(command, env=settings, stderr=subprocess.DEVNULL)
            )
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


class Naive:
    """A roster as many would write it: rows of the models over an async engine, through a response model."""

    def __init__(self, conninfo: str) -> None:
        self._engine = create_async_engine(
            "postgresql+psycopg://",
            async_creator=lambda: AsyncConnection.connect(conninfo),  # noqa: TID251  # as many would write it
            pool_size=16,
            max_overflow=0,
        )

    async def __call__(self, class_id: UUID) -> ClassMemberList:
        async with AsyncSession(self._engine) as session:
            ordered = (ClassMemberRow.role, ClassMemberRow.created_at, ClassMemberRow.id)
            rows = await session.scalars(
                select(ClassMemberRow).where(ClassMemberRow.class_id == class_id).order_by(*ordered)
            )
            items = [ClassMember.model_validate(row, from_attributes=True) for row in rows]
        return ClassMemberList(items=items, next_cursor=None)


async def empty() -> Response:
    return Response(status_code=204)


def main(conninfo: str, port: int) -> None:
    app = create_app(lambda: conninfo)
    app.add_api_route(EMPTY, empty, include_in_schema=False)
    app.add_api_route(
        f"{NAIVE}/{{class_id}}/members",
        Naive(conninfo).__call__,
        include_in_schema=False,
        response_model=ClassMemberList,
    )
    server.run(app, "127.0.0.1", port)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
