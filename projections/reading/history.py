"""The audit reading: what happened to a class, a user, a group, or at all, read from the log itself.

A history is one or more runs of rows, each in the order of positions through an index of its own,
merged. An ending is one event; the history of a class, user or group has, besides, an entry for
each membership that it ended (`rosterlog.domain.log.endings`).

Each entry is of the group that its class was in then, so a caller who is confined to groups gets
the entries of these (decision 23).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from uuid import UUID

import msgspec

from rosterlog.domain.classes import Class
from rosterlog.domain.groups import Group
from rosterlog.domain.log.event_codec import topics_of
from rosterlog.domain.log.log_sql import HEAD, topics
from rosterlog.domain.users import User
from rosterlog.domain.values import Confinement
from rosterlog.projections.projector import skips
from rosterlog.projections.reading.queries import GROUPS_GIVEN, SEEN_VERSION, Parameters

Order = Literal["asc", "desc"]

KEY_TYPES = ("bigint", "text")
"""The types of the key that a cursor goes on from."""

# Times are written as in the reads, whose JSON PostgreSQL makes.
_COLUMNS = """
    event.notification_id, event.originator_version, to_json(event.recorded_at) #>> '{{}}' AS recorded_at, event.topic, event.state,
    {own}.class_id, {own}.user_id, {own}.group_id, event.actor, event.source, event.digest
"""

_EVENT = f"""{_COLUMNS.format(own="event")}, NULL::text AS ended_role, '' COLLATE pg_catalog."C" AS part, {skips.MARK} AS skipped"""
_EVENTS = f"SELECT {_EVENT} FROM log.events AS event WHERE"

# Entries of one position: the event itself, then what it ended. `part` tells them apart.
_PART = "(ending.class_id::text || coalesce(ending.user_id::text, '')) COLLATE pg_catalog.\"C\""
_ENDED = "FROM log.endings AS ending JOIN log.events AS event USING (notification_id) WHERE"
_ENDINGS = f"SELECT {_COLUMNS.format(own='ending')}, ending.role AS ended_role, {_PART} AS part, {skips.MARK} AS skipped {_ENDED}"

# Removals of users who had memberships, each once, however many of these it ended. One by one by
# their positions (OFFSET 0): as a join, PostgreSQL would walk through the log for the few that
# there are.
_REMOVALS = f"""
    SELECT {_EVENT} FROM (SELECT DISTINCT notification_id AS position, group_id FROM log.endings WHERE topic IN ({topics(User.Removed)})) AS ending
    CROSS JOIN LATERAL (SELECT * FROM log.events WHERE notification_id = ending.position OFFSET 0) AS event WHERE
"""

_EACH = "SELECT entry.* FROM unnest(%(groups)s::uuid[]) AS mine (id) CROSS JOIN LATERAL ({run}) AS entry"
"""For each group through its own index: of all of them at once PostgreSQL would read everything, and sort it."""

_SEEN = f"""
    SELECT notification_id,
           CASE WHEN class_id IS NULL OR topic IN ({topics(Group.Deleted, User.Removed)}) THEN originator_version
                ELSE {SEEN_VERSION.format(class_id="class_id", version="source.originator_version")} END AS originator_version,
           recorded_at, topic, state, class_id, user_id, group_id, actor, source, digest, ended_role, part, skipped
    FROM ({{page}}) AS source
"""
"""A page for who is confined: the version of what is of a class's stream as it is counted in the groups."""

_FILTERS = {
    "type": "{own}.topic = %(type)s",
    "actor": "event.actor = %(actor)s",
    "source": "event.source = %(source)s",
    "class_id": "{own}.class_id = %(class_id)s",
    "user_id": "{own}.user_id = %(user_id)s",
    "group_id": "{own}.group_id = %(group_id)s",
}

# In which order to read: by position itself where the class or user is given, or nothing is.
# Elsewhere by position + 0, which is the same order, and indexed with each of the other columns: an
# index of positions alone does not fit it, so PostgreSQL can't decide to walk through the log in
# the hope that the next match is near.
_POSITION, _PLACE = "{own}.notification_id", "({own}.notification_id + 0)"

SPAN = f"""
    SELECT head.position, {{since}} AS first, {{until}} AS last
    FROM ({HEAD}) AS head (position)
"""
_SINCE = """coalesce((
    SELECT notification_id FROM log.events WHERE recorded_at >= %(since)s ORDER BY recorded_at, notification_id LIMIT 1
), head.position + 1)"""
_UNTIL = """coalesce((
    SELECT notification_id FROM log.events WHERE recorded_at < %(until)s ORDER BY recorded_at DESC, notification_id DESC LIMIT 1
), 0)"""


@dataclass(frozen=True)
class Run:
    """Entries in the order of positions through one index: which, and by which of the orders of positions; `own` is whose ids they have."""

    select: str
    whose: str
    own: str = "event"
    place: str = _POSITION

    def only(self, condition: str) -> "Run":
        """Return the run of those entries that also fulfil a condition."""
        return replace(self, whose=f"{self.whose} AND {condition.replace('{own}', self.own)}")


def _events(whose: str, place: str = _POSITION) -> Run:
    return Run(_EVENTS, whose, place=place)


def _endings(whose: str) -> Run:
    return Run(_ENDINGS, whose, own="ending")


@dataclass(frozen=True)
class History:
    """Whose history: the runs that it is merged from, and those for a caller who is confined to the groups `%(groups)s`.

    `%(subject)s` is the id it is about. With `each`, the confined runs are made once for each of
    the groups, `mine.id`.
    """

    name: str
    runs: tuple[Run, ...]
    confined: tuple[Run, ...]
    each: bool = False


def _of_groups(runs: tuple[Run, ...]) -> tuple[Run, ...]:
    return tuple(run.only(f"{{own}}.group_id = {GROUPS_GIVEN}") for run in runs)


_OF_CLASS = (
    _events("event.class_id = %(subject)s"),
    _endings(f"ending.class_id = %(subject)s AND ending.topic NOT IN ({topics(Class.Deleted)})"),
)
_OF_USER = (_events("event.user_id = %(subject)s"), _endings("ending.user_id = %(subject)s"))
_IN_GROUP = (
    _events("event.group_id = %(subject)s", _PLACE),
    _endings(f"ending.group_id = %(subject)s AND ending.topic IN ({topics(User.Removed)})"),
)
# A class that moves shows in the group that it leaves, too; to who is confined, if that one and the
# group where it went are theirs.
_LEFT_GROUP = (_events("event.previous_group_id = %(subject)s"),)
_IS_GIVEN = f"%(subject)s = {GROUPS_GIVEN}"
# The removal of a user is of no group. It shows to those where it ended a membership, or who
# follows them would never hear of it.
_OF_MINE = (
    _events("event.group_id = mine.id", _PLACE),
    Run(_REMOVALS, "ending.group_id = mine.id", place="ending.position"),
)

CLASS = History("class-history", _OF_CLASS, _of_groups(_OF_CLASS))
USER = History("user-history", _OF_USER, _of_groups(_OF_USER))
GROUP = History(
    "group-history",
    _IN_GROUP + _LEFT_GROUP,
    tuple(run.only(_IS_GIVEN) for run in _IN_GROUP + _of_groups(_LEFT_GROUP)),
)
EVERYTHING = History("history", (_events("true", _PLACE),), _OF_MINE, each=True)


@dataclass(frozen=True)
class Question:
    """What is asked of a history: the filters that were given, by name, in which order, and by a caller confined to which groups."""

    history: History
    order: Order = "asc"
    filters: Mapping[str, Any] = field(default_factory=dict)
    groups: Confinement = None

    def span(self) -> str:
        """Return the SELECT of the log's head, and of the first and last position of the time that is asked for.

        Times never go back as positions go up, so a time range is a range of positions. Its
        parameters are the filters.
        """
        first = _SINCE if "since" in self.filters else "1"
        last = _UNTIL if "until" in self.filters else "head.position"
        return SPAN.format(since=first, until=last)

    def page(
        self, first: int, last: int, limit: int, key: tuple[str, ...] | None
    ) -> tuple[str, Parameters]:
        """Return the SELECT of the next entries after `key`, at most `limit`, between two positions, and its parameters."""
        parameters: Parameters = {**self.filters, "first": first, "last": last, "limit": limit}
        if key is not None:
            parameters |= {"key_0": int(key[0]), "key_1": key[1]}
        if self.groups is None:
            return self._merged([self._run(run, key) for run in self.history.runs]), parameters
        runs = [self._run(run, key) for run in self.history.confined]
        if self.history.each:
            runs = [_EACH.format(run=run) for run in runs]
        page = f"{_SEEN.format(page=self._merged(runs))} ORDER BY notification_id {self.order}, part {self.order}"
        return page, parameters | {"groups": list(self.groups)}

    def entries(self, rows: Iterable[tuple[Any, ...]]) -> list["Entry"]:
        """Turn the rows of a page into what the caller sees of them."""
        return [_entry(row, self.groups) for row in rows]

    def _merged(self, runs: Sequence[str]) -> str:
        if len(runs) == 1:
            return runs[0]
        # A removal may have ended memberships in several groups.
        once = (
            "DISTINCT ON (notification_id, part) "
            if self.groups is not None and self.history.each
            else ""
        )
        merged = " UNION ALL ".join(f"({run})" for run in runs)
        return f"SELECT {once}* FROM ({merged}) AS entry ORDER BY notification_id {self.order}, part {self.order} LIMIT %(limit)s"

    def _run(self, run: Run, key: tuple[str, ...] | None) -> str:
        place = self._place(run)
        after = self._endings_after(key) if run.own == "ending" else self._events_after(key)
        conditions = [
            run.whose,
            *(condition for name, condition in _FILTERS.items() if name in self.filters),
        ]
        conditions += ["{place} BETWEEN %(first)s AND %(last)s", after]
        order = f"{{place}} {self.order}" + (f", part {self.order}" if run.own == "ending" else "")
        select = f"{run.select} {' AND '.join(conditions)} ORDER BY {order} LIMIT %(limit)s"
        return select.replace("{place}", place).replace("{own}", run.own)

    def _place(self, run: Run) -> str:
        """Return what to order a run by."""
        given = self.filters.keys() - {"since", "until"}
        by_position = given & {"class_id", "user_id"} or (run.whose == "true" and not given)
        return _POSITION if run.place == _PLACE and by_position else run.place

    def _events_after(self, key: tuple[str, ...] | None) -> str:
        """Return the condition for events after the key.

        An event comes before what it ended, whose part is not empty.
        """
        if key is None:
            return "true"
        if self.order == "asc":
            return "{place} > %(key_0)s"
        return "{place} <= %(key_0)s" if key[1] else "{place} < %(key_0)s"

    def _endings_after(self, key: tuple[str, ...] | None) -> str:
        if key is None:
            return "true"
        sign = ">" if self.order == "asc" else "<"
        return f"{{place}} {sign}= %(key_0)s AND ({{place}} {sign} %(key_0)s OR {_PART} {sign} %(key_1)s::text)"


@dataclass(frozen=True)
class Entry:
    """One entry of a history, with the key that a cursor goes on from."""

    event: dict[str, Any]
    key: tuple[str, ...]


def _entry(row: tuple[Any, ...], groups: Confinement) -> Entry:
    (
        position,
        version,
        recorded_at,
        topic,
        state,
        class_id,
        user_id,
        group_id,
        actor,
        source,
        digest,
        ended_role,
        part,
        skipped,
    ) = row
    fields = msgspec.json.decode(state)
    event = {
        "position": position,
        "version": version,
        "recorded_at": recorded_at,
        "type": topic,
        "actor": actor,
        "reason": fields["reason"],
        "source": source,
        "request_id": fields["request_id"],
        "class_id": class_id,
        "user_id": user_id,
        "group_id": group_id,
        "effective_on": fields.get("effective_on"),
    }
    event["before"], event["after"] = (
        ({"role": ended_role}, {}) if ended_role else _changes(topic, fields)
    )
    if (
        groups is not None
        and topic in topics_of(Class.Moved)
        and UUID(event["before"]["group_id"]) not in groups
    ):
        # Where the class came from does not exist to this caller. Differences say it in the same
        # way.
        event["before"]["group_id"] = None
    event["digest"] = digest.hex()
    if skipped is not None:
        event["skipped"] = skipped
    return Entry(event, (str(position), part))


_NOT_CHANGES = {"actor", "reason", "source", "request_id", "user_id", "effective_on"}
_ARCHIVED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    **dict.fromkeys(topics_of(Class.Archived), ({"archived": False}, {"archived": True})),
    **dict.fromkeys(topics_of(Class.Restored), ({"archived": True}, {"archived": False})),
}


def _changes(topic: str, fields: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what an event's fields were before and are after, as far as it changed them."""
    if topic in _ARCHIVED:
        return _ARCHIVED[topic]
    own = {name: value for name, value in fields.items() if name not in _NOT_CHANGES}
    before = {
        name.removeprefix("previous_"): value
        for name, value in own.items()
        if name.startswith("previous_")
    }
    after = {name: value for name, value in own.items() if not name.startswith("previous_")}
    return (after, {}) if topic in topics_of(Class.MemberWithdrawn) else (before, after)
