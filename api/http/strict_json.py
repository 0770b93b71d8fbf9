"""Reading JSON (RFC 8259) so that nothing is lost in silence.

No name stands twice in an object, and no number would become another one.
"""

import json
from collections.abc import Iterator
from typing import Any, NoReturn

from rosterlog.domain.values import Place, pointer

MOST_VALUES = 70_000
"""Most values of a text, counted by the characters that separate them.

They are more than 10,000 items have, and more than the largest settings (64 KiB of commas). Python
reads so many in under 50 ms, and holds the interpreter meanwhile.
"""
MOST_DIGITS = 1000
"""Most digits of an integer: Python's work grows with their square."""


class BadJson(ValueError):
    """The text is no JSON that can be taken.

    The error says the place (a JSON pointer), the rule and what is wrong.
    """

    def __init__(self, pointer: str, rule: str, detail: str) -> None:
        """Name place, rule and what is wrong."""
        super().__init__(detail)
        self.pointer, self.rule, self.detail = pointer, rule, detail


class _Wrong:
    """Stands in the place of a value that can't be taken."""

    __slots__ = ("detail", "key", "rule")

    def __init__(self, rule: str, detail: str, key: str | None = None) -> None:
        self.rule, self.detail, self.key = rule, detail, key


def read(text: bytes | str) -> Any:
    """Return the value of a JSON text, as UTF-8 where it is bytes. Raises `BadJson`."""
    found: list[_Wrong] = []
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8-sig")
        _refuse_too_many(text)
        value = _decoder(found).decode(text)
    except RecursionError:
        raise BadJson("", "json", "the body is no JSON: it is nested too deeply") from None
    except ValueError as wrong:
        raise (
            wrong
            if isinstance(wrong, BadJson)
            else BadJson("", "json", f"the body is no JSON: {wrong}")
        ) from None
    if found:
        raise _located(value)
    return value


def _refuse_too_many(text: str) -> None:
    values = sum(map(text.count, ",[{"))
    if values > MOST_VALUES:
        raise BadJson(
            "",
            "json",
            f"the body has about {values} values, and at most {MOST_VALUES} are read: send "
            "less at once",
        )


def _decoder(found: list[_Wrong]) -> json.JSONDecoder:
    """Return a decoder that leaves a mark where a value can't be taken, and adds it to `found`."""

    def mark(rule: str, detail: str, key: str | None = None) -> _Wrong:
        wrong = _Wrong(rule, detail, key)
        found.append(wrong)
        return wrong

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any] | _Wrong:
        made = dict(pairs)
        if len(made) == len(pairs):
            return made
        return mark(
            "given-twice",
            "the name stands twice in one object: give it once",
            _first_repeated(name for name, _ in pairs),
        )

    def number(digits: str) -> float | _Wrong:
        value = float(digits)
        if value or found or not set("123456789").intersection(digits.lower().partition("e")[0]):
            return value
        return mark("number", "the number is too small: JSON readers take it for 0")

    return json.JSONDecoder(
        object_pairs_hook=members,
        parse_float=number,
        parse_int=_integer,
        parse_constant=_refuse_constant,
    )


def _first_repeated(names: Iterator[str]) -> str:
    seen: set[str] = set()
    return next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]


def _integer(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _located(value: Any) -> BadJson:
    """Return the error about the first mark in a value.

    A stack of our own: the value may be deeper than Python's calls.
    """
    waiting: list[tuple[Place, Any]] = [(None, value)]
    while waiting:
        place, one = waiting.pop()
        match one:
            case _Wrong():
                return BadJson(
                    pointer(place if one.key is None else (place, one.key)), one.rule, one.detail
                )
            case dict():
                waiting.extend(((place, key), inner) for key, inner in reversed(one.items()))
            case list():
                waiting.extend(
                    ((place, index), inner) for index, inner in reversed(list(enumerate(one)))
                )
    raise AssertionError("what was marked stands in the value")
