"""What the service is measured against: a plain FastAPI application with the same database.

It runs on the same server as the service (uvicorn with the same settings and protocol) and over the
same kind of pool with as many connections. It has no log, no checks and no history. Each route is
as fast as it can be written with FastAPI: one statement, and PostgreSQL makes the JSON. The table
that it inserts into has no foreign keys.
"""

import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Literal
from uuid import UUID

from fastapi import FastAPI
from pydantic import BaseModel
from starlette.responses import Response

from benchmarks.serving import EMPTY, listening
from rosterlog.api.http import server
from rosterlog.domain.log import sessions
from rosterlog.domain.log.sessions import AsyncPool

TABLE = """
    CREATE TABLE IF NOT EXISTS public.plain_members (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        class_id uuid NOT NULL,
        user_id uuid NOT NULL,
        role public.class_role NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        UNIQUE (class_id, user_id)
    )
"""
MEMBER = (
    "json_build_object('id', id, 'class_id', class_id, 'user_id', user_id, 'role', role,"
    " 'created_at', created_at)"
)
INSERT = f"""
    INSERT INTO public.plain_members (class_id, user_id, role) VALUES (%s, %s, %s)
    RETURNING {MEMBER}::text
"""
ROSTER = f"""
    SELECT json_build_object(
        'items', coalesce(json_agg({MEMBER} ORDER BY role, created_at, id), '[]'),
        'next_cursor', null
    )::text
    FROM roster.class_members WHERE class_id = %s
"""
POOL = 16
"""As many connections as each pool of the service has."""


class NewMember(BaseModel):
    user_id: UUID
    role: Literal["teacher", "student"]


@contextmanager
def plain(conninfo: str) -> Iterator[int]:
    """Serve a database until the context ends; yield the port."""
    with sessions.connect(conninfo) as connection:
        connection.execute(TABLE)
    with listening("benchmarks.plain", conninfo, EMPTY) as port:
        yield port


def application(pool: AsyncPool) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with pool:
            yield

    app = FastAPI(lifespan=lifespan)

    @app.get(EMPTY)
    async def empty() -> Response:
        return Response(status_code=204)

    @app.post("/v1/classes/{class_id}/members")
    async def enrol(class_id: UUID, new: NewMember) -> Response:
        async with pool.connection() as connection:
            found = await connection.execute(INSERT, (class_id, new.user_id, new.role))
            ((member,),) = await found.fetchall()
        return Response(member, 201, media_type="application/json")

    @app.get("/v1/classes/{class_id}/members")
    async def roster(class_id: UUID) -> Response:
        async with pool.connection() as connection:
            ((members,),) = await (await connection.execute(ROSTER, (class_id,))).fetchall()
        return Response(members, media_type="application/json")

    return app


def main(conninfo: str, port: int) -> None:
    pool = sessions.async_pool(conninfo, sessions.READING, "plain", most=POOL, seconds=5)
    server.run(application(pool), "127.0.0.1", port)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
