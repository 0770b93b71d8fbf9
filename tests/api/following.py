"""A reader of the feed as a stream of server-sent events, as strict as a browser's."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

STREAM = {"Accept": "text/event-stream"}


def events(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """Yield the data of each event; a comment is yielded as an empty one.

    Each event has its position as `id`, and no other field.
    """
    fields: dict[str, str] = {}
    for line in lines:
        if line.startswith(":"):
            yield {}
        elif line:
            name, _, value = line.partition(": ")
            assert name not in fields
            fields[name] = value
        elif fields:
            assert fields.keys() == {"id", "data"}
            event = json.loads(fields["data"])
            assert fields["id"] == str(event["position"])
            yield event
            fields = {}


@contextmanager
def following(
    client: httpx.Client, *, last_seen: int | None = None, **parameters: Any
) -> Iterator[Iterator[dict[str, Any]]]:
    """Follow the feed for as long as the context lasts."""
    headers = STREAM | ({} if last_seen is None else {"Last-Event-ID": str(last_seen)})
    with client.stream("GET", "/v1/events", headers=headers, params=parameters) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"].partition(";")[0] == "text/event-stream"
        yield events(response.iter_lines())
