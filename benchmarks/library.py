"""The library's own way to maintain the same tables: a stock `ProjectionRunner`.

It uses one transaction for each event.
"""

import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from eventsourcing.application import Application
from eventsourcing.persistence import StoredEvent, Tracking
from eventsourcing.postgres import PostgresTrackingRecorder
from eventsourcing.projection import Projection, ProjectionRunner
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.json import Jsonb

from rosterlog.domain.classes import Class
from rosterlog.domain.groups import Group
from rosterlog.domain.log import sessions
from rosterlog.domain.log.event_codec import EventCodec
from rosterlog.domain.users import User


class StockApplication(Application[UUID]):
    """The library as it comes, but for the codec of our events."""

    name = "stock"

    def construct_mapper(self) -> EventCodec:
        return EventCodec()


def environment_of(conninfo: str) -> dict[str, str]:
    """Return the library's settings for a database."""
    parts = conninfo_to_dict(conninfo)
    return {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "POSTGRES_DBNAME": str(parts["dbname"]),
        "POSTGRES_HOST": str(parts["host"]),
        "POSTGRES_PORT": "5432",
        "POSTGRES_USER": "postgres",
        "POSTGRES_PASSWORD": "",
    }


class RosterView(PostgresTrackingRecorder):
    def apply(
        self, statements: tuple[str, ...], parameters: dict[str, Any], tracking: Tracking
    ) -> None:
        with self.datastore.transaction(commit=True) as cursor:
            for statement in statements:
                cursor.execute(statement, parameters, prepare=True)
            self._insert_tracking(cursor, tracking)


_VERSION = "UPDATE roster.classes SET version = %(version)s WHERE id = %(id)s"
_ENROL = """
    INSERT INTO roster.class_members (id, class_id, user_id, role, created_at)
    VALUES (public.membership_id(%(id)s, %(user_id)s), %(id)s, %(user_id)s, %(role)s, %(at)s)
    ON CONFLICT (class_id, user_id)
    DO UPDATE SET role = excluded.role, created_at = excluded.created_at
"""


class RosterProjection(Projection[RosterView]):
    """Events of the benchmark's district to rows, one by one."""

    name = "rosters"

    def process_event(self, domain_event: Any, tracking: Tracking) -> None:
        fields = {
            **vars(domain_event),
            "id": domain_event.originator_id,
            "version": domain_event.originator_version,
        }
        fields |= {"at": domain_event.timestamp, "settings": Jsonb(fields.get("settings"))}
        self.view.apply(_OF_EVENT[type(domain_event)], fields, tracking)


_OF_EVENT: dict[type[Any], tuple[str, ...]] = {
    Group.Created: (
        "INSERT INTO roster.groups VALUES (%(id)s, %(name)s, %(at)s, %(at)s, %(version)s)",
    ),
    User.Created: ("INSERT INTO roster.users VALUES (%(id)s, %(at)s, %(version)s)",),
    User.Removed: ("DELETE FROM roster.users WHERE id = %(id)s",),
    Class.Created: (
        "INSERT INTO roster.classes VALUES (%(id)s, %(group_id)s, %(name)s, %(settings)s, "
        "%(at)s, %(at)s, NULL, %(version)s)",
    ),
    Class.Renamed: (
        "UPDATE roster.classes SET name = %(name)s, updated_at = %(at)s, version = "
        "%(version)s WHERE id = %(id)s",
    ),
    Class.MemberEnrolled: (_ENROL, _VERSION),
    Class.RoleChanged: (
        "UPDATE roster.class_members SET role = %(role)s WHERE class_id = %(id)s AND user_id "
        "= %(user_id)s",
        _VERSION,
    ),
    Class.MemberWithdrawn: (
        "DELETE FROM roster.class_members WHERE class_id = %(id)s AND user_id = %(user_id)s",
        _VERSION,
    ),
}


def events_per_second(conninfo: str, events: Sequence[StoredEvent]) -> float:
    """Record the events with the library's recorder, and project them with its runner.

    Return how many events the runner projected a second.
    """
    environment = environment_of(conninfo)
    with StockApplication(environment) as application:
        # In parts: its pipeline of thousands of statements waits for ever, both sides with full
        # buffers.
        for start in range(0, len(events), 500):
            application.recorder.insert_events(events[start : start + 500])
        head = application.recorder.max_notification_id()
    with sessions.connect(conninfo) as connection:
        connection.execute("VACUUM ANALYZE")
    began = time.perf_counter()
    with ProjectionRunner(
        application_class=StockApplication,
        projection_class=RosterProjection,
        view_class=RosterView,
        env=environment,
    ) as runner:
        runner.wait(head, timeout=600)
        return len(events) / (time.perf_counter() - began)
