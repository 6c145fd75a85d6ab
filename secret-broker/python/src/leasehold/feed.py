"""A stream of what happens, decided without I/O: what to ask for, what the lines mean, and when to come again.

The broker ends every stream sometime: with the token, after an hour, when it stops, or when nobody reads. A feed goes
on where it was, by the id of the last event, so that events may come twice and none is left out without a word: where
the broker does not keep what was missed, an event `lost` says so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlencode

import httpx

from leasehold import wire
from leasehold.flow import Answer, Budget, NoAnswer, Pace, Request, Send, failure_of, may_pass
from leasehold.records import CatalogueChange, Lease, Operation, Unreadable, read

Kind = Literal["operations", "leases", "catalogue"]

LONGEST_SILENCE_SECONDS = 60.0
"""The broker says every 15 s that it is still there."""
RECORDS = {"operation": Operation, "lease": Lease, "catalogue": CatalogueChange}


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """Something that happened."""

    kind: str
    """`operation`, `lease` or `catalogue`; `opened` at the beginning of each stream; `lost`, before that, where some of
    what happened is not kept: read the lists again.
    """
    id: str
    """Where to go on after it."""
    data: Operation | Lease | CatalogueChange | Mapping[str, Any]
    """What it is about, as it was then; a lease without its place."""


class Feed:
    """One listener, over as many streams as it takes."""

    def __init__(self, kinds: tuple[Kind, ...], after: str | None, seconds: float, pace: Pace) -> None:
        query = urlencode({"kinds": ",".join(kinds)}) if kinds else ""
        self.request = Request("GET", ("events",), query)
        self._after = after or ""
        self._seconds = seconds
        self._pace = pace
        self._tries = 0
        self._budget = Budget(seconds)
        self._fields: dict[str, str] = {}

    @property
    def send(self) -> Send:
        """What is sent to open the next stream."""
        return Send(self.request, LONGEST_SILENCE_SECONDS)

    def headers(self, headers: httpx.Headers) -> httpx.Headers:
        """Give the headers with what makes it go on where it was."""
        headers["Accept"] = "text/event-stream, application/problem+json"
        if self._after:
            headers["Last-Event-ID"] = self._after
        return headers

    def timeout(self) -> httpx.Timeout:
        """Give how long a stream may say nothing."""
        return httpx.Timeout(LONGEST_SILENCE_SECONDS, connect=wire.CONNECT_SECONDS)

    def opened(self) -> None:
        """Begin to read a stream."""
        self._tries = 0
        self._fields = {}

    def line(self, line: str) -> StreamEvent | None:
        """Take a line; gives an event where it is the end of one that can be read."""
        if line:
            name, _, value = line.partition(":")
            # A line without a name is a comment.
            if name:
                self._fields[name] = value.removeprefix(" ")
            return None
        fields, self._fields = self._fields, {}
        self._after = fields.get("id", self._after)
        if "data" not in fields:
            return None
        kind = fields.get("event", "")
        try:
            data = json.loads(fields["data"])
            record = RECORDS.get(kind)
            return StreamEvent(kind, self._after, read(record, data) if record else data)
        except (ValueError, RecursionError, Unreadable):
            # A newer broker's, perhaps.
            return None

    def pause(self, reply: Answer | NoAnswer | None) -> float:
        """Give how long to wait before coming again, after the end of a stream or the reply to an attempt; raises where
        coming again is of no use, or has been for too long.
        """
        if reply is None:
            self._budget = Budget(self._seconds)
            return self._pace.pause(1)
        failure = failure_of(reply)
        if failure is None:
            self._budget = Budget(self._seconds)
            return self._pace.pause(1)
        if self._tries == 0:
            self._budget = Budget(self._seconds)
        self._tries += 1
        pause = self._pace.pause(self._tries, reply.retry_after if isinstance(reply, Answer) else None)
        if not may_pass(reply, failure) or pause >= self._budget.left:
            raise failure
        return pause
