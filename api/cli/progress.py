"""Progress of long work: a bar with rate and time left on a terminal, plain lines elsewhere."""

import time
from types import TracebackType
from typing import Self

from rich import progress
from rich.console import Console

LINE_SECONDS = 2.0
"""How often a plain line is written where there is no terminal."""


class Progress:
    """Shows how far one piece of work is."""

    def __init__(self, title: str, console: Console, unit: str = "events") -> None:
        """Show the work called `title` on `console`, counted in `unit`."""
        self._title = title
        self._unit = unit
        self._console = console
        self._began = self._said = time.monotonic()
        self._bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[rate]}"),
            progress.TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(title, total=None, rate="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def show(self, done: int, total: int) -> None:
        """Show that `done` of `total` are done."""
        now = time.monotonic()
        rate = done / max(now - self._began, 0.001)
        self._bar.update(self._task, completed=done, total=total, rate=f"{rate:,.0f}/s")
        if not self._console.is_terminal and (now - self._said >= LINE_SECONDS or done == total):
            self._said = now
            left = (total - done) / rate if rate else 0
            self._console.print(
                f"{self._title}: {done} of {total} {self._unit}, {rate:,.0f}/s, {left:.0f} s left"
            )

    def say(self, what: str) -> None:
        """Say what goes on, once all is counted."""
        self._bar.update(self._task, description=f"{self._title}: {what}")
        if not self._console.is_terminal:
            self._console.print(f"{self._title}: {what}")
