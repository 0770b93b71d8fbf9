"""A waiter is woken when its position is there, in the tables or in the log, and not before."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any
from uuid import uuid4

from psycopg import Connection

from rosterlog.domain.roster import Roster
from rosterlog.projections.following.follower import Follower
from rosterlog.projections.shared_sql import PROJECTED_CHANNEL
from tests.conftest import by
from tests.projections.tables import project_all


def watching(database: str, scenario: Callable[[Follower], Awaitable[None]]) -> None:
    async def run() -> None:
        visibility = Follower.of_tables(database)
        visibility.start()
        try:
            await scenario(visibility)
        finally:
            await visibility.stop()

    asyncio.run(run())


def register(roster: Roster, count: int) -> None:
    for _ in range(count):
        roster.register_user(uuid4(), by())


def test_what_is_visible_already_is_reached_at_once(
    roster: Roster, connection: Connection[Any], database: str
) -> None:
    register(roster, 3)
    project_all(connection)

    async def scenario(visibility: Follower) -> None:
        assert await visibility.reached(3, 30)
        assert await visibility.reached(1, 0)
        assert await visibility.reached(0, 0)

    watching(database, scenario)


def test_waiting_ends_without_it_when_the_time_is_over(
    roster: Roster, connection: Connection[Any], database: str
) -> None:
    register(roster, 1)

    async def scenario(visibility: Follower) -> None:
        assert not await visibility.reached(1, 0.1)
        project_all(connection)
        assert await visibility.reached(1, 30)
        assert not await visibility.reached(2, 0.1)

    watching(database, scenario)


def test_those_who_wait_are_woken_in_turn_by_notification_or_by_looking(
    roster: Roster, connection: Connection[Any], database: str
) -> None:
    register(roster, 4)

    async def scenario(visibility: Follower) -> None:
        waiting = {
            position: asyncio.create_task(visibility.reached(position, 30))
            for position in (4, 2, 2, 1)
        }
        await asyncio.sleep(0)
        project_all(connection)
        connection.execute(f"NOTIFY {PROJECTED_CHANNEL}, '4'")
        assert await asyncio.gather(*waiting.values()) == [True] * len(waiting)

    watching(database, scenario)


def test_a_lost_notification_delays_and_does_not_lose_anyone(
    roster: Roster, connection: Connection[Any], database: str
) -> None:
    register(roster, 1)

    async def scenario(visibility: Follower) -> None:
        waiting = asyncio.create_task(visibility.reached(1, 30))
        await asyncio.sleep(0.05)
        project_all(connection)
        assert await waiting

    watching(database, scenario)


def test_the_watch_heals_when_its_session_is_terminated(
    roster: Roster, connection: Connection[Any], database: str
) -> None:
    register(roster, 1)

    async def scenario(visibility: Follower) -> None:
        assert await visibility.reached(0, 30)
        waiting = asyncio.create_task(visibility.reached(1, 30))
        await asyncio.sleep(0.3)
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND query LIKE '%checkpoint%' AND pid <> pg_backend_pid()"
        )
        project_all(connection)
        assert await waiting

    watching(database, scenario)


def test_whoever_gives_up_is_not_in_the_way_of_the_others(
    roster: Roster, connection: Connection[Any], database: str
) -> None:
    register(roster, 2)

    async def scenario(visibility: Follower) -> None:
        given_up = asyncio.create_task(visibility.reached(1, 30))
        waiting = asyncio.create_task(visibility.reached(2, 30))
        await asyncio.sleep(0)
        given_up.cancel()
        with suppress(asyncio.CancelledError):
            await given_up
        project_all(connection)
        assert await waiting

    watching(database, scenario)


def test_a_follower_of_the_log_does_not_wait_for_the_tables(
    roster: Roster, connection: Connection[Any], database: str
) -> None:
    async def scenario() -> None:
        log, tables = Follower.of_log(database), Follower.of_tables(database)
        log.start()
        tables.start()
        try:
            waiting = asyncio.create_task(log.reached(2, 30))
            await asyncio.sleep(0.05)
            await asyncio.to_thread(register, roster, 2)
            assert await waiting
            assert not await tables.reached(2, 0.3)
            assert (log.position, tables.position) == (2, 0)
        finally:
            await log.stop()
            await tables.stop()

    asyncio.run(scenario())
