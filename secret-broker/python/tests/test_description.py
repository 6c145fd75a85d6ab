"""The client has all that the broker's API is described to have, and sends nothing else."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import MISSING, fields
from typing import Any

import httpx
import pytest
from conftest import Ask
from real import ROOT
from standin import answer

import leasehold

DESCRIPTION: dict[str, Any] = json.loads((ROOT / "docs" / "openapi.json").read_text())
LEFT_TO_THE_COMMAND = frozenset({"keys"})
"""Tags of what nobody needs a program for."""
LEASE = "0" * 32
VOLUME = {"kind": "local", "path": "/srv/x", "node": "n"}
TERMS = leasehold.Policy(("*",), True, 1, False, 5, 60)
CALLS: list[Any] = [
    lambda client: client.me(),
    lambda client: client.datasets(search="w", page_size=5),
    lambda client: client.dataset("texts"),
    lambda client: client.history("texts", page_size=5),
    lambda client: client.line("texts"),
    lambda client: client.register("texts", title="t", description="d", volume=VOLUME, max_ttl=60, policy=TERMS),
    lambda client: client.amend("texts", title="t", description="d", max_ttl=60, policy=TERMS),
    lambda client: client.remove("texts"),
    lambda client: client.leases(state="active", dataset="texts", page_size=5),
    lambda client: client.get_lease(LEASE),
    lambda client: client.request_lease("texts", ttl=60, mode="shared", queue=True),
    lambda client: client.renew(LEASE, ttl=60),
    lambda client: client.release(LEASE),
    lambda client: client.approve(LEASE),
    lambda client: client.deny(LEASE, reason="r"),
    lambda client: client.revoke(LEASE, reason="r"),
    lambda client: client.declare_ended(LEASE, reason="r"),
    lambda client: client.skeleton(LEASE),
    lambda client: client.skeletons(),
    lambda client: client.operation("op-1"),
    lambda client: client.audit(who="w", about="texts"),
    lambda client: client.events("leases"),
]


def described(request: httpx.Request) -> tuple[str, str, dict[str, Any]]:
    """Find what is said of a request; one that the description does not know fails."""
    for path, methods in DESCRIPTION["paths"].items():
        pattern = re.sub(r"\{\w+\}", "[^/]+", path)
        if re.fullmatch(pattern, request.url.path) and request.method.lower() in methods:
            return request.method, path, methods[request.method.lower()]
    raise AssertionError(f"{request.method} {request.url.path} is not described")


def schema(reference: dict[str, Any]) -> dict[str, Any]:
    """Resolve a reference."""
    found: dict[str, Any] = DESCRIPTION["components"]["schemas"][reference["$ref"].rsplit("/", 1)[-1]]
    return found


def test_every_request_is_one_that_the_broker_describes_and_none_is_missing(ask: Ask) -> None:
    asked = set()
    for call in CALLS:
        seen: list[httpx.Request] = []

        def handler(request: httpx.Request, seen: list[httpx.Request] = seen) -> httpx.Response:
            seen.append(request)
            return answer(400, None)

        with suppress(leasehold.BrokerFailed):
            ask(handler, call)
        request = seen[0]
        method, path, operation = described(request)
        asked.add((method, path))
        allowed = {parameter["name"] for parameter in operation.get("parameters", [])}
        assert set(request.url.params) <= allowed, path
        assert ("Idempotency-Key" in allowed) == ("Idempotency-Key" in request.headers), path
        body = operation.get("requestBody")
        assert (body is not None) == bool(request.content), path
        if body:
            said = json.loads(request.content)
            form = schema(body["content"]["application/json"]["schema"])
            assert set(said) <= set(form["properties"]), path
            assert set(form.get("required", [])) <= set(said), path
    wanted = {
        (method.upper(), path)
        for path, methods in DESCRIPTION["paths"].items()
        for method, operation in methods.items()
        if LEFT_TO_THE_COMMAND.isdisjoint(operation["tags"])
    }
    assert wanted - asked == set()


@pytest.mark.parametrize(
    "record",
    [
        leasehold.AuditRecord,
        leasehold.CatalogueChange,
        leasehold.Dataset,
        leasehold.Event,
        leasehold.Finding,
        leasehold.Lease,
        leasehold.Me,
        leasehold.Operation,
        leasehold.Place,
        leasehold.Policy,
        leasehold.Problem,
        leasehold.Skeleton,
    ],
)
def test_a_record_has_no_field_that_the_broker_does_not_describe_and_needs_none_that_it_may_leave_out(
    record: type[Any],
) -> None:
    form = DESCRIPTION["components"]["schemas"][record.__name__]
    assert {field.name for field in fields(record)} <= set(form["properties"])
    needed = {field.name for field in fields(record) if field.default is MISSING}
    assert needed <= set(form.get("required", []))
