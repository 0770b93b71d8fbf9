"""The command `rosterlog verify`."""

from typing import Annotated

import typer
from rich.console import Console

from rosterlog.api.cli.progress import Progress
from rosterlog.api.ops.database import Databases, migrated_database
from rosterlog.api.service import connected
from rosterlog.api.settings import Settings
from rosterlog.domain.log import sessions
from rosterlog.projections.projector import skips
from rosterlog.projections.verify import catalog
from rosterlog.projections.verify.indexes_check import changed_collation, verify_indexes
from rosterlog.projections.verify.log_check import LogHead, verify_log
from rosterlog.projections.verify.skips_check import verify_skips
from rosterlog.projections.verify.tables_check import verify_tables

out, err = (
    Console(highlight=False, soft_wrap=True),
    Console(stderr=True, highlight=False, soft_wrap=True),
)


def verify(
    log: Annotated[
        bool, typer.Option("--log", help="Only the log: its hash chain, from the first event on.")
    ] = False,
    tables: Annotated[
        bool,
        typer.Option(
            "--tables", help="Only the read tables, and what is skipped: against the log."
        ),
    ] = False,
    indexes: Annotated[
        bool, typer.Option("--indexes", help="Only the indexes: that they find what is there.")
    ] = False,
    against: Annotated[
        str | None,
        typer.Option(
            help="A head that was kept, as position:hex; prove that the log goes on from there. Implies --log."
        ),
    ] = None,
) -> None:
    """Prove that the log is as it was written, that the read tables say what it says, and that indexes find it. Exit status 1 where not."""
    kept = _head(against)
    log = log or kept is not None
    everything = not (log or tables or indexes)
    with migrated_database(Settings()) as databases:
        _print_remarks(databases.main)
        if log or everything:
            _verify_log(databases.main, kept)
        wrong = 0
        if tables or everything:
            wrong += _print_differences(databases.project) + _print_wrong_skips(databases.project)
        if indexes or everything:
            wrong += _print_wrong_indexes(databases)
    if wrong:
        raise typer.Exit(1)


def _head(written: str | None) -> LogHead | None:
    try:
        return None if written is None else LogHead.read(written)
    except ValueError:
        raise typer.BadParameter(
            f"{written} is no head of a log: it is printed as position:hex, with 64 digits",
            param_hint="--against",
        ) from None


def _print_remarks(conninfo: str) -> None:
    """Print what is no error, and what an operator should look at."""
    with sessions.connect(conninfo) as connection:
        for remark in (*catalog.remarks(connection), changed_collation(connection)):
            if remark:
                err.print(f"look at this: {remark}", markup=False)


def _verify_log(conninfo: str, kept: LogHead | None) -> None:
    with connected(conninfo) as connection, Progress("log", err) as progress:
        head = verify_log(connection, progress.show, kept)
    continues = f" and continues {kept.position}" if kept else ""
    out.print(f"the log is as it was written{continues}; its head: {head}")


def _print_differences(conninfo: str) -> int:
    with Progress("tables", err) as progress:
        differences = list(verify_tables(conninfo, progress.show))
    for row in differences:
        out.print(
            f"{row.table}: found {row.found or 'no row'}, expected {row.expected or 'no row'}",
            markup=False,
        )
    out.print(
        f"rows that differ: {len(differences)}; rosterlog rebuild mends them"
        if differences
        else "the read tables say what the log says"
    )
    return len(differences)


def _print_wrong_skips(conninfo: str) -> int:
    with connected(conninfo) as connection:
        for skip in skips.active(connection):
            out.print(str(skip), markup=False)
    wrong = list(verify_skips(conninfo))
    for one in wrong:
        out.print(str(one), markup=False)
    return len(wrong)


def _print_wrong_indexes(databases: Databases) -> int:
    with Progress("indexes", err, unit="indexes") as progress:
        found = verify_indexes([databases.project, databases.write], progress.show)
    for one in found.wrong:
        out.print(str(one), markup=False)
    if found.unread:
        err.print(
            f"indexes that could not be read in their order, and were not checked: {', '.join(found.unread)}",
            markup=False,
        )
    if not found.wrong:
        out.print("the indexes find what is there")
    return len(found.wrong)
