"""A term's start, with a client generated from the service's OpenAPI document: mypy refuses a wrong field, role or event type.

`make client` generates the client, checks this file and runs it. By hand: start the service with
`make run`, then `PYTHONPATH=. .venv/bin/python roster.py http://127.0.0.1:8000` in this folder.
"""

import sys
from datetime import UTC, datetime
from os import environ
from uuid import uuid4

from calling import Refused, done, pages
from rosterlog_client import AuthenticatedClient
from rosterlog_client.api.bulk import enrol_many, register_many
from rosterlog_client.api.classes import create_class
from rosterlog_client.api.groups import create_group
from rosterlog_client.api.members import enrol_member, list_members
from rosterlog_client.api.users import get_user_history
from rosterlog_client.models import (
    Accepted,
    Class,
    ClassMember,
    ClassMemberList,
    EnrolmentOutcomes,
    EventList,
    EventType,
    Group,
    NewClass,
    NewClassMember,
    NewEnrolment,
    NewEnrolments,
    NewGroup,
    NewRegistration,
    NewRegistrations,
    Order,
    ProblemType,
    RegistrationOutcomes,
    Role,
)

URL = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000"
ACTOR, REASON = "example-1", "start%20of%20term"

# A service on this machine has no authentication until it is configured, and takes any token.
client = AuthenticatedClient(
    base_url=URL,
    token=environ.get("ROSTERLOG_TOKEN", "none"),
    headers={"Roster-Reason": REASON},
    raise_on_unexpected_status=True,
)
group_id, class_id, teacher = uuid4(), uuid4(), uuid4()
students = [uuid4() for _ in range(4)]

# The ids are ours: a call that is repeated after a lost connection creates nothing twice.
for _ in ("once", "again"):
    done(
        create_group.sync_detailed(client=client, body=NewGroup(id=group_id, name="Science")), Group
    )
    new = NewClass(id=class_id, group_id=group_id, name="Physics 2")
    answer = create_class.sync_detailed(client=client, body=new, roster_actor=ACTOR)
    if isinstance(answer.parsed, Accepted):
        print(f"visible from position {answer.parsed.position} on")
    else:
        made = done(answer, Class)
        print(f"{made.name}, version {made.version}")

# Many in one command, each with its own outcome.
people = NewRegistrations(items=[NewRegistration(id=person) for person in (teacher, *students)])
done(register_many.sync_detailed(client=client, body=people), RegistrationOutcomes)
enrolments = NewEnrolments(
    items=[
        NewEnrolment(class_id=class_id, user_id=student, role=Role.STUDENT) for student in students
    ]
)
enrolled = done(enrol_many.sync_detailed(client=client, body=enrolments), EnrolmentOutcomes)
print(f"{enrolled.enrolled} enrolled, {enrolled.refused} refused")
students_only = datetime.now(UTC)

# Recorded and not waited for; the next read waits until it is visible.
lead = NewClassMember(user_id=teacher, role=Role.TEACHER)
added = enrol_member.sync_detailed(
    class_id, client=client, body=lead, prefer="respond-async", roster_actor=ACTOR
)
position = added.parsed.position if isinstance(added.parsed, Accepted) else 0
for member in pages(
    lambda cursor: done(
        list_members.sync_detailed(
            class_id, client=client, limit=2, min_position=position, cursor=cursor
        ),
        ClassMemberList,
    )
):
    print(f"{member.role} {member.user_id}, enrolled {member.created_at}")

# What happened to the teacher in this class, and the roster as it was before.
history = get_user_history.sync_detailed(
    teacher, client=client, class_id=class_id, order=Order.DESC, limit=1
)
for event in done(history, EventList).items:
    if event.type_ is EventType.MEMBER_ENROLLED:
        print(f"{event.type_} by {event.actor}: {event.after.role}")
before = list_members.sync_detailed(class_id, client=client, as_of=students_only)
print(f"{len(done(before, ClassMemberList).items)} members before")

try:
    again = NewClassMember(user_id=teacher, role=Role.STUDENT)
    done(enrol_member.sync_detailed(class_id, client=client, body=again), ClassMember)
except Refused as refused:
    if refused.problem.type_ != ProblemType.ENROLLED_IN_OTHER_ROLE:
        raise
    print(f"Refused, as it should be: {refused}")
