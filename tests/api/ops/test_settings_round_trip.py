"""Accepted settings read back equal, within the size that was checked.

Sent back, they change nothing.
"""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from tests.api.client import Api, done, error

LIMIT = 2**53
JSON_TYPE = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def path(shared: Api) -> str:
    return f"/v1/classes/{shared.new_class()}"


def plain(value: Any) -> Any:
    """Return a JSON value as a reader has it that knows one kind of number."""
    match value:
        case dict():
            return {key: plain(item) for key, item in value.items()}
        case list():
            return [plain(item) for item in value]
        case float():
            return int(value) if value.is_integer() else value
    return value


def compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


NUMBERS = st.one_of(
    st.integers(-LIMIT, LIMIT),
    st.floats(-LIMIT, LIMIT),
    st.sampled_from(
        [
            0.0,
            -0.0,
            1.0,
            1e15,
            1e-7,
            0.1,
            5e-324,
            2.2250738585072014e-308,
            float(LIMIT),
            -float(LIMIT),
        ]
    ),
)
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
TREES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=12,
)


def test_settings_read_back_equal_and_sent_back_change_nothing(shared: Api, path: str) -> None:
    @seed(20261125)
    @settings(
        max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(st.dictionaries(TEXTS, TREES, max_size=6))
    def holds(value: dict[str, Any]) -> None:
        changed = done(shared.patch(path, json={"settings": value}), 200)
        found = shared.read(path)["settings"]
        assert compact(plain(found)) == compact(plain(value))
        tag = changed.headers["ETag"]
        for again in (found, plain(found), value):
            assert done(shared.patch(path, json={"settings": again}), 200).headers["ETag"] == tag
        position = changed.headers["Roster-Position"]
        assert compact(plain(shared.read(path, at_position=position)["settings"])) == compact(
            plain(value)
        )

    holds()


NUMBERS_AS_WRITTEN = {
    "1E+3": 1000, "-0": 0, "-0.0": 0, "1.00": 1, "0e0": 0, "0.0E-999": 0,
    "9007199254740992": LIMIT, "9007199254740992.0": LIMIT,
    "9.007199254740992e15": LIMIT, "1e-7": 1e-7,
    "0.1000000000000000055511151231257827021181583404541015625": 0.1, "5e-324": 5e-324,
}  # fmt: skip
REFUSED = {
    "1e16": "number", "1e308": "number", "-1e308": "number", "9007199254740993": "number",
    "9007199254740994.0": "number",
    "1e309": "finite", "-1e999": "finite", "1e-400": "number", "0.0000001e-330": "number",
    "1" + "0" * 400: "number",
}  # fmt: skip


@pytest.mark.parametrize("written", NUMBERS_AS_WRITTEN)
def test_a_number_reads_back_equal_however_it_is_written(
    shared: Api, path: str, written: str
) -> None:
    body = f'{{"settings":{{"a":[{written},true]}}}}'
    tag = done(shared.patch(path, content=body, headers=JSON_TYPE), 200).headers["ETag"]
    found = shared.read(path)["settings"]
    assert found == {"a": [NUMBERS_AS_WRITTEN[written], True]}
    for again in (body, json.dumps({"settings": found}), json.dumps({"settings": plain(found)})):
        assert (
            done(shared.patch(path, content=again, headers=JSON_TYPE), 200).headers["ETag"] == tag
        )


@pytest.mark.parametrize("written", REFUSED)
def test_a_number_that_readers_would_change_is_refused(
    shared: Api, path: str, written: str
) -> None:
    with shared.nothing_recorded():
        found = error(
            shared.patch(path, content=f'{{"settings":{{"a":[{written}]}}}}', headers=JSON_TYPE)
        )
    assert (found["pointer"], found["rule"]) == ("/settings/a/0", REFUSED[written])


@pytest.mark.parametrize(
    ("number", "most"),
    [("5e-324", 200), ("1e-300", 216), ("1e-5", 8190), ("0.5", 16380), ("7", 32760)],
)
def test_settings_are_as_large_as_they_read_back(
    shared: Api, path: str, number: str, most: int
) -> None:
    done(
        shared.patch(
            path, content=f'{{"settings":{{"a":[{",".join([number] * most)}]}}}}', headers=JSON_TYPE
        ),
        200,
    )
    text = shared.get(path).text
    assert len(text.replace(" ", "").encode()) < 64 * 1024 + 500
    more = f'{{"settings":{{"a":[{",".join([number] * (most + 20))}]}}}}'
    assert error(shared.patch(path, content=more, headers=JSON_TYPE))["rule"] == "size"


def test_true_is_no_number(shared: Api, path: str) -> None:
    tags = [
        done(shared.patch(path, json={"settings": {"a": value}}), 200).headers["ETag"]
        for value in (1, True, 1.0, 0, False, None)
    ]
    assert len(set(tags)) == len(tags)


def test_a_creation_is_the_same_with_its_numbers_written_otherwise(shared: Api) -> None:
    group = shared.new_group()
    new = {"group_id": group, "name": "x", "settings": {"a": 1.0}}
    class_id = done(shared.post("/v1/classes", json=new), 201).json()["id"]
    done(shared.post("/v1/classes", json={**new, "id": class_id, "settings": {"a": 1}}), 200)


@pytest.mark.parametrize("blank", [" ", "\t", "\u00a0", "\u2003", "\u3000"])
def test_a_name_is_found_and_sent_back_as_it_was_trimmed(shared: Api, blank: str) -> None:
    name = f"{blank}Art{blank}and craft{blank}"
    class_id = shared.new_class(name=name)
    found = shared.read(f"/v1/classes/{class_id}")
    assert found["name"] == f"Art{blank}and craft"
    assert class_id in [one["id"] for one in shared.all("/v1/classes", name=name)]
    with shared.nothing_recorded():
        for again in (name, found["name"]):
            done(shared.patch(f"/v1/classes/{class_id}", json={"name": again}), 200)
