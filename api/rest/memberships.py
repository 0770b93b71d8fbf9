"""A membership as JSON, made without reading it: what an enrolment just recorded."""

import json
from datetime import datetime
from uuid import UUID

from rosterlog.domain.values import Role, membership_id


def enrolled(class_id: UUID, user_id: UUID, role: Role, recorded_at: datetime) -> str:
    """Return what a read of the membership returns."""
    member = {
        "id": str(membership_id(class_id, user_id)),
        "class_id": str(class_id),
        "user_id": str(user_id),
    }
    return json.dumps({**member, "role": role, "created_at": time(recorded_at)})


def time(recorded_at: datetime) -> str:
    """Write a time of the log as PostgreSQL does in JSON: fractions of a second without zeros at their end."""
    text = recorded_at.isoformat(timespec="microseconds")
    return text[:26].rstrip("0").rstrip(".") + text[26:]
