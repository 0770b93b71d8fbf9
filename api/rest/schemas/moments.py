"""Times as callers write them: date-time of RFC 3339, whole. We record microseconds, so what is finer is cut or raised to one."""

import re
from calendar import monthrange
from datetime import UTC, datetime, timedelta
from typing import NoReturn

from rosterlog.domain.errors import InvalidValue

_DATE_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])([01]\d|2[0-3]):([0-5]\d))",
    re.ASCII,
)
_MICROSECOND = timedelta(microseconds=1)
FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
"""What stands for times that are before or after all that we can write in UTC: nothing is recorded near either."""
_DIGITS = 6
_LEAP_SECOND = 60


def floor(value: object) -> datetime:
    """Return the last microsecond that is not after a time: what was recorded by then was recorded by the time. Raises `InvalidValue`."""
    return _read(value)[0]


def ceiling(value: object) -> datetime:
    """Return the first microsecond that is not before a time: what was recorded since then was recorded since the time, what was recorded
    before then before it. Raises `InvalidValue`.
    """  # noqa: D205
    moment, is_cut = _read(value)
    return moment + _MICROSECOND if is_cut and moment < LAST else moment


def _read(value: object) -> tuple[datetime, bool]:
    """Return a time in UTC, cut to microseconds, and whether that left anything out."""
    if isinstance(value, datetime):
        return value, False
    found = _DATE_TIME.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        _refuse(
            f"a time with seconds and offset is needed, such as 2026-09-01T08:00:00Z{_hint(value)}"
        )
    year, month, day, hour, minute, second = map(int, found.groups()[:6])
    digits = found[7] or ""
    leap = second == _LEAP_SECOND
    try:
        # The year 0000 is one of the standard, a leap year, and none of Python's.
        local = datetime(
            year or 4,
            month,
            day,
            hour,
            minute,
            59 if leap else second,
            int(digits[:_DIGITS].ljust(_DIGITS, "0")),
            UTC,
        )
    except ValueError:
        _refuse("there is no such time: look at its month, day, hour, minute and second")
    offset = timedelta(hours=int(found[9] or 0), minutes=int(found[10] or 0))
    moment = _in_utc(local, offset if found[8] == "-" else -offset) if year else FIRST
    return _before_leap_second(moment) if leap else (moment, bool(digits[_DIGITS:].strip("0")))


def _in_utc(local: datetime, offset: timedelta) -> datetime:
    try:
        return local + offset
    except OverflowError:
        return FIRST if offset < timedelta() else LAST


def _before_leap_second(moment: datetime) -> tuple[datetime, bool]:
    """Return the time of a leap second. No clock of ours shows it: it is what comes after 59.999999 and before the next minute."""
    is_last_minute = (moment.hour, moment.minute, moment.day) == (
        23,
        59,
        monthrange(moment.year, moment.month)[1],
    )
    if not is_last_minute:
        _refuse("there is no such time: a second 60 is the last of a month, in UTC")
    return moment.replace(microsecond=999_999), True


def _hint(value: object) -> str:
    if not isinstance(value, str) or " " not in value:
        return ""
    return (
        " (write T, not a space, between date and time)"
        if value.find(" ") == len("2026-09-01")
        else " (write + as %2B in a URL, or use Z)"
    )


def _refuse(why: str) -> NoReturn:
    raise InvalidValue("moment", "rfc3339", why)
