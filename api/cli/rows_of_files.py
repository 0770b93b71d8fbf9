"""Importing from files: CSV with a header line, or NDJSON with an object a line."""

import csv
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from rosterlog.api.http import strict_json
from rosterlog.api.http.strict_json import BadJson
from rosterlog.domain.bulk import outcomes
from rosterlog.domain.deciding.outcome import Outcome
from rosterlog.domain.errors import ItemsRefused
from rosterlog.domain.items import MOST_ITEMS, Items

AT_ONCE = 1_000
"""How many items are recorded in one append, unless it is all or nothing: enough to be fast, few enough to show progress."""


class FileUnusable(Exception):
    """The file can't be imported; the message says why."""


@dataclass(frozen=True)
class Line:
    """One item of a file, and the number of the line it stands on."""

    number: int
    item: Any


def read(file: Path, columns: Mapping[str, bool]) -> list[Line]:
    """Return the items of a file (`-`: standard input).

    `columns` says which there are, and which of them every item needs.

    Raises `FileUnusable`.
    """
    try:
        with _opened(file) as lines:
            first = lines.readline()
            if first.startswith("{"):
                return list(_ndjson([first, *lines]))
            return list(_csv([first, *lines], columns))
    except UnicodeDecodeError:
        raise FileUnusable(
            f"{file} is not in UTF-8: save it as CSV in UTF-8, and give it again"
        ) from None
    except (OSError, csv.Error) as wrong:
        raise FileUnusable(f"{file}: {wrong}") from None


@contextmanager
def _opened(file: Path) -> Iterator[TextIO]:
    """Open a file or standard input as UTF-8, whatever the account's language; a mark of byte order at the beginning is none of it."""
    if str(file) == "-":
        yield TextIOWrapper(sys.stdin.buffer, encoding="utf-8-sig", newline="")
    else:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            yield lines


def _ndjson(lines: Iterable[str]) -> Iterator[Line]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield Line(number, strict_json.read(line))
            except BadJson as wrong:
                place = f"{wrong.pointer}: " if wrong.pointer else ""
                raise FileUnusable(f"line {number} is no JSON: {place}{wrong.detail}") from None


def _csv(lines: Iterable[str], columns: Mapping[str, bool]) -> Iterator[Line]:
    reader = csv.reader(lines, strict=True)
    names = next(reader, [])
    needed = {name for name, is_needed in columns.items() if is_needed}
    if not needed <= set(names) <= columns.keys():
        raise FileUnusable(
            f"the first line names the columns: {', '.join(columns)} (needed: {', '.join(sorted(needed))})"
        )
    if len(set(names)) < len(names):
        raise FileUnusable(f"the first line names a column twice: {', '.join(names)}")
    for fields in filter(None, reader):
        if len(fields) != len(names):
            # Where it is the last line, the file was cut.
            wrong = f"line {reader.line_num} has {len(fields)} fields, and the first line names {len(names)}: is the file complete?"
            raise FileUnusable(wrong)
        # An empty field is one that is not given.
        yield Line(
            reader.line_num,
            {name: value for name, value in zip(names, fields, strict=True) if value},
        )


@dataclass
class Imported:
    """What became of a file's items."""

    position: int = 0
    succeeded: int = 0
    unchanged: int = 0
    refused: int = 0


@dataclass(frozen=True)
class Given:
    """What many items came to: each one's outcome, and the position, which is None where nothing was recorded because one is refused."""

    outcomes: Sequence[Mapping[str, Any]]
    position: int | None


def given(items: Items[Any], command: Callable[[], Outcome]) -> Given:
    """Give a command about `items`, and return what they came to."""
    try:
        outcome = command()
    except ItemsRefused as refused:
        return Given(outcomes(items, refused.result), None)
    return Given(outcomes(items, outcome.result or {}), outcome.position)


def give(
    lines: Sequence[Line],
    command: Callable[[Sequence[Any]], Given],
    *,
    atomic: bool,
    on_refused: Callable[[Line, str], None],
    on_progress: Callable[[int, int], None],
) -> Imported:
    """Give the lines' items to a command, many at a time, or `atomic` all at once.

    Raises `FileUnusable` for too many at once.
    """
    if atomic and len(lines) > MOST_ITEMS:
        raise FileUnusable(
            f"all or nothing is for up to {MOST_ITEMS} items; the file has {len(lines)}"
        )
    imported, rest = Imported(), iter(lines)
    while some := list(islice(rest, MOST_ITEMS if atomic else AT_ONCE)):
        found = command([line.item for line in some])
        _count(imported, some, found.outcomes, on_refused)
        if found.position is None:
            imported.succeeded = 0
            return imported
        imported.position = found.position
        on_progress(imported.succeeded + imported.unchanged + imported.refused, len(lines))
    return imported


def _count(
    imported: Imported,
    lines: Sequence[Line],
    outcomes: Sequence[Mapping[str, Any]],
    on_refused: Callable[[Line, str], None],
) -> None:
    for line, one in zip(lines, outcomes, strict=True):
        if one["outcome"] == "refused":
            imported.refused += 1
            on_refused(line, f"{one['rule']}: {one['detail']}")
        elif one["outcome"] == "unchanged":
            imported.unchanged += 1
        else:
            imported.succeeded += 1
