"""The switch: shadow tables take the place of the live ones, in one short transaction that no reader notices."""

from typing import Any

from psycopg import Connection

from rosterlog.projections.rebuild.shadow import TABLES
from rosterlog.projections.tables import SCHEMA, SHADOW, Table

_LIVE = ", ".join(f"{SCHEMA}.{name}" for name in TABLES)
_OURS = {str(index.name) for table in Table.metadata.sorted_tables for index in table.indexes}

# What somebody else made on the live tables, which the switch would drop or fail at: views, foreign
# keys, triggers, policies and so on. An index of a constraint depends on the constraint, not on the
# table, so it is not among these.
_ATTACHED = f"""
    WITH live AS (SELECT unnest(%(live)s::regclass[]) AS oid)
    SELECT DISTINCT pg_describe_object(classid, objid, 0) FROM pg_depend
    WHERE refclassid = 'pg_class'::regclass AND refobjid IN (SELECT oid FROM live) AND deptype IN ('n', 'a') AND CASE classid
        WHEN 'pg_attrdef'::regclass THEN false
        WHEN 'pg_constraint'::regclass
            THEN NOT EXISTS (SELECT FROM pg_constraint WHERE oid = objid AND conrelid IN (SELECT live.oid FROM live))
        WHEN 'pg_trigger'::regclass THEN NOT EXISTS (SELECT FROM pg_trigger WHERE oid = objid AND tgisinternal)
        WHEN 'pg_class'::regclass THEN NOT EXISTS (
            SELECT FROM pg_class WHERE oid = objid AND relnamespace = '{SCHEMA}'::regnamespace AND relname = ANY(%(ours)s)
        )
        ELSE true
    END ORDER BY 1
"""

# The privileges on the live tables and their columns, as statements that give the same on the
# shadow tables.
_PRIVILEGES = f"""
    SELECT format('GRANT %s%s ON {SHADOW}.%I TO %s%s', privilege_type, columns, relname,
                  CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END,
                  CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
    FROM (
        SELECT relname, relowner, relacl AS acl, '' AS columns FROM pg_class
        WHERE relnamespace = '{SCHEMA}'::regnamespace AND relkind = 'r'
        UNION ALL
        SELECT relname, relowner, attacl, format('(%I)', attname) FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
        WHERE relnamespace = '{SCHEMA}'::regnamespace AND relkind = 'r' AND attacl IS NOT NULL
    ) AS granted CROSS JOIN LATERAL aclexplode(acl) WHERE grantee <> relowner
"""

_NOW = "SELECT pg_current_xact_id()::text::bigint"
# A transaction that goes on with a snapshot from before the load's end would find the new tables
# half empty. Every account may see how old the snapshots of all others are, but not which kind of
# process has them. One that acts for no account (an autovacuum) reads nothing of ours.
_OLDER_SNAPSHOT = """
    SELECT pid, application_name FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND usesysid IS NOT NULL
      AND age(backend_xmin) > age(%s::text::xid) ORDER BY age(backend_xmin) DESC LIMIT 1
"""


class SwitchImpossible(Exception):
    """The shadow tables can't take the place of the live ones; the message says why and what helps."""


class ReaderInTheWay(SwitchImpossible):
    """A transaction that is older than the new tables is still open; it would find them half empty."""


def refuse_impossible(connection: Connection[Any]) -> None:
    """Refuse, before any work is done, what the switch could not do. Raises `SwitchImpossible`."""
    live = [f"{SCHEMA}.{name}" for name in TABLES]
    attached = [
        row[0] for row in connection.execute(_ATTACHED, {"live": live, "ours": sorted(_OURS)})
    ]
    if attached:
        raise SwitchImpossible(
            f"a rebuild replaces the read tables, and with them would go: {'; '.join(attached)}. Drop it, and make it again afterwards"
        )


def moment(connection: Connection[Any]) -> int:
    """Return a transaction id: a snapshot that is not older sees everything that is committed by now."""
    row = connection.execute(_NOW).fetchone()
    assert row is not None
    return int(row[0]) % 2**32


def refuse_older_snapshots(connection: Connection[Any], than: int) -> None:
    """Refuse to switch while a transaction has a snapshot from before the moment.

    Raises `ReaderInTheWay`.
    """
    found = connection.execute(_OLDER_SNAPSHOT, [than]).fetchone()
    if found:
        raise ReaderInTheWay(
            f"the transaction of process {found[0]} ({found[1]}) is older than the new tables: end it, then rebuild again"
        )


def lock_live(connection: Connection[Any]) -> None:
    """Keep everyone from the live tables for the rest of the transaction.

    Raises `psycopg.errors.LockNotAvailable` where others hold them for long. The wait is far
    shorter than PostgreSQL's deadlock detection, so it is always the switch that gives way, never a
    reader. The checkpoint comes first, as it does for the projector.
    """
    # Nobody but maintenance minds this lock; waiting for it longer than the deadlock detection
    # makes an autovacuum give way.
    connection.execute("SET LOCAL lock_timeout = '3s'")
    connection.execute(f"LOCK TABLE {_LIVE} IN SHARE UPDATE EXCLUSIVE MODE")
    connection.execute("SET LOCAL lock_timeout = '200ms'")
    connection.execute(f"LOCK TABLE {SCHEMA}.checkpoint, {_LIVE} IN ACCESS EXCLUSIVE MODE")


def switch(connection: Connection[Any]) -> None:
    """Put the shadow tables in the place of the live ones, with the same privileges; `lock_live` comes first."""
    for (grant,) in connection.execute(_PRIVILEGES).fetchall():
        connection.execute(grant)
    connection.execute(f"DROP TABLE {_LIVE}")
    for name in TABLES:
        connection.execute(f"ALTER TABLE {SHADOW}.{name} SET SCHEMA {SCHEMA}")
