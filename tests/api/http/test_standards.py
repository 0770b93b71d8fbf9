"""Values that callers send are read by the whole of their standard.

They are times (RFC 3339), entity tags, preferences, keys and reasons.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rosterlog.api.rest import headers
from rosterlog.api.rest.schemas import moments
from rosterlog.domain.errors import InvalidValue
from tests.api.client import Api, done, error, problem
from tests.api.http.test_bad_input import School, made

__all__ = ["made"]

TIMES = {
    "2026-09-01T08:00:00Z": "08:00:00",
    "2026-09-01t08:00:00z": "08:00:00",
    "2026-09-01T08:00:00.1Z": "08:00:00.1",
    "2026-09-01T08:00:00.1234567Z": "08:00:00.123456|7",
    "2026-09-01T08:00:00.123456000Z": "08:00:00.123456",
    "2026-09-01T08:00:00." + "9" * 400 + "Z": "08:00:00.999999|08:00:01",
    "2026-09-01T08:00:00-00:00": "08:00:00",
    "2026-09-01T08:00:00+00:00": "08:00:00",
    "2026-09-02T07:59:00+23:59": "08:00:00",
    "2026-08-31T08:01:00.5-23:59": "08:00:00.5",
}


@pytest.mark.parametrize("written", TIMES)
def test_a_time_in_every_form(made: School, written: str) -> None:
    cut, _, raised = TIMES[written].partition("|")
    expected = datetime.fromisoformat(f"2026-09-01T{cut}+00:00")
    ceiling = (
        datetime.fromisoformat(f"2026-09-01T{raised}+00:00")
        if ":" in raised
        else expected + timedelta(microseconds=bool(raised))
    )
    assert (moments.floor(written), moments.ceiling(written)) == (expected, ceiling)
    done(made.api.get(f"/v1/users/{made.user}/history", params={"since": written}), 200)


def test_a_leap_second_is_the_end_of_the_second_before_it() -> None:
    for written in (
        "1990-12-31T23:59:60Z",
        "1990-12-31T15:59:60-08:00",
        "1991-01-01T05:29:60.25+05:30",
    ):
        assert moments.floor(written) == datetime(1990, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
        assert moments.ceiling(written) == datetime(1991, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        ("0000-02-29T00:00:00Z", moments.FIRST), ("0001-01-01T00:00:00+23:59", moments.FIRST),
        ("0001-01-01T00:00:00Z", moments.FIRST),
        ("9999-12-31T23:59:59-00:01", moments.LAST), ("9999-12-31T23:59:59.9999999Z", moments.LAST),
    ],
)  # fmt: skip
def test_a_time_before_or_after_all_others_is_one(
    made: School, written: str, moment: datetime
) -> None:
    assert moments.floor(written) == moments.ceiling(written) == moment
    problem(
        made.api.get(f"/v1/users/{made.user}", params={"as_of": written}),
        *((404, "user-unknown") if moment == moments.FIRST else (422, "invalid-request")),
    )
    done(made.api.get("/v1/history", params={"since": written}), 200)


NO_TIMES = [
    "2026-09-01", "2026-09-01T08:00Z", "2026-09-01T08:00:00", "2026-09-01 08:00:00Z",
    "2026-09-01T08:00:00 02:00", "1756713600",
    "2026-09-01T24:00:00Z", "2026-09-01T08:60:00Z", "2026-09-01T08:00:60Z", "2026-09-01T23:59:60Z",
    "2026-09-01T08:00:61Z",
    "2026-13-01T08:00:00Z", "2026-02-29T08:00:00Z", "2026-09-01T08:00:00.Z",
    "2026-09-01T08:00:00,5Z", "2026-09-01T08:00:00+24:00",
    "2026-09-01T08:00:00+0200", "2026-09-01T08:00:00+02:60", "2026-W36-2T08:00:00Z",
    "20260901T080000Z", "+2026-09-01T08:00:00Z",
    "0000-02-30T00:00:00Z", "2026-09-01T08:00:00Z\n", "\uff12026-09-01T08:00:00Z",
]  # fmt: skip


@pytest.mark.parametrize("written", NO_TIMES)
def test_what_is_no_time_is_named(made: School, written: str) -> None:
    for path, parameter in (
        (f"/v1/classes/{made.class_}", "as_of"),
        ("/v1/history", "since"),
        ("/v1/history", "until"),
    ):
        found = error(made.api.get(path, params={parameter: written}))
        assert (found["parameter"], found["rule"]) == (parameter, "rfc3339")


@settings(deadline=None, max_examples=300)
@given(
    st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 1, 1)),  # noqa: DTZ001
    st.integers(-1439, 1439),
    st.text("0123456789", max_size=12),
)
def test_a_time_is_cut_to_the_microsecond_before_it_and_raised_to_the_one_after(
    at: datetime, minutes: int, finer: str
) -> None:
    sign, offset = "-" if minutes < 0 else "+", abs(minutes)
    written = (
        f"{at.isoformat(timespec='microseconds')}{finer}{sign}{offset // 60:02}:{offset % 60:02}"
    )
    exact = at.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    assert moments.floor(written) == exact
    assert moments.ceiling(written) == exact + timedelta(microseconds=bool(finer.strip("0")))


def test_a_time_finer_than_a_microsecond_asks_for_what_was_so(made: School) -> None:
    at = made.api.items(f"/v1/users/{made.user}/history")[0]["recorded_at"]
    finer = datetime.fromisoformat(at).isoformat(timespec="microseconds").replace("+00:00", "9Z")
    history = f"/v1/users/{made.user}/history"
    recorded = [event["recorded_at"] for event in made.api.items(history)]
    assert [event["recorded_at"] for event in made.api.items(history, since=finer)] == [
        one for one in recorded if one != at
    ]
    assert at in [event["recorded_at"] for event in made.api.items(history, until=finer)]
    done(made.api.get(f"/v1/users/{made.user}", params={"as_of": finer}), 200)


TAGS: list[tuple[list[str], frozenset[str] | None]] = [
    (['"7"'], frozenset({"7"})),
    (['W/"7"'], frozenset({"7"})),
    (['"a,b", W/"c d'.replace(" d", "d") + '"'], frozenset({"a,b", "cd"})),
    (['"1","2"', '"3"'], frozenset({"1", "2", "3"})),
    ([' , "1" ,, "2",'], frozenset({"1", "2"})),
    (['""'], frozenset({""})),
    (['"\xe9"'], frozenset({"\xe9"})),
    (["*"], None),
    ([" * "], None),
    (['"*"'], frozenset({"*"})),
]


@pytest.mark.parametrize(("lines", "tags"), TAGS)
def test_entity_tags(lines: list[str], tags: frozenset[str] | None) -> None:
    assert headers.entity_tags(lines) == tags


@pytest.mark.parametrize(
    "lines", [["7"], ['"7'], ['w/"7"'], ['"1" "2"'], ['"1", *'], ["*", "*"], ['"a\tb"'], ["1,2"]]
)
def test_what_is_no_list_of_entity_tags_is_refused_where_a_command_relies_on_it(
    lines: list[str],
) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        headers.entity_tags(lines)
    with pytest.raises(InvalidValue):
        headers.expected_versions(lines)


def test_a_command_may_rely_on_one_of_several_versions(made: School) -> None:
    class_id = made.api.new_class(made.group)
    path = f"/v1/classes/{class_id}"
    problem(
        made.api.patch(path, json={"name": "A"}, headers={"If-Match": '"2", "3"'}),
        412,
        "version-stale",
    )
    done(made.api.patch(path, json={"name": "A"}, headers={"If-Match": '"x,y", W/"1", "9"'}), 200)
    assert (
        done(
            made.api.patch(path, json={"name": "B"}, headers={"If-Match": '"2-4f.1"'}), 200
        ).headers["ETag"]
        == '"3"'
    )


PREFERENCES = [
    ("respond-async", True), ("Respond-Async", True), ("wait=10, respond-async", True),
    ("respond-async, wait=10", True),
    ("respond-async;x=1", True), ('respond-async=""', True),
    ("handling=lenient,respond-async ; a", True),
    ('x="a, respond-async"', False), ('x="\\", respond-async"', False), ("x;respond-async", False),
    ("respond-asynchronously", False),
    ("respond-async=no, respond-async", False), ("", False), ("x=respond-async", False),
]  # fmt: skip


@pytest.mark.parametrize(("value", "stated"), PREFERENCES)
def test_preferences(value: str, stated: bool) -> None:
    assert headers.prefers([value], "respond-async") is stated


KEYS = [
    ("abc", "abc"), ('"abc"', "abc"), ('"a b"', "a b"), (r'"a\"b\\c"', 'a"b\\c'),
    ('"abc";x=1;y', "abc"), ('"abc"; x="\\""', "abc"),
    ("8e03978e-40d5-43dd-bc93-6894a57f9324", "8e03978e-40d5-43dd-bc93-6894a57f9324"),
    ("a" * 255, "a" * 255), ("a,b", "a,b"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "key"), KEYS)
def test_idempotency_keys(value: str, key: str) -> None:
    assert headers.idempotency_key(value) == key


@pytest.mark.parametrize(
    "value",
    ["", '""', '"abc', '"a" "b"', '"a", "b"', r'"a\x"', "a b", "a" * 256, '"\xe9"', "\xe9", 'a"b'],
)
def test_what_is_no_idempotency_key_is_refused(value: str) -> None:
    with pytest.raises(InvalidValue):
        headers.idempotency_key(value)


def test_reasons_are_percent_encoded_in_either_case_without_raw_control_characters() -> None:
    assert headers.percent_decoded("caf%c3%a9, %E2%82%ac 5") == "café, € 5"
    for wrong in ("a\tb", "a%b", "%", "%zz", "caf\xe9", "%ff", "a\x7f"):
        with pytest.raises(InvalidValue):
            headers.percent_decoded(wrong)


@pytest.fixture
def school(made: School) -> Iterator[School]:
    with made.api.nothing_recorded():
        yield made


def test_an_actor_has_no_control_characters(school: School) -> None:
    given: dict[Any, Any] = {"Roster-Actor": "a\tb"}
    assert error(school.api.post("/v1/users", headers=given))["header"] == "Roster-Actor"


@pytest.mark.parametrize(
    "media_type",
    [
        'application/json; charset="utf-8"',
        "application/json;charset=UTF-8",
        "APPLICATION/JSON ; a=b",
    ],
)
def test_a_media_type_may_have_parameters(shared: Api, media_type: str) -> None:
    done(
        shared.post(
            "/v1/groups", content=b'\xef\xbb\xbf{"name":"x"}', headers={"Content-Type": media_type}
        ),
        201,
    )
