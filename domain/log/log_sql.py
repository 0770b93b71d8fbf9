"""What SQL says of the log in more than one place: topics, an event's state, the head."""

from rosterlog.domain.classes import Class
from rosterlog.domain.events import RosterEvent
from rosterlog.domain.groups import Group
from rosterlog.domain.log.event_codec import topics_of
from rosterlog.domain.users import User


def topics(*events: type[RosterEvent]) -> str:
    """Return the topics of `events`, of their older versions, too, as SQL for `topic IN (…)`."""
    return ", ".join(f"'{topic}'" for event in events for topic in topics_of(event))


STATE = "convert_from(state, 'UTF8')::json"
"""The fields of an event, as JSON."""
HEAD = "SELECT coalesce(max(notification_id), 0) FROM log.events"
"""The SELECT of the last position of the log, 0 where it is empty."""

MEMBERSHIP_CHANGES = (Class.MemberEnrolled, Class.RoleChanged, Class.MemberWithdrawn)
"""The events that change one membership."""
ENTRIES = topics(Class.Created, Class.Moved)
"""The topics of the events that bring a class into a group."""
ENDINGS = (User.Removed, Class.Deleted, Group.Deleted)
"""The events that end a thing. Such an event is always the last of its stream."""
ENDS = topics(*ENDINGS)
"""Their topics."""
