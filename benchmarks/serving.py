"""One worker of the service in a process of its own, and the projector in another.

It has two routes of the benchmarks: one does nothing, one reads a roster as many would write it.
Both stand where all routes of the service stand.
"""

import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from os import environ
from pathlib import Path
from socket import create_server
from uuid import UUID

from fastapi import APIRouter
from psycopg import AsyncConnection
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from starlette.responses import Response

from rosterlog.api.app import Part, create_app
from rosterlog.api.http import server
from rosterlog.api.http.policy import Policy
from rosterlog.api.rest.schemas.answers import ClassMember, ClassMemberList
from rosterlog.projections.tables import ClassMemberRow

EMPTY, NAIVE = "/benchmarks/empty", "/benchmarks/naive"
START_SECONDS = 60


@contextmanager
def serving(conninfo: str) -> Iterator[int]:
    """Serve a database and project into it until the context ends; yield the port."""
    program = str(Path(sys.executable).with_name("rosterlog"))
    settings = {**environ, "ROSTERLOG_DATABASE_URL": conninfo}
    with running([program, "project"], settings):
        time.sleep(1)
        with listening("benchmarks.serving", conninfo, "/readyz") as port:
            yield port


@contextmanager
def listening(module: str, conninfo: str, path: str) -> Iterator[int]:
    """Run a server's module until the context ends; yield its port once it answers `path`."""
    with create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    with running([sys.executable, "-m", module, conninfo, str(port)], dict(environ)):
        _wait_until_ready(f"http://127.0.0.1:{port}{path}")
        yield port


@contextmanager
def running(command: list[str], settings: dict[str, str]) -> Iterator[None]:
    """Run a program until the context ends."""
    with subprocess.Popen(command, env=settings, stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()


def _wait_until_ready(url: str) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"nothing answers at {url}")


class Naive:
    """A roster as many would write it: rows of the models, through a response model.

    The rows come over an async engine.
    """

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
    router = APIRouter()
    router.add_api_route(EMPTY, empty, operation_id="empty", include_in_schema=False)
    router.add_api_route(
        f"{NAIVE}/{{class_id}}/members",
        Naive(conninfo).__call__,
        operation_id="naive",
        include_in_schema=False,
        response_model=ClassMemberList,
    )
    open_to_all = Policy(None, confinable=True, offers=(), body=0)
    beside = Part([router], {"empty": open_to_all, "naive": open_to_all})
    server.run(create_app(lambda: conninfo, None, beside), "127.0.0.1", port)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
