"""What may stand in an event at all."""

from typing import Any

import pytest

from rosterlog.domain import values
from rosterlog.domain.errors import InvalidValue
from rosterlog.domain.values import Provenance

NUL, LONE = "a\0b", "a\ud800b"


def nested(levels: int, leaf: Any) -> dict[str, Any]:
    """Return an object that is so many levels deep, `leaf` counting for none."""
    value: Any = {"leaf": leaf}
    for _ in range(levels - 1):
        value = {"in": value}
    return dict(value)


@pytest.mark.parametrize("length", [1, 100])
def test_a_name_of_1_to_100_characters_is_kept_and_trimmed(length: int) -> None:
    assert values.name(f" \t{'ü' * length}\n") == "ü" * length


@pytest.mark.parametrize("value", ["", "   ", "x" * 101])
def test_a_name_of_another_length_is_refused(value: str) -> None:
    with pytest.raises(InvalidValue, match="1 to 100") as refused:
        values.name(value)
    assert (refused.value.field, refused.value.broken_rule) == ("name", "length")


@pytest.mark.parametrize("value", ["\u200b", "\ufeff", "\u2060 \u200d", "\x01"])
def test_what_cannot_be_seen_is_no_name(value: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        values.name(value)
    assert refused.value.broken_rule == "visible"


def test_a_source_is_as_long_as_history_can_ask_for() -> None:
    assert Provenance(actor="a", source="import:" + "x" * 93).source == "import:" + "x" * 93
    for source in ("", "import:" + "x" * 94, LONE):
        with pytest.raises(InvalidValue):
            Provenance(actor="a", source=source)


def test_characters_are_counted_not_bytes() -> None:
    assert values.name("🎓" * 100) == "🎓" * 100


@pytest.mark.parametrize("rule", [values.name, values.actor, values.reason])
@pytest.mark.parametrize(
    ("value", "broken"), [(NUL, "no-nul"), (LONE, "unicode"), ("a\udfff", "unicode")]
)
def test_text_that_cannot_be_stored_is_refused(rule: Any, value: str, broken: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        rule(value)
    assert refused.value.broken_rule == broken


def test_an_actor_that_looks_like_an_email_address_is_refused() -> None:
    with pytest.raises(InvalidValue, match="opaque") as refused:
        values.actor("a.teacher@example.org")
    assert refused.value.broken_rule == "opaque"


def test_actors_and_reasons_have_their_lengths() -> None:
    assert values.actor("a" * 200) == "a" * 200
    assert values.reason(" " + "r" * 500) == "r" * 500
    for rule, value in [
        (values.actor, "a" * 201),
        (values.reason, "r" * 501),
        (values.actor, " "),
        (values.reason, ""),
    ]:
        with pytest.raises(InvalidValue):
            rule(value)


def test_provenance_checks_and_trims_its_parts() -> None:
    by = Provenance(actor=" registrar ", source="api", reason=" moved ")
    assert (by.actor, by.reason, by.request_id) == ("registrar", "moved", None)
    for wrong in [
        {"actor": "a@b"},
        {"actor": ""},
        {"actor": "a", "reason": " "},
        {"actor": "a", "reason": NUL},
    ]:
        with pytest.raises(InvalidValue):
            Provenance(source="api", **wrong)


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"a": None, "b": True, "c": "ü🎓", "d": [1, -2.5, {"e": []}]},
        {"big": 2**53, "small": -(2**53), "float": float(2**53), "tiny": 5e-324, "zero": -0.0},
        nested(32, 1),
        {"x": "y" * (64 * 1024 - len('{"x":""}'))},
    ],
    ids=["empty", "every type", "limits of numbers", "32 levels", "64 KiB"],
)
def test_settings_within_the_limits_are_kept_unchanged(value: dict[str, Any]) -> None:
    assert values.settings(value) is value


@pytest.mark.parametrize(
    ("value", "rule", "field"),
    [
        ({"a": [1, {"b": NUL}]}, "no-nul", "settings/a/1/b"),
        ({"a": {NUL: 1}}, "no-nul", "settings/a"),
        ({"a": [{"b": LONE}]}, "unicode", "settings/a/0/b"),
        ({"a": {LONE: 1}}, "unicode", "settings/a"),
        ({"a": float("nan")}, "finite", "settings/a"),
        ({"a": [float("inf")]}, "finite", "settings/a/0"),
        ({"a": -float("inf")}, "finite", "settings/a"),
        ({"a": 2**53 + 1}, "number", "settings/a"),
        ({"a": -(2**53) - 1}, "number", "settings/a"),
        ({"a": 1e16}, "number", "settings/a"),
        ({"a": [-1e308]}, "number", "settings/a/0"),
        ({"a": [5e-324] * 250}, "size", "settings"),
        ({"a": [0] * 40_000}, "size", "settings"),
        ({"k" * 60_000: [0] * 2_000 + [NUL]}, "no-nul", "settings/" + "k" * 60_000 + "/2000"),
        ({"a": b"bytes"}, "type", "settings/a"),
        ({"a": (1, 2)}, "type", "settings/a"),
        ({1: "a"}, "type", "settings"),
        ({"x": "y" * (64 * 1024 - len('{"x":""}') + 1)}, "size", "settings"),
        ({"x": "ü" * (32 * 1024)}, "size", "settings"),
        (nested(33, 1), "depth", "settings" + "/in" * 32),
        (nested(32, []), "depth", "settings" + "/in" * 31 + "/leaf"),
        (nested(2000, 1), "depth", "settings" + "/in" * 32),
    ],
)
def test_settings_beyond_a_limit_are_refused_by_rule_and_place(
    value: dict[str, Any], rule: str, field: str
) -> None:
    with pytest.raises(InvalidValue) as refused:
        values.settings(value)
    assert (refused.value.broken_rule, refused.value.field) == (rule, field)


def test_a_number_too_large_for_a_float_is_refused_like_any_other() -> None:
    with pytest.raises(InvalidValue) as refused:
        values.settings({"a": 10**400})
    assert refused.value.broken_rule == "number"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": 1}, {"a": True}, False),
        ({"a": 0}, {"a": False}, False),
        ({"a": 1}, {"a": 1.0}, True),
        ({"a": [0]}, {"a": [-0.0]}, True),
        ({"a": 1.0}, {"a": True}, False),
        ({"a": 1.5}, {"a": 1}, False),
        ({"a": [{"b": 1}]}, {"a": [{"b": True}]}, False),
        ({"a": None}, {}, False),
    ],
)
def test_settings_are_the_same_only_if_they_are_the_same_json(
    one: dict[str, Any], other: dict[str, Any], same: bool
) -> None:
    assert values.same_settings(one, other) is same
