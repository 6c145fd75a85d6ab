"""A broker in memory, for what a real one does not do on demand: to answer late, not at all, or wrongly."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx

from leasehold.flow import Pace

TOKEN = "eyJhbGciOiJFUzI1NiJ9.the-persons-own.token"
URL = "http://127.0.0.1:1"
PACE = Pace(first_seconds=0.001, slowest_seconds=0.002, tries=4)
NOW = 1_795_000_000

Handler = Callable[[httpx.Request], httpx.Response]


def answer(status: int, body: Any = None, **headers: str) -> httpx.Response:
    """Make an answer; underscores in names of headers stand for hyphens."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, json=body, headers={"X-Request-Id": "r-1", **names})


def problem(status: int, code: str, **more: Any) -> httpx.Response:
    """Make a refusal."""
    body = {
        "type": f"urn:leasehold:problem:{code}",
        "title": "No",
        "status": status,
        "detail": f"{code}, said the broker",
    }
    return answer(status, body | more)


def operation(status: str = "succeeded", **more: Any) -> dict[str, Any]:
    """Make an operation's record."""
    return {"id": "op-1", "kind": "lease", "status": status, "created_at": NOW, **more}


def me(**more: Any) -> dict[str, Any]:
    """Make the record of who one is."""
    return {"issuer": "provider", "subject": "alice", "username": None, "roles": [], "organisation": "UiSMSP", **more}


class Script:
    """Answers what it is told to, one after the other, the last again and again; an exception breaks the connection."""

    def __init__(self, *steps: httpx.Response | Exception | Handler) -> None:
        self.steps = list(steps)
        self.seen: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
        if isinstance(step, Exception):
            raise step
        return step if isinstance(step, httpx.Response) else step(request)

    @property
    def keys(self) -> list[str | None]:
        """The Idempotency-Keys that were sent."""
        return [request.headers.get("Idempotency-Key") for request in self.seen]


class Standin:
    """One dataset, `texts`, and its leases: decided at once, active at once, mounted when `mount` says so."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.state, self.mount = "active", "ready"
        self.leases: dict[str, dict[str, Any]] = {}
        self.operations: dict[str, dict[str, Any]] = {}
        self.seen: list[tuple[str, str]] = []
        self.ttl_seconds = 3600
        self.before: Callable[[str, str], httpx.Response | Exception | None] = lambda _method, _path: None
        self.after: Callable[[str, str], httpx.Response | Exception | None] = lambda _method, _path: None

    def __call__(self, request: httpx.Request) -> httpx.Response:
        method, path = request.method, request.url.path.removeprefix("/v1")
        with self.lock:
            self.seen.append((method, path))
            given = self.before(method, path) or self._answer(request, method, path)
            given = self.after(method, path) or given
        if isinstance(given, Exception):
            raise given
        return given

    def count(self, method: str, end: str = "") -> int:
        """How many such requests there were."""
        return sum(1 for seen, path in self.seen if seen == method and path.endswith(end))

    @property
    def states(self) -> list[str]:
        """The states of all leases."""
        return [lease["state"] for lease in self.leases.values()]

    def _answer(self, request: httpx.Request, method: str, path: str) -> httpx.Response:
        what, _, rest = path.removeprefix("/").partition("/")
        which, _, verb = rest.partition("/")
        if method != "GET":
            return self._accept(request, method, which, verb)
        if what == "operations":
            return answer(200, self.operations[which])
        if verb == "skeleton":
            return answer(200, {"lease": which, "dataset": "texts", "directories": ["a", "a/b"]})
        if which not in self.leases:
            return problem(404, "not_found")
        return answer(200, self.leases[which])

    def _accept(self, request: httpx.Request, method: str, which: str, verb: str) -> httpx.Response:
        key = request.headers["Idempotency-Key"]
        if key not in self.operations:
            if which and self.leases[which]["state"] not in ("requested", "waiting", "active"):
                return problem(409, "lease_not_active")
            if not which:
                which = f"{len(self.leases):032x}"
                self.leases[which] = self._lease(which)
            elif verb == "renewal":
                self.leases[which]["expires_at"] = int(time.time()) + self.ttl_seconds
            elif method == "DELETE":
                self.leases[which] |= {"state": "ended", "end_cause": "released"}
            self.operations[key] = operation(id=key, result={"lease": which})
        return answer(202, self.operations[key], Location=f"/v1/operations/{key}", Retry_After="1")

    def _lease(self, which: str) -> dict[str, Any]:
        now = int(time.time())
        return {
            "id": which,
            "dataset_id": "d" * 64,
            "dataset": "texts",
            "owner": "UiSMSP",
            "subject": "p",
            "state": self.state,
            "mount": self.mount,
            "asked_at": now,
            "granted_at": now,
            "expires_at": now + self.ttl_seconds,
            "fencing_token": 1,
        }


def body(request: httpx.Request) -> Any:
    """Give the JSON that was sent."""
    return json.loads(request.content)
