"""What can be asked of the broker, each as a flow. Writes are followed until they are decided."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any, Generic, Literal, TypeVar
from urllib.parse import urlencode

from leasehold.errors import BrokerFailed, DeadlineExceeded, LeaseEnded, LeaseholdError, Misconfigured, Unmountable
from leasehold.flow import Budget, Flow, Pace, Pause, Request, call, look, overdue, parsed, record, records, write
from leasehold.records import Dataset, Lease, Operation, Policy

T = TypeVar("T")
Failure = TypeVar("Failure", bound=LeaseholdError)

Mode = Literal["exclusive", "shared"]
State = Literal["requested", "waiting", "active", "ending", "ended"]
Seconds = int | float | timedelta

REFERENCE = re.compile(r"[a-z0-9-]{1,64}")
SLOWEST_LOOK_AT_MOUNT_SECONDS = 1.0
SLOWEST_LOOK_AT_LINE_SECONDS = 10.0


def one(kind: type[T], path: tuple[str, ...], budget: Budget, pace: Pace) -> Flow[T]:
    """Get one record."""
    return record(kind, (yield from call(Request("GET", path), budget, pace)))


class Pages(Generic[T]):
    """A list that the broker gives page by page."""

    def __init__(self, kind: type[T], path: tuple[str, ...], name: str = "items", **query: str | int | None) -> None:
        self._kind = kind
        self._path = path
        self._name = name
        self._query = {key: str(value) for key, value in query.items() if value is not None}
        self.is_read = False

    def following(self, budget: Budget, pace: Pace) -> Flow[tuple[T, ...]]:
        """Get the next page; `is_read` tells whether it was the last."""
        answer = yield from call(Request("GET", self._path, urlencode(self._query)), budget, pace)
        items = records(self._kind, answer, self._name)
        after = parsed(answer).get("next")
        # One that leads to itself would never end.
        self.is_read = not isinstance(after, str) or after == self._query.get("after")
        if isinstance(after, str):
            self._query["after"] = after
        return items


def moment(time: datetime | None) -> int | None:
    """Give a time in Unix seconds."""
    if time is None:
        return None
    if time.tzinfo is None:
        raise Misconfigured("a time without its zone means another one elsewhere; add one", code="malformed_time")
    return int(time.timestamp())


def change(
    method: str, path: tuple[str, ...], body: Mapping[str, Any] | None, budget: Budget, pace: Pace
) -> Flow[Operation]:
    """Make one write, under a key of its own."""
    return (yield from write(new_write(method, path, body), budget, pace))


def new_write(method: str, path: tuple[str, ...], body: Mapping[str, Any] | None) -> Request:
    """Give a write that is the same at each try."""
    content = None if body is None else json.dumps(body).encode()
    return Request(method, path, body=content, key=str(uuid.uuid4()))


def dataset_change(
    method: str, path: tuple[str, ...], body: Mapping[str, Any], budget: Budget, pace: Pace
) -> Flow[Dataset]:
    """Register or amend a dataset; gives it as it is then."""
    operation = yield from change(method, path, body, budget, pace)
    known = made("dataset", operation, path[-1])
    return (yield from one(Dataset, ("datasets", known), budget, pace))


def lease_change(
    method: str, lease: str, verb: str | None, body: Mapping[str, Any] | None, budget: Budget, pace: Pace
) -> Flow[Lease]:
    """Change a lease; gives it as it is then."""
    path = ("leases", lease, verb) if verb else ("leases", lease)
    yield from change(method, path, body, budget, pace)
    return (yield from one(Lease, ("leases", lease), budget, pace))


def new_lease(dataset: str, ttl: Seconds | None, mode: Mode | None, queue: bool) -> Request:
    """Give the request for a lease."""
    body: dict[str, Any] = {"dataset": reference(dataset)}
    if ttl is not None:
        body["ttl_seconds"] = seconds(ttl)
    if mode is not None:
        body["mode"] = mode
    if queue:
        body["wait"] = True
    return new_write("POST", ("leases",), body)


def granted(request: Request, budget: Budget, pace: Pace) -> Flow[Lease]:
    """Ask for a lease; gives it as the ledger decided, which may be in the line."""
    operation = yield from write(request, budget, pace)
    return (yield from one(Lease, ("leases", made("lease", operation)), budget, pace))


def awaited(lease: str, mounted: bool, budget: Budget, pace: Pace) -> Flow[Lease]:
    """Wait until a lease is active, and where wanted until its data can be mounted. A broker that is away may come
    back.
    """
    request, looks = Request("GET", ("leases", lease)), 0
    answer = yield from call(request, budget, pace, patient=True)
    while not is_there(found := record(Lease, answer), mounted):
        looks += 1
        what = f"lease {found.id} of {found.dataset} ({_still(found)})"
        slowest = SLOWEST_LOOK_AT_MOUNT_SECONDS if found.is_active else SLOWEST_LOOK_AT_LINE_SECONDS
        pause = pace.pause(looks, answer.retry_after, slowest)
        try:
            if pause >= budget.left:
                raise overdue(what, budget)
            yield Pause(pause)
            answer = yield from look(request, what, budget, pace)
        except DeadlineExceeded as error:
            error.lease = found
            raise
    return found


def is_there(lease: Lease, mounted: bool) -> bool:
    """Tell whether what is waited for has come; raises where it cannot come any more."""
    what = f"lease {lease.id} of {lease.dataset}"
    if not lease.is_open:
        why = f": {lease.end_cause}" if lease.end_cause else ""
        words = f" ({lease.end_reason})" if lease.end_reason else ""
        raise about(lease, LeaseEnded(f"{what} ended before it was used{why}{words}", code="lease_ended"))
    if lease.is_active and mounted and lease.mount == "failed":
        why = f"{lease.finding.message} ({lease.finding.code})" if lease.finding else "the node gave no reason"
        detail = f"{what} is granted but its data cannot be mounted: {why}; its owner has to mend it"
        raise about(lease, Unmountable(detail, code="mount_failed"))
    return lease.is_active and (not mounted or lease.mount == "ready")


def about(lease: Lease, error: Failure) -> Failure:
    """Give the exception with the lease that it is about."""
    error.lease = lease
    return error


def _still(lease: Lease) -> str:
    if lease.state == "requested":
        return f"{lease.owner} has to approve it"
    if lease.state == "waiting":
        return f"number {lease.place} in the line" if lease.place else "in the line"
    return "active, not mountable yet"


def made(kind: str, operation: Operation, otherwise: str = "") -> str:
    """Give the id of what an operation made."""
    found = (operation.result or {}).get(kind, otherwise)
    if isinstance(found, str) and REFERENCE.fullmatch(found):
        return found
    raise BrokerFailed(f"operation {operation.id} made a {kind} without an id", code="unintelligible")


def reference(text: str) -> str:
    """Give a name or id; what could mean another path of the API is refused before it is sent."""
    if not REFERENCE.fullmatch(text):
        raise Misconfigured(
            "a name or id has up to 64 lower-case letters, digits and hyphens", code="malformed_reference"
        )
    return text


def seconds(ttl: Seconds) -> int:
    """Give a time in whole seconds."""
    whole = ttl.total_seconds() if isinstance(ttl, timedelta) else ttl
    if not 1 <= whole < 1 << 40:
        raise Misconfigured(f"a lease cannot last {whole} seconds", code="malformed_time")
    return int(whole)


def words(title: str | None, description: str | None, max_ttl: Seconds | None, policy: Policy | None) -> dict[str, Any]:
    """Give what is said of a dataset, without what is left open."""
    limit = None if max_ttl is None else seconds(max_ttl)
    said = {"title": title, "description": description, "max_ttl_seconds": limit, "policy": terms(policy) or None}
    return {name: value for name, value in said.items() if value is not None}


def terms(policy: Policy | None) -> dict[str, Any]:
    """Give what a policy says, without what it leaves open."""
    if policy is None:
        return {}
    said = {field.name: getattr(policy, field.name) for field in fields(policy)}
    return {name: value for name, value in said.items() if value is not None}
