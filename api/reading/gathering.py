"""Gathering: one statement answers all questions that came while another one was under way."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from rosterlog.api.reading.connections import Row

AT_ONCE = 2
"""How many statements of one kind may be under way: one to wait for, one to be prepared meanwhile."""
MOST = 200
"""Most questions in one statement."""

_Question = tuple[Row, asyncio.Future[Row]]


class Gathering:
    """Answers many questions of one kind with one statement. A lone question is asked at once.

    An answer is never older than its question: each statement begins after all that it answers was
    asked.
    """

    def __init__(self, ask: Callable[[Sequence[Row]], Awaitable[Sequence[Row]]]) -> None:
        """Ask with `ask`, which takes the parameters of each question and returns a row for each, in order."""
        self._ask = ask
        self._questions: list[_Question] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def answer(self, *parameters: Any) -> Row:
        """Return the row for these parameters. Raises what asking raises."""
        answer: asyncio.Future[Row] = asyncio.get_running_loop().create_future()
        self._questions.append((parameters, answer))
        if len(self._tasks) < AT_ONCE:
            task = asyncio.create_task(self._work())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await answer

    async def _work(self) -> None:
        while self._questions:
            asked, self._questions = self._questions[:MOST], self._questions[MOST:]
            try:
                rows = await self._ask([parameters for parameters, _ in asked])
            except Exception as error:  # it is theirs who asked
                for _, answer in asked:
                    if not answer.done():
                        answer.set_exception(error)
            else:
                for (_, answer), row in zip(asked, rows, strict=True):
                    if not answer.done():
                        answer.set_result(row)
