"""Importing from files: CSV with a header line, or NDJSON with an object a line."""

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from domain.bulk import MOST_ITEMS
from domain.decision import Outcome
from domain.errors import ItemsRefused

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
    """Return the items of a file (`-`: standard input). `columns` says which there are, and which of them every item needs.

    Raises `FileUnusable`.
    """
    try:
        with _opened(file) as lines:
            first = lines.readline()
            if first.lstrip("\ufeff").startswith("{"):
                return list(_ndjson([first, *lines]))
            return list(_csv([first, *lines], columns))
    except (OSError, UnicodeDecodeError, csv.Error) as wrong:
        raise FileUnusable(f"{file}: {wrong}") from None


@contextmanager
def _opened(file: Path) -> Iterator[TextIO]:
    if str(file) == "-":
        yield sys.stdin
    else:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            yield lines


def _ndjson(lines: Iterable[str]) -> Iterator[Line]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield Line(number, json.loads(line))
            except ValueError as wrong:
                raise FileUnusable(f"line {number} is no JSON: {wrong}") from None


def _csv(lines: Iterable[str], columns: Mapping[str, bool]) -> Iterator[Line]:
    reader = csv.DictReader(lines, strict=True)
    found = set(reader.fieldnames or ())
    needed = {name for name, is_needed in columns.items() if is_needed}
    if not needed <= found <= columns.keys():
        raise FileUnusable(f"the first line names the columns: {', '.join(columns)} (needed: {', '.join(sorted(needed))})")
    for row in reader:
        # An empty field is one that is not given. A field too many stands under None: as a name that no item has, it is refused.
        yield Line(reader.line_num, {str(name): value for name, value in row.items() if value})


@dataclass
class Imported:
    """What became of a file's items."""

    position: int = 0
    succeeded: int = 0
    unchanged: int = 0
    refused: int = 0


def give(
    lines: Sequence[Line],
    command: Callable[[Sequence[Any]], Outcome],
    *,
    atomic: bool,
    on_refused: Callable[[Line, str], None],
    on_progress: Callable[[int, int], None],
) -> Imported:
    """Give the lines' items to a command, many at a time, or `atomic` all at once. Raises `FileUnusable` for too many at once."""
    if atomic and len(lines) > MOST_ITEMS:
        raise FileUnusable(f"all or nothing is for up to {MOST_ITEMS} items; the file has {len(lines)}")
    imported, rest = Imported(), iter(lines)
    while some := list(islice(rest, MOST_ITEMS if atomic else AT_ONCE)):
        try:
            outcome = command([line.item for line in some])
        except ItemsRefused as refused:
            _count(imported, some, refused.outcomes, on_refused)
            imported.succeeded = 0
            return imported
        imported.position = outcome.position
        _count(imported, some, (outcome.result or {})["items"], on_refused)
        on_progress(imported.succeeded + imported.unchanged + imported.refused, len(lines))
    return imported


def _count(
    imported: Imported, lines: Sequence[Line], outcomes: Sequence[Mapping[str, Any]], on_refused: Callable[[Line, str], None]
) -> None:
    for line, one in zip(lines, outcomes, strict=True):
        if one["outcome"] == "refused":
            imported.refused += 1
            on_refused(line, f"{one['rule']}: {one['detail']}")
        elif one["outcome"] == "unchanged":
            imported.unchanged += 1
        else:
            imported.succeeded += 1
