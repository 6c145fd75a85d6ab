"""A stream of events goes on where it was, and says what it could not hear."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from conftest import Ask
from standin import Script, operation, problem

import leasehold


def stream(*events: str) -> httpx.Response:
    """Make a stream that ends after so many events."""
    return httpx.Response(200, text="".join(events), headers={"Content-Type": "text/event-stream"})


def event(kind: str, mark: str, data: str = "{}") -> str:
    """Make an event as the broker writes it."""
    return f"id: {mark}\nevent: {kind}\ndata: {data}\n\n"


def some(count: int, *kinds: Any, **options: Any) -> Any:
    """Listen to so many events."""

    def listen(client: Any) -> Any:
        found = client.events(*kinds, **options)
        if isinstance(found, Iterator):
            return itertools.islice(found, count)
        return taken(found, count)

    return listen


async def taken(events: AsyncIterator[Any], count: int) -> AsyncIterator[Any]:
    """Give the first of them."""
    left = count
    async for found in events:
        yield found
        left -= 1
        if not left:
            return


def test_events_are_records_and_what_is_no_event_is_none(ask: Ask) -> None:
    told = json.dumps(operation())
    changed = '{"dataset": "00", "what": {"event": "dataset_described"}}'
    script = Script(
        stream(
            event("opened", "1.1"),
            ": still here\nid: 2.1\n\n",
            event("operation", "2.2", told),
            event("unheard_of", "3.2", '{"new": 1}'),
            event("lease", "3.3", "[]"),
            event("catalogue", "4.3", changed),
        )
    )
    heard = ask(script, some(4, "operations", "catalogue"))
    assert [(found.kind, found.id) for found in heard] == [
        ("opened", "1.1"),
        ("operation", "2.2"),
        ("unheard_of", "3.2"),
        ("catalogue", "4.3"),
    ]
    assert heard[1].data.is_decided
    assert heard[3].data == leasehold.CatalogueChange("00", {"event": "dataset_described"})
    assert script.seen[0].url.params["kinds"] == "operations,catalogue"
    assert script.seen[0].headers["Accept"].startswith("text/event-stream")
    assert "Last-Event-ID" not in script.seen[0].headers


def test_a_stream_that_ends_goes_on_where_it_was(ask: Ask) -> None:
    script = Script(
        stream(event("opened", "1.1"), ": still here\nid: 7.1\n\n", "id: 8.1\nevent: opened"),
        httpx.ConnectError("refused"),
        problem(503, "unavailable"),
        stream(event("opened", "7.1"), event("lost", "9.1")),
    )
    heard = ask(script, some(3, after="0.1"))
    assert [found.kind for found in heard] == ["opened", "opened", "lost"]
    marks = [request.headers["Last-Event-ID"] for request in script.seen]
    assert marks == ["0.1", "7.1", "7.1", "7.1"], "a half of an event is none"


def test_where_coming_again_is_of_no_use_it_raises(ask: Ask) -> None:
    with pytest.raises(leasehold.Unauthenticated):
        ask(Script(stream(event("opened", "1.1")), problem(401, "unauthenticated")), some(2))
    with pytest.raises(leasehold.Unavailable):
        ask(Script(httpx.ConnectError("refused")), some(1, timeout=0.01))
