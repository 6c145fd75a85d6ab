"""How one call goes, decided without I/O: a flow yields what is to be sent or how long to pause, and is sent the
answer. `Client` and `AsyncClient` carry the same flows out, so that both have the same deadlines, retries and keys.

- A call ends within its budget, retries and pauses included.
- What may pass (nobody answered; 429, 502, 503, 504) is tried again, after what `Retry-After` says and a pause that
  doubles and varies. A write has an Idempotency-Key, the same at each try, so that the broker does it once.
"""

from __future__ import annotations

import json
import random
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, TypeVar

from leasehold import errors
from leasehold.errors import BrokerFailed, DeadlineExceeded, LeaseholdError, Unavailable
from leasehold.records import Operation, Problem, Unreadable, read

T = TypeVar("T")

LONGEST_TRY_SECONDS = 30.0
"""More than the broker takes to say that it gives up."""
LONGEST_RETRY_AFTER_SECONDS = 3600.0
UNREACHABLE = "unreachable"
"""No broker has read the request."""
UNANSWERED = "unanswered"
"""One may have."""
# A person who has all leases that one may have does not get one by waiting a moment.
NOT_PASSING = frozenset({"too_many_leases"})


@dataclass(frozen=True, slots=True)
class Request:
    """A request to the broker. `path` are segments below `/v1`; what people typed is one segment, whatever it holds."""

    method: str
    path: tuple[str, ...]
    query: str = ""
    body: bytes | None = field(default=None, repr=False)
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Send:
    """To be sent once, and answered within so many seconds."""

    request: Request
    seconds: float


@dataclass(frozen=True, slots=True)
class Pause:
    """To be waited."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered. Names of headers are in lower case."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def retry_after(self) -> float | None:
        """How many seconds the broker asks to wait, if it does."""
        text = self.headers.get("retry-after", "")
        return min(float(text), LONGEST_RETRY_AFTER_SECONDS) if text.isascii() and text.isdigit() else None


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """Nobody answered."""

    reason: str
    may_pass: bool = True
    was_sent: bool = True
    """Whether the broker may have read the request."""


Flow = Generator[Send | Pause, Answer | NoAnswer | None, T]


class Budget:
    """How long a call may still take."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds."""
        return self._end - monotonic()


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast is asked again."""

    first_seconds: float = 0.2
    slowest_seconds: float = 5.0
    tries: int = 6

    def pause(self, tries: int, asked: float | None = None, slowest: float | None = None) -> float:
        """Give the pause after so many tries: what was asked for, and some more, that differs between callers."""
        backoff = min(self.first_seconds * 2.0 ** min(tries - 1, 16), slowest or self.slowest_seconds)
        return (asked or 0.0) + backoff * (0.5 + random.random() / 2)  # noqa: S311


def call(request: Request, budget: Budget, pace: Pace, *, patient: bool = False) -> Flow[Answer]:
    """Send until there is an answer that decides. A patient call is bounded by its budget alone."""
    tries = 0
    was_sent = False
    failure: LeaseholdError | None = None
    while budget.left > 0:
        reply = yield Send(request, min(LONGEST_TRY_SECONDS, budget.left))
        failure = failure_of(reply)
        if failure is None:
            assert isinstance(reply, Answer)
            return reply
        tries += 1
        was_sent = was_sent or not isinstance(reply, NoAnswer) or reply.was_sent
        if not may_pass(reply, failure) or (tries >= pace.tries and not patient):
            break
        pause = pace.pause(tries, reply.retry_after if isinstance(reply, Answer) else None)
        if pause >= budget.left:
            break
        yield Pause(pause)
    if failure is None:
        raise overdue("the secret broker's answer", budget)
    if failure.code == UNREACHABLE and was_sent:
        failure.code = UNANSWERED
    raise failure


def write(request: Request, budget: Budget, pace: Pace) -> Flow[Operation]:
    """Send a write and wait until it is decided; a failed operation raises what the write would have, had it been
    decided at once.
    """
    answer = yield from call(request, budget, pace)
    operation = record(Operation, answer)
    looks = 0
    # The broker names the place where to look; only its last part is taken, so that nothing leads elsewhere.
    where = answer.headers.get("location", "").rsplit("/", 1)[-1] or operation.id
    try:
        while not operation.is_decided:
            looks += 1
            pause = pace.pause(looks, answer.retry_after, slowest=1.0)
            if pause >= budget.left:
                raise overdue(f"operation {where}", budget)
            yield Pause(pause)
            answer = yield from look(Request("GET", ("operations", where)), f"operation {where}", budget, pace)
            operation = record(Operation, answer)
    except LeaseholdError as error:
        error.operation = where
        raise
    if operation.status == "succeeded":
        return operation
    unexplained = Problem(
        "urn:leasehold:problem:operation_failed", "Operation failed", 500, f"operation {where} failed"
    )
    raise errors.of_problem(operation.problem or unexplained, answer.headers.get("x-request-id"))


def look(request: Request, what: str, budget: Budget, pace: Pace) -> Flow[Answer]:
    """Look again at what is under way. A broker that is away may come back; if it does not, what is waited for is
    overdue.
    """
    try:
        return (yield from call(request, budget, pace, patient=True))
    except (Unavailable, DeadlineExceeded) as error:
        raise overdue(what, budget) from error


def failure_of(reply: Answer | NoAnswer | None) -> LeaseholdError | None:
    """Tell what a reply is when it is no success."""
    if not isinstance(reply, Answer):
        reason = reply.reason if reply else "nothing was sent"
        detail = f"cannot reach the secret broker: {reason}; check the URL and that the broker runs"
        return Unavailable(detail, code=UNREACHABLE)
    if 200 <= reply.status < 300:
        return None
    request_id = reply.headers.get("x-request-id")
    try:
        problem = read(Problem, json.loads(reply.body))
    except (ValueError, RecursionError):
        return errors.of_status(reply.status, request_id)
    return errors.of_problem(problem, request_id)


def may_pass(reply: Answer | NoAnswer | None, failure: LeaseholdError) -> bool:
    """Tell whether the same may be answered otherwise in a moment."""
    if isinstance(reply, NoAnswer):
        return reply.may_pass
    return isinstance(failure, Unavailable) and failure.code not in NOT_PASSING


def overdue(what: str, budget: Budget) -> DeadlineExceeded:
    """Give the exception for what did not come in time."""
    return DeadlineExceeded(f"{what} was not there after {budget.seconds:g} s", code="deadline_exceeded")


def record(kind: type[T], answer: Answer) -> T:
    """Read a record from an answer."""
    return _read(kind, parsed(answer), answer)


def records(kind: type[T], answer: Answer, name: str = "items") -> tuple[T, ...]:
    """Read a list of records from an answer."""
    content = parsed(answer)
    items = content.get(name) if isinstance(content, dict) else None
    if not isinstance(items, list):
        raise _unintelligible(f"no list {name}", answer)
    return tuple(_read(kind, item, answer) for item in items)


def parsed(answer: Answer) -> Any:
    """Give the JSON of an answer."""
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError):
        pass
    raise _unintelligible("no JSON", answer)


def _read(kind: type[T], data: object, answer: Answer) -> T:
    try:
        return read(kind, data)
    except Unreadable as error:
        reason = str(error)
    raise _unintelligible(reason, answer)


def _unintelligible(reason: str, answer: Answer) -> BrokerFailed:
    return BrokerFailed(
        f"an answer is not a secret broker's: {reason}; check the URL, and that client and broker are of one age",
        code="unintelligible",
        status=answer.status,
        request_id=answer.headers.get("x-request-id"),
    )
