"""The results of threads reach the event loop: each one its caller, or nobody.

A caller who waits too long gets none.
"""

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from rosterlog.api.http.handover import Handover
from rosterlog.api.rest import commands
from rosterlog.api.settings import Settings
from tests.api.client import done, problem
from tests.api.conftest import serving
from tests.domain.threads import eventually
from tests.faults.proxy import Proxy


def test_each_waits_for_its_own_outcome_though_many_come_at_once() -> None:
    async def scenario() -> list[int | BaseException]:
        handover = Handover()
        futures: list[Future[int]] = [Future() for _ in range(200)]
        waiting = asyncio.gather(
            *(handover.result(future, 30) for future in futures), return_exceptions=True
        )
        await asyncio.sleep(0)

        def finish() -> None:
            for number, future in enumerate(futures):
                if number % 50:
                    future.set_result(number)
                else:
                    future.set_exception(ZeroDivisionError(number))

        with ThreadPoolExecutor(1) as threads:
            threads.submit(finish)
            return await waiting

    outcomes = asyncio.run(scenario())
    assert [one for one in outcomes if isinstance(one, int)] == [
        number for number in range(200) if number % 50
    ]
    assert [type(one) for one in outcomes[::50]] == [ZeroDivisionError] * 4


def test_who_gives_up_waiting_takes_back_what_is_not_begun() -> None:
    async def scenario() -> tuple[bool, bool]:
        handover = Handover()
        late: Future[int] = Future()
        with pytest.raises(TimeoutError):
            await handover.result(late, 0.01)
        given_up: Future[int] = Future()
        waiting = asyncio.create_task(handover.result(given_up, 30))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        return late.cancelled(), given_up.cancelled()

    assert asyncio.run(scenario()) == (True, True)


def test_a_command_does_not_wait_for_ever_for_a_database_that_says_nothing(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "GIVE_SECONDS", 0.5)
    with (
        Proxy(database).running() as proxy,
        serving(
            database, Settings(database_url=database, write_database_url=proxy.conninfo)
        ) as api,
    ):
        first = api.new_group()
        proxy.freeze()
        answer = api.post("/v1/groups", json={"name": "North"})
        problem(answer, 503, "store-unavailable")
        assert "Retry-After" in answer.headers
        assert api.read(f"/v1/groups/{first}")["version"] == 1
        proxy.thaw()
        eventually(lambda: api.post("/v1/groups", json={"name": "South"}).status_code == 201)
        assert done(api.get("/readyz"), 200)
