"""The command line: the composition root of everything but the server."""

import getpass
import json
import logging
import os
import signal
import sys
import tempfile
from dataclasses import asdict
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, NoReturn
from uuid import UUID

import psycopg
import typer
from alembic.util import CommandError
from pydantic import ValidationError
from rich.console import Console
from sqlalchemy.exc import DBAPIError

from rosterlog.api.access import keys, tokens
from rosterlog.api.access.keys import KeysUnreadable
from rosterlog.api.app import create_app
from rosterlog.api.cli import from_files as cli_import
from rosterlog.api.cli import prepare as cli_database
from rosterlog.api.cli import verify as cli_verify
from rosterlog.api.cli.demo import NotEmpty, demo_id
from rosterlog.api.cli.demo import load as load_demo
from rosterlog.api.cli.given_once import Once
from rosterlog.api.cli.progress import Progress
from rosterlog.api.cli.rows_of_files import FileUnusable
from rosterlog.api.http import server
from rosterlog.api.ops import logs
from rosterlog.api.ops.database import (
    DatabaseUnusable,
    database,
    migrate,
    migrated_database,
    revision_of,
)
from rosterlog.api.ops.embedded import EmbeddedError
from rosterlog.api.ops.metrics import MULTIPROCESS
from rosterlog.api.ops.roles import RolesNotPermitted
from rosterlog.api.rest.policy import SCOPES
from rosterlog.api.service import connected, process_name
from rosterlog.api.settings import Settings, masked
from rosterlog.domain.errors import DomainError
from rosterlog.domain.log.event_store import PostgresLog
from rosterlog.domain.roster import Roster
from rosterlog.migrations import commands as migrations
from rosterlog.projections.projector import skips
from rosterlog.projections.projector.projector import EventFails
from rosterlog.projections.projector.runner import Runner
from rosterlog.projections.rebuild.rebuilding import Rebuild
from rosterlog.projections.rebuild.record import RebuildState
from rosterlog.projections.rebuild.switch import SwitchImpossible
from rosterlog.projections.status import projection_status
from rosterlog.projections.verify.catalog import CatalogAltered
from rosterlog.projections.verify.log_check import LogAltered
from rosterlog.projections.verify.mend_log import mend

cli = typer.Typer(
    cls=Once,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Rosterlog: an event-sourced roster service for schools.\n\n"
    "Settings come from the environment: ROSTERLOG_DATABASE_URL (unset: an embedded PostgreSQL), ROSTERLOG_DATA_DIR (data), "
    "ROSTERLOG_HOST (127.0.0.1), ROSTERLOG_PORT (8000).",
)


def _say_version(wanted: bool) -> None:  # noqa: FBT001
    if wanted:
        typer.echo(f"rosterlog {version('rosterlog')}")
        raise typer.Exit


_Version = typer.Option(
    "--version", callback=_say_version, is_eager=True, help="Print the version."
)


@cli.callback()
def options(*, _: Annotated[bool, _Version] = False) -> None:
    """Read the options before the command."""


out, err = (
    Console(highlight=False, soft_wrap=True),
    Console(stderr=True, highlight=False, soft_wrap=True),
)
logger = logging.getLogger("rosterlog")

MOST_SHOWN = 20
"""How many positions or names of one kind are named at most."""


def main() -> None:
    """Run the command line; what an operator can mend is one clear message and exit status 1."""
    logs.configure()
    # As an exception, so that the embedded server is stopped on the way out; with the status of a
    # work that was not finished.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        cli()
    except ValidationError as wrong:
        for error in wrong.errors():
            err.print(
                f"ROSTERLOG_{str(error['loc'][0]).upper()}: {error['msg'].removeprefix('Value error, ')}"
            )
        sys.exit(1)
    except (
        EmbeddedError, DatabaseUnusable, KeysUnreadable, FileUnusable, NotEmpty, DomainError,
        CatalogAltered, LogAltered, EventFails, SwitchImpossible, RolesNotPermitted, psycopg.Error, CommandError,
    ) as wrong:  # fmt: skip
        _end(wrong)
    except DBAPIError as wrong:
        _end(wrong.orig or wrong)


def _end(wrong: BaseException) -> NoReturn:
    err.print(f"rosterlog: {wrong}", markup=False)
    if isinstance(wrong, psycopg.errors.InsufficientPrivilege):
        err.print(
            "This account may not do that: docs/operations.md, Database accounts, says over which account each command works."
        )
    sys.exit(1)


@cli.command()
def serve() -> None:
    """Serve the API, project events, and bring the database up to date first."""
    settings = Settings()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with database(settings, create=True) as databases:
        migrate(databases.main)
        logger.info(
            "serving on http://%s:%s (API: /docs), database %s",
            settings.host,
            settings.port,
            masked(databases.main),
        )
        if settings.workers == 1:
            server.run(create_app(lambda: databases.main, settings), settings.host, settings.port)
            return
        with tempfile.TemporaryDirectory(prefix="rosterlog-metrics-") as shared:
            # The workers are new processes and read their settings from the environment.
            os.environ |= {"ROSTERLOG_DATABASE_URL": databases.main, MULTIPROCESS: shared}
            server.run("rosterlog.api.worker:app", settings.host, settings.port, settings.workers)


@cli.command()
def project(
    skip: Annotated[
        int | None,
        typer.Option(
            help="Leave out the event at this position, at which the projection stands still."
        ),
    ] = None,
    unskip: Annotated[
        int | None,
        typer.Option(help="Take that back for this position; a rebuild then projects the event."),
    ] = None,
    reason: Annotated[
        str | None, typer.Option(help="Why it is skipped; kept, and shown wherever the event is.")
    ] = None,
    actor: Annotated[
        str | None, typer.Option(help="Who decides that; without it the name of your account.")
    ] = None,
) -> None:
    """Project events into the read tables, without serving; stands by while another process projects."""
    if skip is not None or unskip is not None:
        _skip_or_unskip(skip, unskip, reason, actor or getpass.getuser())
        return
    with database(Settings(), create=True) as databases:
        migrate(databases.main)
        runner = Runner(databases.project, process_name("project"))
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: runner.stop())
        runner.run()


def _skip_or_unskip(skip: int | None, unskip: int | None, reason: str | None, actor: str) -> None:
    if skip is not None and (unskip is not None or reason is None):
        raise typer.BadParameter("--skip needs --reason, and goes without --unskip")
    with migrated_database(Settings()) as databases, connected(databases.project) as connection:
        if skip is not None:
            skipped = skips.skip(connection, skip, reason=reason or "", actor=actor)
            out.print(
                f"position {skip} ({skipped.topic}) is skipped; projecting goes on after it",
                markup=False,
            )
        elif unskip is not None:
            skips.take_back(connection, unskip, actor=actor)
            out.print(
                f"position {unskip} is not skipped any more; rosterlog rebuild projects it",
                markup=False,
            )


@cli.command()
def token(
    subject: Annotated[
        str, typer.Option(help="Whom the token speaks for; the actor of the commands.")
    ],
    key: Annotated[Path, typer.Option(help="The private key, as PEM: RSA, EC or Ed25519.")],
    scope: Annotated[
        list[str], typer.Option(help=f"What it allows, once for each scope: {', '.join(SCOPES)}.")
    ],
    group: Annotated[
        list[UUID] | None,
        typer.Option(help="A group that it is confined to, by id, once for each; without it all."),
    ] = None,
    minutes: Annotated[int, typer.Option(min=1, help="How long it counts.")] = 60,
    make_key: Annotated[
        bool, typer.Option("--make-key", help="Make the key first; an existing file is an error.")
    ] = False,
) -> None:
    """Print a token signed with a local key, for trying and for scripts."""
    settings = Settings()
    if settings.auth_keys is None:
        raise typer.BadParameter(
            "set ROSTERLOG_AUTH_KEYS, ROSTERLOG_AUTH_ISSUER and ROSTERLOG_AUTH_AUDIENCE as for the service"
        )
    if unknown := set(scope) - set(SCOPES):
        raise typer.BadParameter(
            f"{', '.join(sorted(unknown))}: the scopes are {', '.join(SCOPES)}"
        )
    if make_key:
        keys.make(key)
    groups = frozenset(group) if group else None
    out.print(
        tokens.make(settings, key, subject, scope, timedelta(minutes=minutes), groups), markup=False
    )


@cli.command()
def rebuild() -> None:
    """Derive the read tables anew from the log, while others read and write."""
    with migrated_database(Settings()) as databases, Progress("rebuild", err) as progress:

        def show(state: RebuildState) -> None:
            progress.show(state.done, state.total)
            if state.done >= state.total:
                progress.say("making memberships and keys, then comparing and switching")

        ended = Rebuild(databases.project).run(show)
    differing = (
        f"; rows that differed before: {ended.differing}" if ended.differing is not None else ""
    )
    out.print(f"rebuild {ended.state}: {ended.done} events{differing}")
    if ended.state != "done":
        raise typer.Exit(1)


@cli.command("mend")
def mend_command(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what there is to mend.")
    ] = False,
    reindex: Annotated[
        bool, typer.Option("--reindex", help="Write all indexes of the log anew, whole ones too.")
    ] = False,
) -> None:
    """Mend what follows from the log's events: columns, index of endings, indexes.

    Events themselves are never changed.
    """
    with (
        migrated_database(Settings()) as databases,
        connected(databases.main) as connection,
        Progress("mend", err) as progress,
    ):
        try:
            mended = mend(connection, progress.show, dry_run=dry_run, reindex=reindex)
        except psycopg.errors.InsufficientPrivilege as refused:
            why = str(refused).partition("\n")[0]
            raise DatabaseUnusable(
                f"this account may not mend the log ({why}): run rosterlog mend as the migrator"
            ) from None
    for what, found in (
        ("index", mended.indexes),
        ("columns of position", mended.columns),
        ("endings of position", mended.endings),
    ):
        if found:
            more = f" and {len(found) - MOST_SHOWN} more" if len(found) > MOST_SHOWN else ""
            out.print(
                f"{'to mend' if dry_run else 'mended'}: {what} {', '.join(map(str, found[:MOST_SHOWN]))}{more}"
            )
    if not mended:
        out.print("nothing to mend: all that follows from the log's events says what they say")


@cli.command()
def status(
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
) -> None:
    """Say where the log, the read tables and the migrations stand."""
    with database(Settings()) as databases:
        report = _status(databases.main)
    if as_json:
        out.print_json(json.dumps(report, default=str))
        return
    projector = report["projector"] or {}
    skipped = projector.pop("skips", [])
    for name, value in report.items():
        shown = (
            ", ".join(f"{key} {part}" for key, part in value.items() if part is not None)
            if isinstance(value, dict)
            else value
        )
        out.print(f"{name + ':':15}{shown}", markup=False)
    for skip in skipped:
        out.print(str(skips.Skip(**skip)), markup=False)


def _status(conninfo: str) -> dict[str, Any]:
    at, newest = revision_of(conninfo), migrations.newest()
    report: dict[str, Any] = {
        "database_url": masked(conninfo),
        "head_position": None,
        "checkpoint": None,
        "lag": None,
        "projector": None,
    }
    if at == newest:
        with connected(conninfo) as connection:
            projection = asdict(projection_status(connection))
        report |= {
            "head_position": projection.pop("head"),
            "checkpoint": projection.pop("checkpoint"),
            "lag": projection.pop("lag"),
        }
        projection["last_error"] = projection.pop("failure")
        report["projector"] = projection
    return report | {"migrations": {"at": at, "newest": newest}}


@cli.command()
def demo() -> None:
    """Load a semester of a made-up district into an empty service (examples/district.ndjson)."""
    with database(Settings(), create=True) as databases:
        migrate(databases.main)
        log = PostgresLog(databases.write)
        try:
            with Progress("demo", err, unit="commands") as progress:
                position = load_demo(Roster(log), progress.show)
        finally:
            log.close()
    out.print(
        f"the district is loaded up to position {position}; a class to look at: /v1/classes/{demo_id('math-7b')}/history"
    )


cli.command("verify")(cli_verify.verify)
cli.command("migrate")(cli_database.migrate)
cli.command("roles")(cli_database.roles)
cli.command("register")(cli_import.register)
cli.command("enrol")(cli_import.enrol)
cli.command("roster")(cli_import.set_roster)


@cli.command()
def openapi() -> None:
    """Print the OpenAPI document."""
    out.print_json(json.dumps(create_app(lambda: "").openapi()))
