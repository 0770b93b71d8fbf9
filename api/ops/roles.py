"""The database accounts that a careful operator gives the service.

Each may do its own work and nothing else.

The migrator owns everything but the read tables, the projector owns these, the writer appends to
the log and reads it, the reader reads. The statements may run again and again; after a migration
they must, because new tables belong to whoever made them.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import Connection

MIGRATOR, WRITER, PROJECTOR, READER = KINDS = ("migrator", "writer", "projector", "reader")
"""What the accounts are for.

Their names begin with a prefix, because accounts belong to the server, not to a database.
"""

PREFIX = "rosterlog"
"""What the names begin with, unless the operator says otherwise."""
PREFIXES = re.compile("[a-z][a-z0-9_]{0,49}")
"""Prefixes that need no quotes, and leave room for the rest in the 63 bytes of a name."""


@dataclass(frozen=True)
class Rights:
    """Who owns a table, and what others may do with it."""

    owner: str
    others: Mapping[str, str] = field(default_factory=dict)


_READ_TABLE = Rights(PROJECTOR, {READER: "SELECT"})
_LOG = Rights(MIGRATOR, {WRITER: "SELECT, INSERT", PROJECTOR: "SELECT", READER: "SELECT"})
TABLES = {
    "public.alembic_version": Rights(
        MIGRATOR, dict.fromkeys((WRITER, PROJECTOR, READER), "SELECT")
    ),
    "log.events": _LOG,
    "log.endings": _LOG,
    "log.idempotency_keys": Rights(MIGRATOR, {WRITER: "SELECT, INSERT, UPDATE, DELETE"}),
    "log.skips": Rights(MIGRATOR, {PROJECTOR: "SELECT, INSERT, UPDATE", READER: "SELECT"}),
    "roster.groups": _READ_TABLE,
    "roster.users": _READ_TABLE,
    "roster.classes": _READ_TABLE,
    "roster.class_members": _READ_TABLE,
    "roster.checkpoint": _READ_TABLE,
    "projections.rebuilds": _READ_TABLE,
}
"""Every table there is; a test holds this against the database."""

_SCHEMAS = {
    "log": Rights(MIGRATOR, dict.fromkeys((WRITER, PROJECTOR, READER), "USAGE")),
    "roster": Rights(PROJECTOR, {READER: "USAGE"}),
    "roster_shadow": Rights(PROJECTOR),
    "projections": Rights(PROJECTOR, {READER: "USAGE"}),
}

# An account that is no superuser may hand a table over only to an account that it could act as.
_MAKE = """
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN
        CREATE ROLE {role} LOGIN;
    END IF;
END
$$"""
_ACT_AS = """
DO $$
BEGIN
    IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
        AND NOT pg_has_role('{role}', 'USAGE') THEN
        GRANT {role} TO CURRENT_USER;
    END IF;
END
$$"""
_DATABASE = """
DO $$
BEGIN
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO {roles}', current_database());
    EXECUTE format('GRANT CREATE ON DATABASE %I TO {migrator}', current_database());
END
$$"""

# The statements that a superuser has to run first, where the account that applies the rights is no
# superuser. From PostgreSQL 16 on, an account that may make accounts has no power over the accounts
# of others.
_LACKING = """
    WITH me AS (SELECT rolname, rolsuper, rolcreaterole FROM pg_roles WHERE rolname = current_user),
    account AS (
        SELECT name, pg_roles.oid
        FROM unnest(%(names)s::text[]) AS name LEFT JOIN pg_roles ON rolname = name
    )
    SELECT format('ALTER DATABASE %%I OWNER TO %%I', datname, rolname) FROM pg_database, me
    WHERE datname = current_database() AND NOT pg_has_role(datdba, 'USAGE')
    UNION ALL
    SELECT format('ALTER ROLE %%I CREATEROLE', rolname) FROM me
    WHERE NOT rolcreaterole AND EXISTS (SELECT FROM account WHERE oid IS NULL) AND NOT rolsuper
    UNION ALL
    SELECT format('GRANT %%I TO %%I WITH ADMIN OPTION', name, rolname) FROM account, me
    WHERE oid IS NOT NULL AND NOT rolsuper AND NOT pg_has_role(oid, 'USAGE WITH ADMIN OPTION')
      AND NOT (rolcreaterole AND current_setting('server_version_num')::int < 160000)
"""


class RolesNotPermitted(Exception):
    """The account may not make the accounts; the message says what a superuser has to run first."""


def names(prefix: str = PREFIX) -> list[str]:
    """Return the names of the accounts, in the order of `KINDS`."""
    return [f"{prefix}_{kind}" for kind in KINDS]


def statements(prefix: str = PREFIX) -> Iterator[str]:
    """Yield the SQL for a migrated database, for its owner or a superuser.

    Accounts that exist keep their passwords; new ones have none.
    """
    role = dict(zip(KINDS, names(prefix), strict=True))
    for name in role.values():
        yield _MAKE.format(role=name).strip()
    # A migration changes read tables, too.
    yield f"GRANT {role[PROJECTOR]} TO {role[MIGRATOR]}"
    for kind in (MIGRATOR, PROJECTOR):
        yield _ACT_AS.format(role=role[kind]).strip()
    yield _DATABASE.format(roles=", ".join(role.values()), migrator=role[MIGRATOR]).strip()
    yield f"GRANT USAGE, CREATE ON SCHEMA public TO {role[MIGRATOR]}"
    yield f"ALTER TYPE public.class_role OWNER TO {role[MIGRATOR]}"
    yield f"ALTER FUNCTION public.membership_id(uuid, uuid) OWNER TO {role[MIGRATOR]}"
    for kind, things in (("SCHEMA", _SCHEMAS), ("TABLE", TABLES)):
        for name, rights in things.items():
            others = ", ".join(account for other, account in role.items() if other != rights.owner)
            yield f"ALTER {kind} {name} OWNER TO {role[rights.owner]}"
            yield f"REVOKE ALL ON {kind} {name} FROM PUBLIC, {others}"
            for other, allowed in rights.others.items():
                yield f"GRANT {allowed} ON {kind} {name} TO {role[other]}"
    # After its schema, in which the new owner has to be allowed to create.
    for function in ("refuse_change", "append_format", "refuse_other_formats"):
        yield f"ALTER FUNCTION log.{function}() OWNER TO {role[MIGRATOR]}"


def script(prefix: str = PREFIX) -> str:
    """Return all statements as one transaction, to be read or piped into psql."""
    return (
        "\n\n".join(f"{statement};" for statement in ("BEGIN", *statements(prefix), "COMMIT"))
        + "\n"
    )


def apply(connection: Connection[Any], prefix: str = PREFIX) -> None:
    """Run all statements, or none. Raises `RolesNotPermitted`."""
    lacking = [
        f"{statement};" for (statement,) in connection.execute(_LACKING, {"names": names(prefix)})
    ]
    if lacking:
        raise RolesNotPermitted(
            "this account may not make the accounts. A superuser has to run this first:\n"
            + "\n".join(lacking)
        )
    try:
        with connection.transaction():
            for statement in statements(prefix):
                connection.execute(statement.encode())
    except psycopg.errors.InsufficientPrivilege as wrong:
        raise RolesNotPermitted(
            f"this account may not make the accounts ({str(wrong).partition(chr(10))[0]}): "
            f"have a superuser run what rosterlog roles --prefix {prefix} prints"
        ) from wrong
