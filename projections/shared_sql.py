"""The one piece of SQL that live rows and past states share: a field's last value among the events of a thing."""

_LAST = "(array_agg({field} ORDER BY notification_id DESC) FILTER (WHERE topic IN ({topics}){where}))[1]"


def last(field: str, *topics: str, where: str = "") -> str:
    """Return the SQL of `field` in the last event with one of these topics, null where there is none.

    `where` is a further condition on the events that count.
    """
    return _LAST.format(
        field=field,
        topics=", ".join(f"'{topic}'" for topic in topics),
        where=f" AND {where}" if where else "",
    )
