"""What every call promises: retries, keys, deadlines, problems, tokens; through both clients."""

from __future__ import annotations

import pickle
import socket
import threading
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import Ask
from standin import NOW, PACE, TOKEN, URL, Script, Standin, answer, body, me, operation, problem

import leasehold
from leasehold import flow
from leasehold.endpoint import checked_url

BROKEN = httpx.ReadError("the connection was reset")
NOBODY = httpx.ConnectError("connection refused")


def accepted(**more: Any) -> httpx.Response:
    return answer(202, operation(**more), Location="/v1/operations/op-1", Retry_After="0")


def dataset(name: str = "texts", **more: Any) -> dict[str, Any]:
    fields = {"id": "d" * 64, "name": name, "owner": "UiSMSP", "title": "t", "description": "", "max_ttl_seconds": 60}
    return {**fields, "policy": {}, "created_at": NOW, "lease_state": "free", **more}


# Trying again.


def test_a_write_that_is_sent_again_has_the_same_key_and_body(ask: Ask) -> None:
    script = Script(
        NOBODY, BROKEN, problem(503, "unavailable"), accepted(result={"dataset": "texts"}), answer(200, dataset())
    )
    found = ask(script, lambda client: client.amend("texts", title="Three texts"))
    assert found.name == "texts"
    writes = [request for request in script.seen if request.method == "PATCH"]
    assert len(writes) == 4
    assert len({request.headers["Idempotency-Key"] for request in writes}) == 1
    assert {request.content for request in writes} == {writes[0].content}
    assert body(writes[0]) == {"title": "Three texts"}


def test_no_two_writes_share_a_key(ask: Ask) -> None:
    keys: list[str | None] = []
    for _ in range(3):
        script = Script(accepted())
        ask(script, lambda client: client.remove("texts"))
        keys += script.keys
    assert None not in keys
    assert len(set(keys)) == 3


def test_tries_are_bounded(ask: Ask) -> None:
    script = Script(problem(503, "unavailable"))
    with pytest.raises(leasehold.Unavailable) as failed:
        ask(script, lambda client: client.me())
    assert (failed.value.code, failed.value.status, len(script.seen)) == ("unavailable", 503, PACE.tries)


def test_a_broker_that_is_away_for_a_moment_only_delays_a_call(ask: Ask) -> None:
    script = Script(NOBODY, problem(429, "too_many_requests"), answer(502, None), answer(200, me()))
    assert ask(script, lambda client: client.me()).subject == "alice"


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "invalid_field", leasehold.Invalid),
        (401, "unauthenticated", leasehold.Unauthenticated),
        (403, "forbidden", leasehold.Forbidden),
        (404, "dataset_not_found", leasehold.NotFound),
        (409, "lease_conflict", leasehold.Conflict),
        (418, "new", leasehold.Refused),
        (422, "idempotency_key_reused", leasehold.Invalid),
        (429, "too_many_leases", leasehold.Unavailable),
        (500, "internal", leasehold.BrokerFailed),
    ],
)
def test_what_waiting_does_not_change_is_asked_once(
    ask: Ask, status: int, code: str, kind: type[leasehold.LeaseholdError]
) -> None:
    script = Script(problem(status, code))
    with pytest.raises(leasehold.LeaseholdError) as failed:
        ask(script, lambda client: client.request_lease("texts"))
    assert type(failed.value) is kind
    assert failed.value.code == code
    assert len(script.seen) == 1


def pauses(*replies: flow.Answer | flow.NoAnswer, pace: flow.Pace | None = None) -> list[float]:
    """How long is paused between replies."""
    found = []
    steps = flow.call(flow.Request("GET", ("me",)), flow.Budget(3600), pace or flow.Pace())
    with suppress(StopIteration, leasehold.LeaseholdError):
        step = next(steps)
        for reply in replies:
            step = steps.send(reply)
            if isinstance(step, flow.Pause):
                found.append(step.seconds)
                step = steps.send(None)
    return found


def test_what_the_broker_asks_to_wait_is_waited() -> None:
    busy = flow.Answer(503, {"retry-after": "7"}, b"")
    assert all(7 < pause < 13 for pause in pauses(busy, busy, busy))
    assert len(pauses(busy, busy, busy)) == 3
    # Neither a date that is none nor a number without end keeps anybody.
    odd = [flow.Answer(503, {"retry-after": text}, b"") for text in ("soon", "-1", "9" * 400)]
    assert [pause < 3700 for pause in pauses(*odd)] == [True, True]


def test_pauses_grow_and_differ_between_callers() -> None:
    away = [flow.NoAnswer("refused")] * 5
    for pause, most in zip(pauses(*away), (0.2, 0.4, 0.8, 1.6, 3.2), strict=True):
        assert most / 2 <= pause <= most
    assert len({tuple(pauses(*away)) for _ in range(5)}) == 5
    patient = pauses(*[flow.NoAnswer("refused")] * 300, pace=flow.Pace(tries=1000))
    assert len(patient) == 300
    assert max(patient) <= 5.0


# Writes, followed.


def test_an_accepted_write_is_followed_where_the_broker_says_until_it_is_decided(ask: Ask) -> None:
    script = Script(
        answer(202, operation("pending", id="x"), Location="/v1/operations/op-7", Retry_After="0"),
        answer(200, operation("running")),
        NOBODY,
        problem(503, "unavailable"),
        answer(200, operation("succeeded")),
    )
    ask(script, lambda client: client.remove("texts"))
    assert [request.url.path for request in script.seen] == ["/v1/datasets/texts"] + ["/v1/operations/op-7"] * 4


def test_a_write_that_fails_raises_what_it_would_have_raised_at_once(ask: Ask) -> None:
    why = {
        "type": "urn:leasehold:problem:dataset_leased",
        "title": "Dataset leased",
        "status": 409,
        "detail": "it is leased",
    }
    script = Script(accepted(status="pending"), answer(200, operation("failed", problem=why)))
    with pytest.raises(leasehold.Conflict, match=r"it is leased \(dataset_leased\)"):
        ask(script, lambda client: client.remove("texts"))
    script = Script(accepted(status="failed"))
    with pytest.raises(leasehold.BrokerFailed, match="operation_failed"):
        ask(script, lambda client: client.remove("texts"))


def test_no_answer_leads_a_token_elsewhere(ask: Ask) -> None:
    elsewhere = "http://evil.example/v1/operations/op-1"
    script = Script(
        answer(202, operation("pending"), Location=elsewhere, Retry_After="0"), answer(200, operation("succeeded"))
    )
    ask(script, lambda client: client.remove("texts"))
    assert {request.url.netloc for request in script.seen} == {b"127.0.0.1:1"}
    script = Script(answer(307, None, Location="http://evil.example/v1/me"))
    with pytest.raises(leasehold.BrokerFailed):
        ask(script, lambda client: client.me())
    assert len(script.seen) == 1


# Deadlines.


def test_a_call_ends_within_its_deadline_and_says_which_operation_may_still_be_decided(ask: Ask) -> None:
    script = Script(accepted(status="pending"), answer(200, operation("running")))
    started = time.monotonic()
    with pytest.raises(leasehold.DeadlineExceeded) as failed:
        ask(script, lambda client: client.remove("texts", timeout=0.3))
    assert time.monotonic() - started < 5
    assert failed.value.operation == "op-1"
    assert isinstance(failed.value, TimeoutError)
    # Also where the broker goes away meanwhile.
    script = Script(accepted(status="pending"), NOBODY)
    with pytest.raises(leasehold.DeadlineExceeded) as failed:
        ask(script, lambda client: client.remove("texts", timeout=0.3))
    assert failed.value.operation == "op-1"
    with pytest.raises(leasehold.DeadlineExceeded):
        ask(Script(answer(200, me())), lambda client: client.me(timeout=0))


def test_an_answer_that_drips_ends_with_the_deadline(ask: Ask) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def drip() -> None:
        with suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
                while not over.wait(0.02):
                    connection.sendall(b" ")

    dripping = threading.Thread(target=drip)
    dripping.start()
    started = time.monotonic()
    try:
        with pytest.raises(leasehold.Unavailable, match="not complete"):
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            ask(None, lambda client: client.me(timeout=0.5), url=url, transport=None)
        assert time.monotonic() - started < 5
    finally:
        over.set()
        listener.close()
        dripping.join()


# What is told.


def test_a_problem_is_told_with_all_that_the_broker_said(ask: Ask) -> None:
    script = Script(problem(400, "invalid_field", field="ttl_seconds", instance="urn:uuid:r-2", title="Invalid field"))
    with pytest.raises(leasehold.Invalid) as failed:
        ask(script, lambda client: client.request_lease("texts", ttl=5))
    error = failed.value
    assert (error.code, error.title, error.field, error.status) == (
        "invalid_field",
        "Invalid field",
        "ttl_seconds",
        400,
    )
    assert error.request_id == "r-1"
    assert error.detail == "invalid_field, said the broker"
    assert str(error) == "invalid_field, said the broker (invalid_field in ttl_seconds)"
    assert isinstance(error, leasehold.Refused)


def test_exceptions_and_records_go_from_process_to_process(ask: Ask) -> None:
    with pytest.raises(leasehold.Conflict) as failed:
        ask(Script(problem(409, "lease_conflict", field="x")), lambda client: client.request_lease("texts"))
    there = pickle.loads(pickle.dumps(failed.value))  # noqa: S301
    assert type(there) is leasehold.Conflict
    assert (str(there), vars(there)) == (str(failed.value), vars(failed.value))
    found = ask(Script(answer(200, dataset())), lambda client: client.dataset("texts"))
    assert pickle.loads(pickle.dumps(found)) == found  # noqa: S301


def test_fields_that_are_new_are_ignored_and_what_is_no_record_is_told(ask: Ask) -> None:
    script = Script(answer(200, me(quota={"of": [1]}, roles=["steward"])))
    found = ask(script, lambda client: client.me())
    assert found == leasehold.Me("provider", "alice", "UiSMSP", None, ("steward",))
    with pytest.raises(AttributeError):
        found.subject = "bob"
    deep = b"[" * 200_000
    strange: Any
    for strange in (
        [],
        {"items": None},
        {**me(), "roles": "steward"},
        {**me(), "issuer": 1},
        {"issuer": "x"},
        "<html>",
    ):
        with pytest.raises(leasehold.BrokerFailed, match="unintelligible"):
            ask(Script(answer(200, strange)), lambda client: client.me())
    for status in (200, 400):
        with pytest.raises(leasehold.BrokerFailed, match="unintelligible"):
            ask(Script(httpx.Response(status, content=deep)), lambda client: client.me())


def test_records_have_times_and_nested_records(ask: Ask) -> None:
    terms = {"organisations": ["*"], "exclusive": True, "most_shared": 0, "something": "new"}
    finding = {"code": "path_missing", "message": "it is not there"}
    script = Script(answer(200, {"items": [dataset(policy=terms, finding=finding), dataset("other")]}))
    [first, second] = ask(script, lambda client: client.datasets())
    assert first.created_at.timestamp() == NOW
    assert first.created_at.tzinfo is not None
    assert first.policy == leasehold.Policy(organisations=("*",), exclusive=True, most_shared=0)
    assert first.finding == leasehold.Finding("path_missing", "it is not there")
    assert second.finding is None
    standin = Standin()
    standin.leases["0" * 32] = standin._lease("0" * 32) | {"state": "waiting", "granted_at": 0}
    waiting = ask(standin, lambda client: client.get_lease("0" * 32))
    assert waiting.granted_at is None
    assert waiting.expires_at is not None
    with pytest.raises(leasehold.BrokerFailed, match="not a time"):
        ask(Script(answer(200, dataset(created_at=10**30))), lambda client: client.dataset("texts"))


def test_a_list_is_read_page_by_page(ask: Ask) -> None:
    pages = [
        answer(200, {"items": [dataset("a"), dataset("b")], "next": "x+/&y"}),
        answer(200, {"items": [], "next": "z"}),
        answer(200, {"items": [dataset("c")]}),
    ]
    script = Script(*pages)
    assert [found.name for found in ask(script, lambda client: client.datasets(page_size=2))] == ["a", "b", "c"]
    assert [dict(request.url.params) for request in script.seen] == [
        {"limit": "2"},
        {"limit": "2", "after": "x+/&y"},
        {"limit": "2", "after": "z"},
    ]
    # A page that leads to itself is the last.
    script = Script(answer(200, {"items": [dataset("a")], "next": "x"}))
    assert len(ask(script, lambda client: client.datasets())) == 2


def test_a_page_is_asked_for_when_it_is_wanted() -> None:
    script = Script(answer(200, {"items": [dataset("a")], "next": "x"}), answer(200, {"items": [dataset("b")]}))
    with leasehold.Client(URL, token=lambda: TOKEN, transport=httpx.MockTransport(script)) as client:
        found = client.datasets()
        assert script.seen == []
        assert next(found).name == "a"
        assert len(script.seen) == 1
        assert [last.name for last in found] == ["b"]


def test_what_could_mean_another_path_is_refused_before_anything_is_sent(ask: Ask) -> None:
    script = Script(answer(200, me()))
    for reference in ("", "..", ".", "a/b", "a%2fb", "a?b", "A", "ü", "f" * 65, "a\n"):
        for call in (
            lambda client, name=reference: client.dataset(name),
            lambda client, name=reference: client.get_lease(name),
            lambda client, name=reference: client.operation(name),
            lambda client, name=reference: client.request_lease(name),
        ):
            with pytest.raises(leasehold.Misconfigured):
                ask(script, call)
    for ttl in (0, -1, float("inf"), float("nan")):
        with pytest.raises(leasehold.Misconfigured):
            ask(script, lambda client, ttl=ttl: client.request_lease("texts", ttl=ttl))
    assert script.seen == []


def test_decisions_of_stewards_are_sent_as_the_broker_takes_them(ask: Ask) -> None:
    calls: list[tuple[Any, str, str, Any]] = [
        (lambda client, which: client.renew(which, ttl=60), "POST", "/renewal", {"ttl_seconds": 60}),
        (lambda client, which: client.renew(which), "POST", "/renewal", {}),
        (lambda client, which: client.release(which), "DELETE", "", None),
        (lambda client, which: client.approve(which), "POST", "/approval", None),
        (lambda client, which: client.deny(which, reason="no"), "POST", "/denial", {"reason": "no"}),
        (lambda client, which: client.revoke(which, reason="no"), "POST", "/revocation", {"reason": "no"}),
        (lambda client, which: client.declare_ended(which, reason="no"), "POST", "/declaration", {"reason": "no"}),
    ]
    which = "0" * 32
    for call, method, verb, said in calls:
        standin = Standin()
        standin.leases[which] = standin._lease(which)
        seen: list[httpx.Request] = []

        def handler(
            request: httpx.Request, standin: Standin = standin, seen: list[httpx.Request] = seen
        ) -> httpx.Response:
            seen.append(request)
            return standin(request)

        found = ask(handler, lambda client, call=call: call(client, which))
        assert found.id == which
        assert (seen[0].method, seen[0].url.path) == (method, f"/v1/leases/{which}{verb}")
        assert (body(seen[0]) if seen[0].content else None) == said


# Tokens.


def test_the_token_is_read_anew_for_each_request(ask: Ask, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")

    def rotate(request: httpx.Request) -> httpx.Response:
        file.write_text("second\n")
        return problem(503, "unavailable")

    script = Script(rotate, answer(200, me()))
    ask(script, lambda client: client.me(), token_file=file)
    assert [request.headers["Authorization"] for request in script.seen] == ["Bearer first", "Bearer second"]

    tokens = iter(["third", "fourth"])
    script = Script(problem(503, "unavailable"), answer(200, me()))
    ask(script, lambda client: client.me(), token=lambda: next(tokens))
    assert [request.headers["Authorization"] for request in script.seen] == ["Bearer third", "Bearer fourth"]


def test_a_token_may_be_awaited_where_there_is_an_event_loop(ask: Ask, request: pytest.FixtureRequest) -> None:
    async def token() -> str:
        return "awaited"

    script = Script(answer(200, me()))
    if request.node.callspec.id == "sync":
        with pytest.raises(leasehold.Misconfigured, match="AsyncClient"):
            ask(script, lambda client: client.me(), token=lambda: NeverAwaited())
        return
    ask(script, lambda client: client.me(), token=token)
    assert script.seen[0].headers["Authorization"] == "Bearer awaited"


class NeverAwaited:
    """Awaitable, and no coroutine that would complain."""

    def __await__(self) -> Any:
        raise AssertionError


def test_no_error_and_no_repr_shows_the_token(ask: Ask, tmp_path: Path) -> None:
    def fail() -> str:
        raise ValueError(TOKEN)

    failing: list[tuple[Script, dict[str, Any]]] = [
        (Script(NOBODY), {}),
        (Script(BROKEN), {}),
        (Script(problem(401, "unauthenticated")), {}),
        (Script(answer(500, None)), {}),
        (Script(answer(200, [])), {}),
        (Script(answer(200, me())), {"token": lambda: f"{TOKEN} {TOKEN}"}),
        (Script(answer(200, me())), {"token": fail}),
    ]
    for script, options in failing:
        with pytest.raises(leasehold.LeaseholdError) as failed:
            ask(script, lambda client: client.me(), **options)
        assert failed.value.__cause__ is None
        assert failed.value.__context__ is None
        told = [str(failed.value), repr(failed.value)]
        told += traceback.TracebackException.from_exception(failed.value, capture_locals=True).format()
        assert TOKEN not in "".join(told)
        assert all(TOKEN not in repr(request.headers) for request in script.seen)
    client = leasehold.Client(URL, token=lambda: TOKEN)
    assert repr(client) == f"Client('{URL}')"
    assert TOKEN not in repr(vars(client))


def test_a_token_file_holds_one_token_and_nothing_else(ask: Ask, tmp_path: Path) -> None:
    file = tmp_path / "token"
    for content in (b"", b"\n", b"two words", b"a\nb", "tök".encode(), b"x" * ((1 << 20) + 1)):
        file.write_bytes(content)
        with pytest.raises(leasehold.CredentialsUnreadable) as failed:
            ask(Script(answer(200, me())), lambda client: client.me(), token_file=file)
        assert str(file) in failed.value.detail
    with pytest.raises(leasehold.CredentialsUnreadable, match="No such file"):
        ask(Script(answer(200, me())), lambda client: client.me(), token_file=tmp_path / "absent")


def test_a_token_never_travels_in_the_clear() -> None:
    for url in ("http://broker:8443", "http://127.0.0.1.example.org", "ftp://broker", "http://localhost.evil"):
        with pytest.raises(leasehold.Misconfigured) as failed:
            checked_url(url)
        assert failed.value.code == "insecure_url"
    for url in ("", "broker:8443", "/v1", "https://", "https://me:secret@broker", "https://b?x=1", "https://b:x"):
        with pytest.raises(leasehold.Misconfigured) as failed:
            checked_url(url)
        assert "secret" not in str(failed.value)
    for url in ("https://broker:8443/", "http://127.0.0.1:1", "http://[::1]:1", "https://hub.example/leasehold/"):
        assert checked_url(url) == url.rstrip("/")


def test_a_notebooks_environment_is_all_that_is_needed(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("of-the-notebook")
    script = Script(answer(200, me()))
    for missing in ("LEASEHOLD_URL", "LEASEHOLD_TOKEN_FILE", "LEASEHOLD_CA_FILE"):
        monkeypatch.delenv(missing, raising=False)
    with pytest.raises(leasehold.Misconfigured, match="LEASEHOLD_URL"):
        ask(script, lambda client: client.me(), url=None, token=None)
    monkeypatch.setenv("LEASEHOLD_URL", "http://localhost:7")
    with pytest.raises(leasehold.Misconfigured, match="LEASEHOLD_TOKEN_FILE"):
        ask(script, lambda client: client.me(), url=None, token=None)
    monkeypatch.setenv("LEASEHOLD_TOKEN_FILE", str(tmp_path / "token"))
    ask(script, lambda client: client.me(), url=None, token=None)
    assert str(script.seen[0].url) == "http://localhost:7/v1/me"
    assert script.seen[0].headers["Authorization"] == "Bearer of-the-notebook"
    monkeypatch.setenv("LEASEHOLD_CA_FILE", str(tmp_path / "token"))
    with pytest.raises(leasehold.CredentialsUnreadable, match="CA certificate"):
        ask(script, lambda client: client.me(), url=None, token=None)
