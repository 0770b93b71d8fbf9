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
from typing import Annotated, Any
from uuid import UUID

import psycopg
import typer
from alembic.util import CommandError
from pydantic import ValidationError
from rich.console import Console
from sqlalchemy.exc import DBAPIError

from api import cli_import, keys, logs, roles, server, tokens
from api.app import create_app
from api.auth import SCOPES
from api.database import Databases, DatabaseUnusable, database, migrate, migrated_database
from api.demo import demo_id
from api.demo import load as load_demo
from api.embedded import EmbeddedError
from api.importing import FileUnusable
from api.keys import KeysUnreadable
from api.metrics import MULTIPROCESS
from api.progress import Progress
from api.service import connected, process_name
from api.settings import Settings, masked
from domain.errors import DomainError
from domain.event_store import PostgresLog
from domain.roster import Roster
from migrations import commands as migrations
from projections import skips
from projections.projector import EventFails
from projections.rebuild import Rebuild
from projections.rebuild_record import RebuildState
from projections.runner import Runner
from projections.status import projection_status
from projections.switch import SwitchImpossible
from projections.verify_log import LogAltered, LogHead, verify_log
from projections.verify_tables import verify_tables

cli = typer.Typer(
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


_Version = typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version.")


@cli.callback()
def options(*, _: Annotated[bool, _Version] = False) -> None:
    """Read the options before the command."""


out, err = Console(highlight=False, soft_wrap=True), Console(stderr=True, highlight=False, soft_wrap=True)
logger = logging.getLogger("rosterlog")


def main() -> None:
    """Run the command line; what an operator can mend is one clear message and exit status 1."""
    logs.configure()
    # As an exception, so that the embedded server is stopped on the way out; with the status of a work that was not finished.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        cli()
    except ValidationError as wrong:
        for error in wrong.errors():
            err.print(f"ROSTERLOG_{str(error['loc'][0]).upper()}: {error['msg'].removeprefix('Value error, ')}")
        sys.exit(1)
    except (
        EmbeddedError, DatabaseUnusable, KeysUnreadable, FileUnusable, DomainError, LogAltered, EventFails, SwitchImpossible,
        psycopg.Error, CommandError,
    ) as wrong:  # fmt: skip
        err.print(f"rosterlog: {wrong}", markup=False)
        sys.exit(1)
    except DBAPIError as wrong:
        err.print(f"rosterlog: {wrong.orig}", markup=False)
        sys.exit(1)


@cli.command()
def serve() -> None:
    """Serve the API, project events, and bring the database up to date first."""
    settings = Settings()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with database(settings, create=True) as conninfo:
        migrate(conninfo)
        logger.info("serving on http://%s:%s (API: /docs), database %s", settings.host, settings.port, masked(conninfo))
        if settings.workers == 1:
            server.run(create_app(lambda: conninfo, settings), settings.host, settings.port)
            return
        with tempfile.TemporaryDirectory(prefix="rosterlog-metrics-") as shared:
            # The workers are new processes and read their settings from the environment.
            os.environ |= {"ROSTERLOG_DATABASE_URL": conninfo, MULTIPROCESS: shared}
            server.run("api.worker:app", settings.host, settings.port, settings.workers)


@cli.command()
def project(
    skip: Annotated[int | None, typer.Option(help="Leave out the event at this position, at which the projection stands still.")] = None,
    unskip: Annotated[int | None, typer.Option(help="Take that back for this position; a rebuild then projects the event.")] = None,
    reason: Annotated[str | None, typer.Option(help="Why it is skipped; kept, and shown wherever the event is.")] = None,
    actor: Annotated[str | None, typer.Option(help="Who decides that; without it the name of your account.")] = None,
) -> None:
    """Project events into the read tables, without serving; stands by while another process projects."""
    if skip is not None or unskip is not None:
        _skip_or_unskip(skip, unskip, reason, actor or getpass.getuser())
        return
    settings = Settings()
    with database(settings, create=True) as conninfo:
        migrate(conninfo)
        runner = Runner(Databases.of(conninfo, settings).project, process_name("project"))
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: runner.stop())
        runner.run()


def _skip_or_unskip(skip: int | None, unskip: int | None, reason: str | None, actor: str) -> None:
    if skip is not None and (unskip is not None or reason is None):
        raise typer.BadParameter("--skip needs --reason, and goes without --unskip")
    with migrated_database(Settings()) as conninfo, connected(conninfo) as connection:
        if skip is not None:
            skipped = skips.skip(connection, skip, reason=reason or "", actor=actor)
            out.print(f"position {skip} ({skipped.topic}) is skipped; projecting goes on after it", markup=False)
        elif unskip is not None:
            skips.take_back(connection, unskip, actor=actor)
            out.print(f"position {unskip} is not skipped any more; rosterlog rebuild projects it", markup=False)


@cli.command("migrate")
def migrate_command(
    to: Annotated[str | None, typer.Option(help="The revision to go to, such as 0005_create_classes; without it the newest.")] = None,
    down: Annotated[bool, typer.Option("--down", help="Go down to that revision; base: nothing is left.")] = False,  # noqa: FBT002
    sql: Annotated[bool, typer.Option("--sql", help="Print the SQL for review instead; needs no database.")] = False,  # noqa: FBT002
) -> None:
    """Bring the database to the newest migration, or to another one."""
    if down and to is None:
        raise typer.BadParameter("--down needs --to: the revision to go down to, or base")
    revision = to or "head"
    if sql:
        out.print(migrations.render(f"head:{revision}" if down else f"base:{revision}", down=down), markup=False)
        return
    with database(Settings(), create=True) as conninfo:
        (migrations.downgrade if down else migrations.upgrade)(conninfo, revision)
        out.print(f"the database is at {migrations.current(conninfo) or 'no migration'}")


@cli.command("roles")
def roles_command(
    apply: Annotated[bool, typer.Option("--apply", help="Run the SQL on the database, as a superuser, instead of printing it.")] = False,  # noqa: FBT002
) -> None:
    """Print the SQL that makes the least-privilege database accounts: migrator, writer, projector and reader."""
    if not apply:
        out.print(roles.script(), markup=False, end="")
        return
    with migrated_database(Settings()) as conninfo, connected(conninfo) as connection, connection.transaction():
        for statement in roles.statements():
            connection.execute(statement.encode())
    out.print(f"made, with their rights: {', '.join(roles.ROLES)}")


@cli.command()
def token(
    subject: Annotated[str, typer.Option(help="Whom the token speaks for; the actor of the commands.")],
    key: Annotated[Path, typer.Option(help="The private key, as PEM: RSA, EC or Ed25519.")],
    scope: Annotated[list[str], typer.Option(help=f"What it allows, once for each scope: {', '.join(SCOPES)}.")],
    group: Annotated[list[UUID] | None, typer.Option(help="A group that it is confined to, by id, once for each; without it all.")] = None,
    minutes: Annotated[int, typer.Option(min=1, help="How long it counts.")] = 60,
    make_key: Annotated[bool, typer.Option("--make-key", help="Make the key first; an existing file is an error.")] = False,  # noqa: FBT002
) -> None:
    """Print a token signed with a local key, for trying and for scripts."""
    settings = Settings()
    if settings.auth_keys is None:
        raise typer.BadParameter("set ROSTERLOG_AUTH_KEYS, ROSTERLOG_AUTH_ISSUER and ROSTERLOG_AUTH_AUDIENCE as for the service")
    if unknown := set(scope) - set(SCOPES):
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: the scopes are {', '.join(SCOPES)}")
    if make_key:
        keys.make(key)
    groups = frozenset(group) if group else None
    out.print(tokens.make(settings, key, subject, scope, timedelta(minutes=minutes), groups), markup=False)


@cli.command()
def rebuild() -> None:
    """Derive the read tables anew from the log, while others read and write."""
    settings = Settings()
    with migrated_database(settings) as conninfo, Progress("rebuild", err) as progress:

        def show(state: RebuildState) -> None:
            progress.show(state.done, state.total)
            if state.done >= state.total:
                progress.say("making memberships and keys, then comparing and switching")

        ended = Rebuild(Databases.of(conninfo, settings).project).run(show)
    differing = f"; rows that differed before: {ended.differing}" if ended.differing is not None else ""
    out.print(f"rebuild {ended.state}: {ended.done} events{differing}")
    if ended.state != "done":
        raise typer.Exit(1)


@cli.command()
def verify(
    log: Annotated[bool, typer.Option("--log", help="Only the log: its hash chain, from the first event on.")] = False,  # noqa: FBT002
    tables: Annotated[bool, typer.Option("--tables", help="Only the read tables: against the log.")] = False,  # noqa: FBT002
    against: Annotated[
        str | None, typer.Option(help="A head that was kept, as position:hex; prove that the log goes on from there. Implies --log.")
    ] = None,
) -> None:
    """Prove that the log is as it was written, and that the read tables say what it says. Exit status 1 where not."""
    kept = _head(against)
    log = log or kept is not None
    both = log == tables
    settings = Settings()
    with migrated_database(settings) as conninfo:
        if log or both:
            with connected(conninfo) as connection, Progress("log", err) as progress:
                head = verify_log(connection, progress.show, kept)
            continues = f" and continues {kept.position}" if kept else ""
            out.print(f"the log is as it was written{continues}; its head: {head}")
        if (tables or both) and _print_differences(Databases.of(conninfo, settings).project):
            raise typer.Exit(1)


def _head(written: str | None) -> LogHead | None:
    try:
        return None if written is None else LogHead.read(written)
    except ValueError:
        raise typer.BadParameter(
            f"{written} is no head of a log: it is printed as position:hex, with 64 digits", param_hint="--against"
        ) from None


def _print_differences(conninfo: str) -> bool:
    with Progress("tables", err) as progress:
        differences = list(verify_tables(conninfo, progress.show))
    with connected(conninfo) as connection:
        for skip in skips.active(connection):
            out.print(_described(skip), markup=False)
    for row in differences:
        out.print(f"{row.table}: found {row.found or 'no row'}, expected {row.expected or 'no row'}", markup=False)
    out.print(
        f"rows that differ: {len(differences)}; rosterlog rebuild mends them" if differences else "the read tables say what the log says"
    )
    return bool(differences)


@cli.command()
def status(as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False) -> None:  # noqa: FBT002
    """Say where the log, the read tables and the migrations stand."""
    with database(Settings()) as conninfo:
        report = _status(conninfo)
    if as_json:
        out.print_json(json.dumps(report, default=str))
        return
    projector = report["projector"] or {}
    skipped = projector.pop("skips", [])
    for name, value in report.items():
        shown = ", ".join(f"{key} {part}" for key, part in value.items() if part is not None) if isinstance(value, dict) else value
        out.print(f"{name + ':':15}{shown}", markup=False)
    for skip in skipped:
        out.print(_described(skips.Skip(**skip)), markup=False)


def _described(skip: skips.Skip) -> str:
    return f"skipped: position {skip.position} ({skip.topic}), by {skip.actor} at {skip.skipped_at:%Y-%m-%d %H:%M:%S%z}: {skip.reason}"


def _status(conninfo: str) -> dict[str, Any]:
    at, newest = migrations.current(conninfo), migrations.newest()
    report: dict[str, Any] = {"database_url": masked(conninfo), "head_position": None, "checkpoint": None, "lag": None, "projector": None}
    if at == newest:
        with connected(conninfo) as connection:
            projection = asdict(projection_status(connection))
        report |= {"head_position": projection.pop("head"), "checkpoint": projection.pop("checkpoint"), "lag": projection.pop("lag")}
        projection["last_error"] = projection.pop("failure")
        report["projector"] = projection
    return report | {"migrations": {"at": at, "newest": newest}}


@cli.command()
def demo() -> None:
    """Load a semester of a made-up district into an empty service (examples/district.ndjson)."""
    with database(Settings(), create=True) as conninfo:
        migrate(conninfo)
        log = PostgresLog(conninfo)
        try:
            with Progress("demo", err, unit="commands") as progress:
                position = load_demo(Roster(log), progress.show)
        finally:
            log.close()
    out.print(f"the district is loaded up to position {position}; a class to look at: /v1/classes/{demo_id('math-7b')}/history")


cli.command("register")(cli_import.register)
cli.command("enrol")(cli_import.enrol)
cli.command("roster")(cli_import.set_roster)


@cli.command()
def openapi() -> None:
    """Print the OpenAPI document."""
    out.print_json(json.dumps(create_app(lambda: "").openapi()))
