"""The database accounts that a careful operator gives the service: each may do its own work and nothing else.

The migrator owns everything but the read tables, the projector owns these, the writer appends to the log and reads it, the reader reads.
The statements may run again and again; after a migration they must, because new tables belong to whoever made them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

MIGRATOR, WRITER, PROJECTOR, READER = ROLES = ("rosterlog_migrator", "rosterlog_writer", "rosterlog_projector", "rosterlog_reader")


@dataclass(frozen=True)
class Rights:
    """Who owns a table, and what others may do with it."""

    owner: str
    others: Mapping[str, str] = field(default_factory=dict)


_READ_TABLE = Rights(PROJECTOR, {READER: "SELECT"})
_LOG = Rights(MIGRATOR, {WRITER: "SELECT, INSERT", PROJECTOR: "SELECT", READER: "SELECT"})
TABLES = {
    "public.alembic_version": Rights(MIGRATOR, dict.fromkeys((WRITER, PROJECTOR, READER), "SELECT")),
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

_MAKE = """
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN
        CREATE ROLE {role} LOGIN;
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


def statements() -> Iterator[str]:
    """Yield the SQL for a migrated database, for a superuser to run. Accounts that exist keep their passwords; new ones have none."""
    for role in ROLES:
        yield _MAKE.format(role=role).strip()
    yield _DATABASE.format(roles=", ".join(ROLES), migrator=MIGRATOR).strip()
    # A migration changes read tables, too.
    yield f"GRANT {PROJECTOR} TO {MIGRATOR}"
    # A rebuild waits for old transactions, whoever runs them.
    yield f"GRANT pg_read_all_stats TO {PROJECTOR}"
    yield f"GRANT USAGE, CREATE ON SCHEMA public TO {MIGRATOR}"
    yield f"ALTER TYPE public.class_role OWNER TO {MIGRATOR}"
    yield f"ALTER FUNCTION public.membership_id(uuid, uuid) OWNER TO {MIGRATOR}"
    for function in ("refuse_change", "append_format", "refuse_other_formats"):
        yield f"ALTER FUNCTION log.{function}() OWNER TO {MIGRATOR}"
    for kind, things in (("SCHEMA", _SCHEMAS), ("TABLE", TABLES)):
        for name, rights in things.items():
            yield f"ALTER {kind} {name} OWNER TO {rights.owner}"
            yield f"REVOKE ALL ON {kind} {name} FROM PUBLIC, {', '.join(role for role in ROLES if role != rights.owner)}"
            for role, allowed in rights.others.items():
                yield f"GRANT {allowed} ON {kind} {name} TO {role}"


def script() -> str:
    """Return all statements as one transaction, to be read or piped into psql."""
    return "\n\n".join(f"{statement};" for statement in ("BEGIN", *statements(), "COMMIT")) + "\n"
