"""Values that somebody may give a setting of PostgreSQL, for a server, a database or an account."""

from collections.abc import Sequence
from typing import Any

from psycopg import Connection

ROUNDS = 5
"""In how many rounds every value comes: the settings that matter have up to five."""

# Texts; a setting of this kind that a later release brings makes `values` fail until it stands
# here.
TEXTS: dict[str, Sequence[str]] = {
    "DateStyle": ("German, DMY", "SQL, MDY", "Postgres, YMD"),
    "TimeZone": ("Asia/Kathmandu", "America/St_Johns", "Pacific/Apia"),
    "client_encoding": ("LATIN1", "SQL_ASCII", "EUC_JP"),
    "search_path": ("hostile, pg_catalog", "", '"$user", public'),
    "default_text_search_config": ("pg_catalog.german",),
    "default_table_access_method": ("hostile",),
    "default_tablespace": ("",),
    "temp_tablespaces": ("",),
    "timezone_abbreviations": ("Australia", "India"),
    "lc_monetary": ("C.UTF-8",),
    "lc_numeric": ("C.UTF-8",),
    "lc_time": ("C.UTF-8",),
    "application_name": ("rosterlog serve",),
    "createrole_self_grant": ("set", "inherit"),
    "local_preload_libraries": ("nowhere",),
    "restrict_nonsystem_relation_kind": ("view, foreign-table",),
}

# Of the settings that only a superuser gives others, those that may change an answer.
PRIVILEGED: dict[str, Sequence[str]] = {
    "lo_compat_privileges": ("on",),
    "track_activities": ("off",),
    "compute_query_id": ("on",),
    "deadlock_timeout": ("1",),
}

# How much is said to the client or to the server's log, and what one transaction is, which can't be
# set.
_OTHER = (
    *("client_min_messages", "icu_validation_level", "debug_", "trace_", "log_"),
    *("transaction_isolation", "transaction_read_only", "transaction_deferrable"),
)

HOSTILE_SCHEMA = """
    CREATE SCHEMA hostile;
    CREATE FUNCTION hostile.sha256(bytea) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$ SELECT '\\x00'::bytea $$;
    CREATE FUNCTION hostile.convert_to(text, name) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$ SELECT '\\x00'::bytea $$;
    CREATE FUNCTION hostile.convert_from(bytea, name) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT '{}' $$;
    CREATE FUNCTION hostile.to_json(anyelement) RETURNS json LANGUAGE sql IMMUTABLE AS $$ SELECT '{}'::json $$;
    CREATE FUNCTION hostile.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$ SELECT 'infinity'::timestamptz $$;
    CREATE FUNCTION hostile.differ(uuid, uuid) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT false';
    CREATE OPERATOR hostile.= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = hostile.differ);
    CREATE FUNCTION hostile.differ(text, text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT false';
    CREATE OPERATOR hostile.= (LEFTARG = text, RIGHTARG = text, FUNCTION = hostile.differ);
    GRANT USAGE ON SCHEMA hostile TO PUBLIC;
    CREATE ACCESS METHOD hostile TYPE TABLE HANDLER heap_tableam_handler
"""
"""What search_path = hostile, pg_catalog would find first; made by a superuser."""


def values(connection: Connection[Any]) -> dict[str, Sequence[str]]:
    """Return the values to try of each setting that anybody may give himself, and of some that a superuser may give."""
    settings = connection.execute(
        "SELECT name, vartype, enumvals, min_val, max_val, setting FROM pg_settings WHERE context = 'user'"
    )
    found: dict[str, Sequence[str]] = {}
    for name, kind, names, least, most, now in settings.fetchall():
        if not name.startswith(_OTHER):
            found[name] = {
                "bool": ("off", "on") if now == "on" else ("on", "off"),
                "enum": names,
                "integer": (least, most),
                "real": (least, most),
                "string": TEXTS.get(name),
            }[kind]
    return found | PRIVILEGED


def round_of(found: dict[str, Sequence[str]], number: int) -> dict[str, str]:
    """Return one value of each setting; over all rounds every value comes."""
    return {name: given[number % len(given)] for name, given in found.items()}
