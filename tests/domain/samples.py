"""One event of every topic with all its fields filled; the golden files hold their state."""

from datetime import date
from uuid import UUID

from eventsourcing.utils import get_topic

from rosterlog.domain.classes import Class
from rosterlog.domain.events import RosterEvent
from rosterlog.domain.groups import Group
from rosterlog.domain.users import User
from rosterlog.domain.values import Provenance, Role

CLASS = UUID("0a0a0a0a-0000-4000-8000-000000000001")
GROUP = UUID("0b0b0b0b-0000-4000-8000-000000000002")
OTHER_GROUP = UUID("0b0b0b0b-0000-4000-8000-000000000003")
USER = UUID("0c0c0c0c-0000-4000-8000-000000000004")
SETTINGS = {
    "room": "B 12",
    "seats": 30,
    "ratio": 0.5,
    "lab": True,
    "note": None,
    "tags": ["ü", "🎓"],
    "nested": {"deep": [1]},
}
DAY = date(2025, 9, 1)


def samples() -> dict[str, RosterEvent]:
    """Return the events by topic, recorded through the aggregates' own verbs."""
    because = Provenance(
        actor="registrar-7", source="import:2025-09", request_id="request-1", reason="term start"
    )
    plain = Provenance(actor="registrar-7", source="api")
    group = Group.create(GROUP, "Nordschule", because)
    group.rename("Südschule", because)
    group.delete(because)
    user = User.register(USER, plain)
    user.remove(because)
    class_ = Class.create(CLASS, GROUP, "Maths", SETTINGS, because)
    class_.rename("Physics", plain)
    class_.change_settings({}, because)
    class_.move(OTHER_GROUP, because)
    class_.enrol(USER, Role.STUDENT, because, DAY)
    class_.change_role(USER, Role.TEACHER, because)
    class_.withdraw(USER, because, DAY)
    class_.archive(because)
    class_.restore(because)
    class_.delete(because)
    events = [event for aggregate in (group, user, class_) for event in aggregate.collect_events()]
    return {get_topic(type(event)): event for event in events if isinstance(event, RosterEvent)}
