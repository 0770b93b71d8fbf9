"""The audit reading: what happened to a class, a user, a group, or at all, read from the log itself.

A history is one or more runs of rows, each in the order of positions through an index of its own, merged. An ending is one event; the
history of a class, user or group has, besides, an entry for each membership that it ended (`domain.endings`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from projections import skips
from projections.queries import Parameters

Order = Literal["asc", "desc"]

KEY_TYPES = ("bigint", "text")
"""The types of the key that a cursor goes on from."""

# Times are written as in the reads, whose JSON PostgreSQL makes.
_COLUMNS = """
    event.notification_id, event.originator_version, to_json(event.recorded_at) #>> '{{}}' AS recorded_at, event.topic, event.state,
    {own}.class_id, {own}.user_id, {own}.group_id, event.actor, event.source
"""

_EVENTS = f"""
    SELECT {_COLUMNS.format(own="event")}, NULL::text AS ended_role, '' COLLATE "C" AS part, {skips.MARK} AS skipped
    FROM log.events AS event WHERE
"""

# Entries of one position: the event itself, then what it ended. `part` tells them apart.
_PART = "(ending.class_id::text || coalesce(ending.user_id::text, '')) COLLATE \"C\""
_ENDINGS = f"""
    SELECT {_COLUMNS.format(own="ending")}, ending.role AS ended_role, {_PART} AS part, {skips.MARK} AS skipped
    FROM log.endings AS ending JOIN log.events AS event USING (notification_id) WHERE
"""

_FILTERS = {
    "type": "{own}.topic = %(type)s",
    "actor": "event.actor = %(actor)s",
    "source": "event.source = %(source)s",
    "class_id": "{own}.class_id = %(class_id)s",
    "user_id": "{own}.user_id = %(user_id)s",
    "group_id": "{own}.group_id = %(group_id)s",
}

# In which order to read: by position itself where the class or user is given, or nothing is. Elsewhere by position + 0, which is the same
# order, and indexed with each of the other columns: an index of positions alone does not fit it, so PostgreSQL can't decide to walk through
# the log in the hope that the next match is near.
_POSITION, _PLACE = "{own}.notification_id", "({own}.notification_id + 0)"

SPAN = """
    SELECT head.position, {since} AS first, {until} AS last
    FROM (SELECT coalesce(max(notification_id), 0) AS position FROM log.events) AS head
"""
_SINCE = """coalesce((
    SELECT notification_id FROM log.events WHERE recorded_at >= %(since)s ORDER BY recorded_at, notification_id LIMIT 1
), head.position + 1)"""
_UNTIL = """coalesce((
    SELECT notification_id FROM log.events WHERE recorded_at < %(until)s ORDER BY recorded_at DESC, notification_id DESC LIMIT 1
), 0)"""


@dataclass(frozen=True)
class History:
    """Whose history: which events are in it, and which of the things that endings ended. `%(subject)s` is the id it is about."""

    name: str
    events: tuple[str, ...]
    endings: str | None = None


CLASS = History("class-history", ("event.class_id = %(subject)s",), "ending.class_id = %(subject)s AND ending.topic <> 'ClassDeleted'")
USER = History("user-history", ("event.user_id = %(subject)s",), "ending.user_id = %(subject)s")
# A class that moves shows in the group that it leaves, too.
GROUP = History(
    "group-history",
    ("event.group_id = %(subject)s", "event.previous_group_id = %(subject)s"),
    "ending.group_id = %(subject)s AND ending.topic = 'UserRemoved'",
)
EVERYTHING = History("history", ("true",))


@dataclass(frozen=True)
class Question:
    """What is asked of a history: the filters that were given, by name, and in which order."""

    history: History
    order: Order = "asc"
    filters: Mapping[str, Any] = field(default_factory=dict)

    def span(self) -> str:
        """Return the SELECT of the log's head, and of the first and last position of the time that is asked for.

        Times never go back as positions go up, so a time range is a range of positions. Its parameters are the filters.
        """
        first = _SINCE if "since" in self.filters else "1"
        last = _UNTIL if "until" in self.filters else "head.position"
        return SPAN.format(since=first, until=last)

    def page(self, first: int, last: int, limit: int, key: tuple[str, ...] | None) -> tuple[str, Parameters]:
        """Return the SELECT of the next entries after `key`, at most `limit`, between two positions, and its parameters."""
        parameters: Parameters = {**self.filters, "first": first, "last": last, "limit": limit}
        if key is not None:
            parameters |= {"key_0": int(key[0]), "key_1": key[1]}
        runs = [self._run(f"{_EVENTS} {whose}", "event", self._place(whose), self._events_after(key)) for whose in self.history.events]
        if self.history.endings is not None:
            runs.append(self._run(f"{_ENDINGS} {self.history.endings}", "ending", _POSITION, self._endings_after(key)))
        if len(runs) == 1:
            return runs[0], parameters
        merged = " UNION ALL ".join(f"({run})" for run in runs)
        return f"SELECT * FROM ({merged}) AS entry ORDER BY notification_id {self.order}, part {self.order} LIMIT %(limit)s", parameters

    def _place(self, whose: str) -> str:
        """Return what to order a run of events by."""
        given = self.filters.keys() - {"since", "until"}
        by_position = not given if whose == "true" else "group_id" not in whose or "previous_group_id" in whose
        return _POSITION if by_position or given & {"class_id", "user_id"} else _PLACE

    def _run(self, select: str, own: str, place: str, after: str) -> str:
        conditions = [condition for name, condition in _FILTERS.items() if name in self.filters]
        conditions += ["{place} BETWEEN %(first)s AND %(last)s", after]
        order = f"{{place}} {self.order}" + (f", part {self.order}" if own == "ending" else "")
        run = f"{select} AND {' AND '.join(conditions)} ORDER BY {order} LIMIT %(limit)s"
        return run.replace("{place}", place).replace("{own}", own)

    def _events_after(self, key: tuple[str, ...] | None) -> str:
        """Return the condition for events after the key. An event comes before what it ended, whose part is not empty."""
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


def entry(row: tuple[Any, ...]) -> Entry:
    """Turn a row of a page into what the outside sees of it."""
    position, version, recorded_at, topic, state, class_id, user_id, group_id, actor, source, ended_role, part, skipped = row
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
    event["before"], event["after"] = ({"role": ended_role}, {}) if ended_role else _changes(topic, fields)
    if skipped is not None:
        event["skipped"] = skipped
    return Entry(event, (str(position), part))


_NOT_CHANGES = {"actor", "reason", "source", "request_id", "user_id", "effective_on"}
_ARCHIVED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "ClassArchived": ({"archived": False}, {"archived": True}),
    "ClassRestored": ({"archived": True}, {"archived": False}),
}


def _changes(topic: str, fields: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what an event's fields were before and are after, as far as it changed them."""
    if topic in _ARCHIVED:
        return _ARCHIVED[topic]
    own = {name: value for name, value in fields.items() if name not in _NOT_CHANGES}
    before = {name.removeprefix("previous_"): value for name, value in own.items() if name.startswith("previous_")}
    after = {name: value for name, value in own.items() if not name.startswith("previous_")}
    return (after, {}) if topic == "MemberWithdrawn" else (before, after)
