"""The indexes of the log: which there must be, and making anew those that are missing, broken or other ones.

The statements are as PostgreSQL prints them, so that what there is can be compared. A test holds them against the migrations.
"""

import re
from collections.abc import Iterator
from typing import Any

from psycopg import Connection

_DEFINITIONS = (
    "CREATE INDEX endings_class_id_idx ON log.endings USING btree (class_id, notification_id)",
    "CREATE INDEX endings_group_id_idx ON log.endings USING btree (group_id, notification_id) WHERE (topic = 'UserRemoved'::text)",
    "CREATE UNIQUE INDEX endings_key ON log.endings USING btree (notification_id, class_id, user_id) NULLS NOT DISTINCT",
    "CREATE INDEX endings_user_id_idx ON log.endings USING btree (user_id, notification_id) WHERE (user_id IS NOT NULL)",
    "CREATE INDEX events_actor_place_idx ON log.events USING btree (actor, ((notification_id + 0)))",
    "CREATE INDEX events_actor_topic_idx ON log.events USING btree (actor, topic, ((notification_id + 0)))",
    "CREATE INDEX events_class_id_idx ON log.events USING btree (class_id, notification_id) WHERE (class_id IS NOT NULL)",
    "CREATE INDEX events_class_itself_idx ON log.events USING btree (class_id, notification_id)"
    " WHERE ((user_id IS NULL) AND (class_id IS NOT NULL))",
    "CREATE INDEX events_entered_idx ON log.events USING btree (group_id, notification_id)"
    " WHERE (topic = ANY (ARRAY['ClassCreated'::text, 'ClassMoved'::text]))",
    "CREATE INDEX events_group_id_place_idx ON log.events USING btree (group_id, ((notification_id + 0))) WHERE (group_id IS NOT NULL)",
    "CREATE INDEX events_group_id_topic_idx ON log.events USING btree (group_id, topic, ((notification_id + 0)))"
    " WHERE (group_id IS NOT NULL)",
    "CREATE UNIQUE INDEX events_notification_id_key ON log.events USING btree (notification_id)",
    "CREATE UNIQUE INDEX events_pkey ON log.events USING btree (originator_id, originator_version)",
    "CREATE INDEX events_previous_group_id_idx ON log.events USING btree (previous_group_id, notification_id)"
    " WHERE (previous_group_id IS NOT NULL)",
    "CREATE INDEX events_recorded_at_idx ON log.events USING btree (recorded_at, notification_id)",
    "CREATE INDEX events_source_idx ON log.events USING btree (source, ((notification_id + 0)))",
    "CREATE INDEX events_source_topic_idx ON log.events USING btree (source, topic, ((notification_id + 0)))",
    "CREATE INDEX events_topic_idx ON log.events USING btree (topic, ((notification_id + 0)))",
    "CREATE INDEX events_user_id_idx ON log.events USING btree (user_id, notification_id) WHERE (user_id IS NOT NULL)",
    "CREATE INDEX idempotency_keys_created_at_idx ON log.idempotency_keys USING btree (created_at)",
    "CREATE UNIQUE INDEX idempotency_keys_pkey ON log.idempotency_keys USING btree (subject, route, key)",
)
CONSTRAINTS = {
    "endings_key": "UNIQUE",
    "events_notification_id_key": "UNIQUE",
    "events_pkey": "PRIMARY KEY",
    "idempotency_keys_pkey": "PRIMARY KEY",
}
"""The indexes that carry a constraint of the same name."""

_PARTS = re.compile(r"CREATE (?:UNIQUE )?INDEX (\w+) ON (log\.\w+) .*")
INDEXES = {parts[1]: parts[0] for definition in _DEFINITIONS if (parts := _PARTS.fullmatch(definition))}
"""Every index of the log by its name, as the statement that makes it."""

_FOUND = """
    SELECT index.relname, pg_get_indexdef(index.oid), indisvalid AND indisready AND indislive,
           EXISTS (SELECT FROM pg_constraint WHERE conindid = index.oid AND contype IN ('p', 'u'))
    FROM pg_index JOIN pg_class AS index ON index.oid = indexrelid WHERE index.relnamespace = to_regnamespace('log')
"""


def broken(connection: Connection[Any]) -> Iterator[str]:
    """Yield the names of the indexes that are missing, invalid or other ones than the migrations make."""
    found = {name: rest for name, *rest in connection.execute(_FOUND)}
    for name, definition in INDEXES.items():
        if found.get(name) != [definition, True, name in CONSTRAINTS]:
            yield name


def make_anew(connection: Connection[Any], name: str) -> None:
    """Make an index anew, over a connection that commits by itself; others read and write meanwhile."""
    definition = INDEXES[name]
    table = _PARTS.fullmatch(definition)[2]  # type: ignore[index]  # `INDEXES` holds what matches
    if name in CONSTRAINTS:
        connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name}".encode())
    connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS log.{name}".encode())
    connection.execute(definition.replace(" INDEX ", " INDEX CONCURRENTLY ", 1).encode())
    if name in CONSTRAINTS:
        connection.execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} {CONSTRAINTS[name]} USING INDEX {name}".encode())


def rebuild(connection: Connection[Any], name: str) -> None:
    """Write an index anew from the table, over a connection that commits by itself; others read and write meanwhile."""
    connection.execute(f"REINDEX INDEX CONCURRENTLY log.{name}".encode())
