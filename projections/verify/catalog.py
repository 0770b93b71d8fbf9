"""Whether a database is as the migrations make it: what could make it answer, or keep, something else than what was recorded.

`catalog.json` says what a database has that was migrated and nothing else; a test makes it anew and
compares. What cannot change an answer is not compared: privileges to read, further indexes that are
plain, storage, statistics, comments, and objects of extensions.
"""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from psycopg import Connection

Catalog = dict[str, dict[str, str]]
"""For each kind of object, what is said of each: its definition, as PostgreSQL writes it."""

EXPECTED = Path(__file__).with_name("catalog.json")

_OUR_SCHEMAS = "('log', 'roster', 'projections')"
_OURS = f"(nspname IN {_OUR_SCHEMAS} OR nspname = 'public' AND relname = 'alembic_version')"
_RELATION = "nspname || '.' || relname"
_RELATIONS = "pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace"

# Types that occur in our SQL: those of PostgreSQL and our own.
_OUR_TYPE = """
    SELECT pg_type.oid FROM pg_type JOIN pg_namespace ON pg_namespace.oid = typnamespace
    WHERE nspname IN ('pg_catalog', 'log', 'roster', 'projections') OR nspname = 'public' AND typname = 'class_role'
"""
# Where a name without a schema is looked up by us (`rosterlog.domain.log.sessions`), and by whoever
# asks with psql and sets nothing.
_SEARCHED = f"SELECT oid FROM pg_namespace WHERE nspname IN ('pg_catalog', 'public') OR nspname IN {_OUR_SCHEMAS}"
_MADE_HERE = "oid >= 16384 AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = '{catalog}'::regclass AND objid = {catalog}.oid AND deptype = 'e')"


def _shadowing(catalog: str, name: str, schema: str, said: str, types: str) -> str:
    """Return the SELECT of objects, made here and of no extension, that are called as one of PostgreSQL's own is."""
    made_here = _MADE_HERE.format(catalog=catalog).replace("oid >=", f"{catalog}.oid >=")
    return f"""
        SELECT pg_describe_object('{catalog}'::regclass, {catalog}.oid, 0), {said} FROM {catalog}
        WHERE {schema} IN ({_SEARCHED}) AND {made_here} AND {types}
          AND {name} IN (SELECT {name} FROM {catalog} WHERE {schema} = 'pg_catalog'::regnamespace AND oid < 16384)
    """


_STATEMENTS = {
    "relation": f"""
        SELECT {_RELATION}, concat_ws(', ',
            CASE relkind WHEN 'r' THEN 'table' WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'f' THEN 'foreign table'
                WHEN 'p' THEN 'partitioned table' ELSE 'kind ' || relkind::text END,
            CASE relpersistence WHEN 'p' THEN 'logged' ELSE 'not logged' END, 'kept as ' || coalesce(amname, 'nothing'),
            CASE WHEN relrowsecurity OR relforcerowsecurity THEN 'with row security' END,
            CASE WHEN relispartition THEN 'a partition' END)
        FROM {_RELATIONS} LEFT JOIN pg_am ON pg_am.oid = relam WHERE {_OURS} AND relkind NOT IN ('i', 'I', 't', 'c')
    """,
    "column": f"""
        SELECT {_RELATION} || '.' || attname, concat_ws(' ', format_type(atttypid, atttypmod),
            'COLLATE ' || (SELECT quote_ident(collnamespace::regnamespace::text) || '.' || quote_ident(collname)
                           FROM pg_collation WHERE pg_collation.oid = attcollation),
            CASE WHEN attnotnull THEN 'NOT NULL' END, 'GENERATED ' || nullif(attgenerated::text, ''),
            'IDENTITY ' || nullif(attidentity::text, ''),
            'DEFAULT ' || pg_get_expr(adbin, adrelid))
        FROM {_RELATIONS} JOIN pg_attribute ON attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped
        LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum WHERE {_OURS} AND relkind NOT IN ('i', 'I', 't', 'c')
    """,
    "constraint": f"""
        SELECT {_RELATION} || ' ' || conname,
               pg_get_constraintdef(pg_constraint.oid) || CASE WHEN convalidated THEN '' ELSE ', not valid' END
        FROM {_RELATIONS} JOIN pg_constraint ON conrelid = pg_class.oid WHERE {_OURS} AND contype NOT IN ('n', 't')
    """,
    "index": f"""
        SELECT {_RELATION}, pg_get_indexdef(pg_class.oid)
            || CASE WHEN indisvalid AND indisready AND indislive THEN '' ELSE ', not in use' END
        FROM {_RELATIONS} JOIN pg_index ON indexrelid = pg_class.oid WHERE {_OURS} OR indrelid = to_regclass('public.alembic_version')
    """,
    "trigger": f"""
        SELECT {_RELATION} || ' ' || tgname, pg_get_triggerdef(pg_trigger.oid) || ', enabled: ' || tgenabled::text
        FROM {_RELATIONS} JOIN pg_trigger ON tgrelid = pg_class.oid WHERE {_OURS} AND NOT tgisinternal
    """,
    "triggers of foreign keys": f"""
        SELECT {_RELATION}, 'enabled: ' || string_agg(DISTINCT tgenabled::text, ' ')
        FROM {_RELATIONS} JOIN pg_trigger ON tgrelid = pg_class.oid WHERE {_OURS} AND tgisinternal GROUP BY 1
    """,
    "rule": f"""
        SELECT {_RELATION} || ' ' || rulename, pg_get_ruledef(pg_rewrite.oid)
        FROM {_RELATIONS} JOIN pg_rewrite ON ev_class = pg_class.oid WHERE {_OURS} AND relkind <> 'v'
    """,
    "policy": f"SELECT {_RELATION} || ' ' || polname, 'a policy' FROM {_RELATIONS} JOIN pg_policy ON polrelid = pg_class.oid WHERE {_OURS}",
    "inheritance": f"""
        SELECT {_RELATION}, 'in inheritance with ' || inhrelid::regclass || ' and ' || inhparent::regclass
        FROM {_RELATIONS} JOIN pg_inherits ON pg_class.oid IN (inhrelid, inhparent) WHERE {_OURS} AND relkind NOT IN ('i', 'I')
    """,
    "function": f"""
        SELECT nspname || '.' || proname || '(' || pg_get_function_identity_arguments(pg_proc.oid) || ')',
               CASE prokind WHEN 'a' THEN 'an aggregate' ELSE pg_get_functiondef(pg_proc.oid) END
        FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pronamespace
        WHERE nspname IN {_OUR_SCHEMAS} OR nspname = 'public' AND proname = 'membership_id'
    """,
    "type": f"""
        SELECT nspname || '.' || typname,
               concat_ws(' ', typtype::text,
                   (SELECT string_agg(enumlabel, ', ' ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = pg_type.oid))
        FROM pg_type JOIN pg_namespace ON pg_namespace.oid = typnamespace
        WHERE (nspname IN {_OUR_SCHEMAS} OR nspname = 'public' AND typname = 'class_role') AND typcategory <> 'A' AND typtype <> 'c'
    """,
    "object called as one of PostgreSQL's": " UNION ALL ".join(
        (
            _shadowing(
                "pg_proc",
                "proname",
                "pronamespace",
                "'a function'",
                f"prokind <> 'p' AND NOT EXISTS (SELECT FROM unnest(proargtypes) AS taken WHERE taken NOT IN ({_OUR_TYPE}))",
            ),
            _shadowing(
                "pg_operator",
                "oprname",
                "oprnamespace",
                "'an operator'",
                f"NOT EXISTS (SELECT FROM unnest(ARRAY[oprleft, oprright]) AS taken WHERE taken NOT IN (SELECT 0 UNION {_OUR_TYPE}))",
            ),
            _shadowing("pg_type", "typname", "typnamespace", "'a type'", "true"),
            _shadowing("pg_collation", "collname", "collnamespace", "'a collation'", "true"),
        )
    ),
    "cast": f"""
        SELECT format_type(castsource, NULL) || ' to ' || format_type(casttarget, NULL), 'a cast of your own'
        FROM pg_cast WHERE {_MADE_HERE.format(catalog="pg_cast")} AND castsource IN ({_OUR_TYPE}) AND casttarget IN ({_OUR_TYPE})
    """,
    "setting": """
        SELECT coalesce(setrole::regrole::text, 'all') || ' ' || setting, 'foreign keys and triggers do nothing'
        FROM pg_db_role_setting CROSS JOIN unnest(setconfig) AS setting
        WHERE setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
          AND setting LIKE 'session\\_replication\\_role=%' AND setting NOT LIKE '%=origin'
    """,
    "privilege to change the log": """
        SELECT relname || ' ' || coalesce(nullif(grantee, 0)::regrole::text, 'PUBLIC') || ' ' || privilege_type, 'granted'
        FROM (
            SELECT oid AS relation, relowner, relname, relacl AS acl FROM pg_class
            UNION ALL SELECT attrelid, relowner, relname, attacl FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
        ) AS granted CROSS JOIN LATERAL aclexplode(acl)
        WHERE relation IN (to_regclass('log.events'), to_regclass('log.endings')) AND grantee <> relowner
          AND privilege_type IN ('UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER')
    """,
    # The log, and what its refusals and ids rest on, belong to the owner of its schema. A superuser
    # may do everything anyway.
    "owner": """
        SELECT described, owner::regrole::text || ', not ' || nspowner::regrole::text FROM (
            SELECT 'log.' || relname AS described, relowner AS owner FROM pg_class
            WHERE relnamespace = to_regnamespace('log') AND relkind NOT IN ('i', 'I', 't', 'c')
            UNION ALL SELECT proname || '()', proowner FROM pg_proc
            WHERE pronamespace = to_regnamespace('log') OR oid = to_regprocedure('public.membership_id(uuid, uuid)')
            UNION ALL SELECT 'class_role', typowner FROM pg_type WHERE oid = to_regtype('public.class_role')
        ) AS owned CROSS JOIN pg_namespace
        WHERE nspname = 'log' AND owner <> nspowner AND NOT (SELECT rolsuper FROM pg_roles WHERE oid = owner)
    """,
}
"""Each gives names and definitions.

What the migrations make has nothing of the kinds from `rule` on but functions and types.
"""

_EVENT_TRIGGERS = f"""
    SELECT 'the event trigger ' || evtname || ' runs ' || evtfoid::regprocedure || ' at ' || evtevent || '; see what it does'
    FROM pg_event_trigger WHERE evtenabled <> 'D' AND {_MADE_HERE.format(catalog="pg_event_trigger")} ORDER BY evtname
"""

# A further index answers as the table does where all that it is made of is PostgreSQL's own. A
# unique one would refuse what we append.
_PLAIN_INDEXES = f"""
    SELECT {_RELATION} FROM {_RELATIONS} JOIN pg_index ON indexrelid = pg_class.oid
    WHERE {_OURS} AND NOT indisunique AND NOT indisexclusion AND indexprs IS NULL AND indpred IS NULL
      AND NOT EXISTS (
          SELECT FROM unnest(indclass) AS class JOIN pg_opclass ON pg_opclass.oid = class
          WHERE opcnamespace <> 'pg_catalog'::regnamespace
      )
      AND (SELECT amhandler::oid < 16384 FROM pg_am WHERE pg_am.oid = relam)
"""
_REVISION = "SELECT version_num FROM public.alembic_version"


class CatalogAltered(Exception):
    """The database is not as the migrations make it, so that nothing it answers is proven."""

    def __init__(self, differences: list[str]) -> None:
        """Name every difference, each in a line of its own."""
        super().__init__("\n".join([f"{self.__doc__} What differs:", *differences]))
        self.differences = differences


def read(connection: Connection[Any]) -> Catalog:
    """Return what there is; `connection` is a session of ours, in which everything is written with its schema."""
    return {
        kind: dict(connection.execute(statement).fetchall())
        for kind, statement in _STATEMENTS.items()
    }


def refuse_altered(connection: Connection[Any]) -> None:
    """Compare the database with what the migrations make. Raises `CatalogAltered`."""
    differences = list(_differences(connection))
    if differences:
        raise CatalogAltered(differences)


def remarks(connection: Connection[Any]) -> list[str]:
    """Return what an operator should look at, and what may be right."""
    return [row[0] for row in connection.execute(_EVENT_TRIGGERS)]


@cache
def expected() -> Catalog:
    """Return what a database has that was migrated by this release."""
    catalog: Catalog = json.loads(EXPECTED.read_text(encoding="utf-8"))
    return catalog


def _differences(connection: Connection[Any]) -> Iterator[str]:
    found, plain = read(connection), {name for (name,) in connection.execute(_PLAIN_INDEXES)}
    for kind in _STATEMENTS:
        ours = expected().get(kind, {})
        for name in sorted(found[kind].keys() | ours.keys()):
            is_, should_be = found[kind].get(name), ours.get(name)
            if is_ == should_be or (kind == "index" and should_be is None and name in plain):
                continue
            yield f"{kind} {name}: found {is_ or 'none'}, expected {should_be or 'none'}"
