"""The commands that read files: `rosterlog register`, `enrol` and `roster`."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID, uuid4

import typer
from rich.console import Console

from rosterlog.api.cli import rows_of_files as importing
from rosterlog.api.cli.progress import Progress
from rosterlog.api.cli.rows_of_files import FileUnusable, Given, Line
from rosterlog.api.http.problems import InvalidForm
from rosterlog.api.ops.database import migrated_database
from rosterlog.api.rest import bulk_items as bulk
from rosterlog.api.settings import Settings
from rosterlog.domain.bulk import RosterRules
from rosterlog.domain.errors import MembersRefused
from rosterlog.domain.items import MOST_ITEMS, Items, Member
from rosterlog.domain.log.event_store import PostgresLog
from rosterlog.domain.roster import Roster
from rosterlog.domain.values import Provenance

out, err = (
    Console(highlight=False, soft_wrap=True),
    Console(stderr=True, highlight=False, soft_wrap=True),
)

File = Annotated[
    Path, typer.Argument(help="CSV with a header line, or NDJSON; - for standard input.")
]
Atomic = Annotated[
    bool,
    typer.Option("--atomic", help="Record nothing where one item is refused (up to 10,000 items)."),
]
Actor = Annotated[str, typer.Option(help="Who imports: an opaque id.")]
Reason = Annotated[str | None, typer.Option(help="Why; kept in the log for ever.")]
ImportId = Annotated[
    str | None,
    typer.Option(
        help="What the import is called: the source of its events is import:<id>. Unset: a new id."
    ),
]

Give = Callable[[Roster, Sequence[Any], Provenance], Given]


def register(
    file: File,
    atomic: Atomic = False,
    actor: Actor = "local",
    reason: Reason = None,
    import_id: ImportId = None,
) -> None:
    """Register the users of a file, with the column id. Exit status 1 where one is refused."""

    def give(roster: Roster, items: Sequence[Any], by: Provenance) -> Given:
        formed = bulk.registrations(items)
        return importing.given(
            formed, lambda: roster.register_many(uuid4(), formed, by, atomic=atomic)
        )

    _import(file, {"id": True}, give, "registered", _by(actor, reason, import_id), atomic=atomic)


def enrol(
    file: File,
    atomic: Atomic = False,
    actor: Actor = "local",
    reason: Reason = None,
    import_id: ImportId = None,
) -> None:
    """Enrol by a file, with the columns class_id, user_id, role and effective_on.

    Exit status 1 where one is refused.
    """

    def give(roster: Roster, items: Sequence[Any], by: Provenance) -> Given:
        formed = bulk.enrolments(items)
        return importing.given(
            formed, lambda: roster.enrol_many(uuid4(), formed, by, atomic=atomic)
        )

    columns = {"class_id": True, "user_id": True, "role": True, "effective_on": False}
    _import(file, columns, give, "enrolled", _by(actor, reason, import_id), atomic=atomic)


def set_roster(
    class_id: Annotated[UUID, typer.Argument(help="The class.")],
    file: File,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would change, and record nothing.")
    ] = False,
    max_withdrawals: Annotated[
        int | None,
        typer.Option(min=0, help="Refuse a file that would withdraw more members than this."),
    ] = None,
    allow: Annotated[
        bool,
        typer.Option(
            "--allow", help="Allow a file that withdraws more than half of the members, or all."
        ),
    ] = False,
    actor: Actor = "local",
    reason: Reason = None,
    import_id: ImportId = None,
) -> None:
    """Set the whole roster of a class by a file, with the columns user_id and role; whoever is not in it is withdrawn.

    A file that would withdraw more than half of the members, or all of them, is refused, unless
    --allow or --max-withdrawals allows it.
    """
    if allow and max_withdrawals is not None:
        raise typer.BadParameter(
            "--allow allows any number of withdrawals, --max-withdrawals a given one: give one of them"
        )
    by = _by(actor, reason, import_id)
    lines = importing.read(file, {"user_id": True, "role": True})
    members = _members(lines)
    most = sys.maxsize if allow else max_withdrawals
    with _roster() as roster:
        try:
            outcome = roster.set_members(
                class_id, members, by, rules=RosterRules(dry_run, most, few=0)
            )
        except MembersRefused as refused:
            for one in refused.errors:
                _say_refused(
                    lines[int(one["pointer"].rpartition("/")[2])], f"{one['rule']}: {one['detail']}"
                )
            err.print(str(refused), markup=False)
            raise typer.Exit(1) from None
    found = outcome.result or {}
    for change in found["changes"]:
        roles = " to ".join(role for role in (change["previous_role"], change["role"]) if role)
        out.print(f"{change['user_id']} {change['change']}: {roles}", markup=False)
    counts = ", ".join(
        f"{name} {found[name]}" for name in ("enrolled", "role_changed", "withdrawn", "unchanged")
    )
    out.print(f"{'would be ' if dry_run else ''}{counts}; position {outcome.position}")


def _members(lines: Sequence[Line]) -> Items[Member]:
    if len(lines) > MOST_ITEMS:
        raise FileUnusable(f"a roster has up to {MOST_ITEMS} members; the file has {len(lines)}")
    try:
        return bulk.members([line.item for line in lines])
    except InvalidForm as wrong:
        for error in wrong.errors:
            number = int(error["pointer"].split("/")[2])  # /members/<number>/<field>
            err.print(f"line {lines[number].number}: {error['detail']}", markup=False)
        if wrong.count > len(wrong.errors):
            err.print(f"and {wrong.count - len(wrong.errors)} more")
        raise typer.Exit(1) from None


def _import(
    file: Path, columns: dict[str, bool], give: Give, success: str, by: Provenance, *, atomic: bool
) -> None:
    lines = importing.read(file, columns)
    with _roster() as roster, Progress(str(file), err, unit="items") as progress:
        imported = importing.give(
            lines,
            lambda items: give(roster, items, by),
            atomic=atomic,
            on_refused=_say_refused,
            on_progress=progress.show,
        )
    nothing = (
        "; nothing was recorded"
        if atomic and imported.refused
        else f"; position {imported.position}"
    )
    out.print(
        f"{success} {imported.succeeded}, unchanged {imported.unchanged}, refused {imported.refused}{nothing}"
    )
    if imported.refused:
        raise typer.Exit(1)


def _say_refused(line: Line, why: str) -> None:
    err.print(f"line {line.number}: {why}", markup=False)


def _by(actor: str, reason: str | None, import_id: str | None) -> Provenance:
    return Provenance(actor, source=f"import:{import_id or uuid4()}", reason=reason)


@contextmanager
def _roster() -> Iterator[Roster]:
    with migrated_database(Settings()) as databases:
        log = PostgresLog(databases.write)
        roster = Roster(log)
        try:
            yield roster
        finally:
            roster.close()
            log.close()
