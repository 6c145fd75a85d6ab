"""A lease lasts as long as its block, and no longer, whatever happens."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from standin import NOW, PACE, TOKEN, URL, Standin, answer, problem

import leasehold
from leasehold import questions
from leasehold.flow import Answer, Budget, Pause
from leasehold.holding import Holding

Options = dict[str, Any]
Inside = Callable[[leasehold.HeldLease | leasehold.AsyncHeldLease], None]
Run = Callable[..., None]


def until(what: str, condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.01)


def _sync(standin: Standin, inside: Inside, **options: Any) -> None:
    transport = httpx.MockTransport(standin)
    with (
        leasehold.Client(URL, token=lambda: TOKEN, pace=PACE, transport=transport) as client,
        client.lease("texts", **options) as lease,
    ):
        inside(lease)


def _async(standin: Standin, inside: Inside, **options: Any) -> None:
    async def main() -> None:
        transport = httpx.MockTransport(standin)
        async with (
            leasehold.AsyncClient(URL, token=lambda: TOKEN, pace=PACE, transport=transport) as client,
            client.lease("texts", **options) as lease,
        ):
            await asyncio.to_thread(inside, lease)

    asyncio.run(main())


@pytest.fixture(params=[_sync, _async], ids=["with", "async with"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a block, once of each kind."""
    chosen: Run = request.param
    return chosen


def nothing(lease: leasehold.HeldLease | leasehold.AsyncHeldLease) -> None:
    assert lease.lease.is_active


def test_the_lease_is_there_in_the_block_and_given_back_at_its_end(run: Run) -> None:
    standin, seen = Standin(), []

    def inside(lease: leasehold.HeldLease | leasehold.AsyncHeldLease) -> None:
        assert standin.states == ["active"]
        assert lease.path.parts[-2:] == ("datasets", "texts")
        assert lease.expires_at is not None
        assert lease.expires_at > datetime.now(UTC)
        seen.append(repr(lease))

    run(standin, inside, ttl=3600)
    assert standin.states == ["ended"]
    assert seen[0].endswith(f"HeldLease {'0' * 32} of texts, active>")


def test_a_block_that_fails_gives_its_lease_back_and_keeps_its_exception(run: Run) -> None:
    standin = Standin()

    def inside(lease: leasehold.HeldLease | leasehold.AsyncHeldLease) -> None:
        raise KeyError(lease.dataset)

    with pytest.raises(KeyError, match="texts"):
        run(standin, inside)
    assert standin.states == ["ended"]


def test_a_lease_that_is_not_ready_in_time_is_given_back(run: Run) -> None:
    for state, mount, why in (
        ("active", "pending", "not mountable yet"),
        ("waiting", "pending", "in the line"),
        ("requested", "pending", "UiSMSP has to approve it"),
    ):
        standin = Standin()
        standin.state, standin.mount = state, mount
        with pytest.raises(leasehold.DeadlineExceeded, match=why) as failed:
            run(standin, nothing, queue=True, timeout=0.2)
        assert failed.value.lease is not None
        assert standin.states == ["ended"], state


def test_a_lease_that_waits_is_taken_when_its_turn_comes(run: Run) -> None:
    standin = Standin()
    standin.state, standin.mount = "waiting", "pending"

    def turn(method: str, path: str) -> httpx.Response | None:
        looks = standin.count("GET", "0" * 32)
        if looks == 3:
            standin.leases["0" * 32] |= {"state": "active"}
        if looks == 6:
            standin.leases["0" * 32] |= {"mount": "ready"}
        return None

    standin.before = turn
    run(standin, nothing, queue=True)
    assert standin.states == ["ended"]
    assert standin.count("GET", "0" * 32) >= 6


def test_a_lease_whose_data_cannot_be_mounted_is_given_back_and_says_why(run: Run) -> None:
    standin = Standin()
    standin.mount = "failed"
    with pytest.raises(leasehold.Unmountable, match="cannot be mounted") as failed:
        run(standin, nothing)
    assert failed.value.lease is not None
    assert failed.value.lease.mount == "failed"
    assert standin.states == ["ended"]
    standin = Standin()
    standin.mount = "failed"
    run(standin, nothing, mounted=False)
    assert standin.states == ["ended"]


def test_what_was_denied_is_told_and_nothing_released(run: Run) -> None:
    standin = Standin()
    standin.state, standin.mount = "ended", "pending"
    with pytest.raises(leasehold.LeaseEnded):
        run(standin, nothing)
    assert standin.count("DELETE") == 0
    standin = Standin()
    standin.before = lambda method, _path: problem(409, "lease_conflict") if method == "POST" else None
    with pytest.raises(leasehold.Conflict, match="lease_conflict"):
        run(standin, nothing)
    assert [method for method, _ in standin.seen] == ["POST"]


def test_a_lease_of_which_no_answer_told_is_given_back(run: Run) -> None:
    standin = Standin()

    def lose(method: str, path: str) -> Exception | None:
        # The broker grants it, and the first answers are lost.
        return httpx.ReadError("reset") if method == "POST" and standin.count("POST") <= PACE.tries else None

    standin.after = lose
    with pytest.raises(leasehold.Unavailable) as failed:
        run(standin, nothing)
    assert failed.value.code == "unanswered"
    assert standin.states == ["ended"]
    assert len(standin.leases) == 1


def test_where_no_broker_is_there_nothing_is_given_back(run: Run) -> None:
    standin = Standin()
    standin.before = lambda _method, _path: httpx.ConnectError("refused")
    with pytest.raises(leasehold.Unavailable) as failed:
        run(standin, nothing)
    assert failed.value.code == "unreachable"
    assert len(standin.seen) == PACE.tries


def test_a_lease_that_is_over_already_ends_its_block_quietly(run: Run) -> None:
    standin = Standin()

    def inside(lease: leasehold.HeldLease | leasehold.AsyncHeldLease) -> None:
        standin.leases[lease.id] |= {"state": "ending", "end_cause": "revoked"}

    run(standin, inside)
    assert standin.states == ["ending"]


def test_a_lease_that_cannot_be_given_back_is_told(run: Run) -> None:
    standin = Standin()
    standin.before = lambda method, _path: problem(503, "unavailable") if method == "DELETE" else None
    with pytest.raises(leasehold.Unavailable):
        run(standin, nothing)

    def inside(lease: leasehold.HeldLease | leasehold.AsyncHeldLease) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine") as failed:
        run(standin, inside)
    assert "could not be given back" in failed.value.__notes__[0]


def test_a_block_takes_its_lease_once() -> None:
    transport = httpx.MockTransport(standin := Standin())
    with leasehold.Client(URL, token=lambda: TOKEN, pace=PACE, transport=transport) as client:
        block = client.lease("texts")
        with block, pytest.raises(RuntimeError, match="once"):
            block.__enter__()
        with pytest.raises(RuntimeError, match="once"):
            block.__enter__()
    assert standin.states == ["ended"]


def test_a_block_that_is_cancelled_gives_its_lease_back() -> None:
    for waiting in (False, True):
        standin = Standin()
        standin.mount = "pending" if waiting else "ready"

        async def block(standin: Standin = standin) -> None:
            transport = httpx.MockTransport(standin)
            async with (
                leasehold.AsyncClient(URL, token=lambda: TOKEN, pace=PACE, transport=transport) as client,
                client.lease("texts", renew=True),
            ):
                await asyncio.Event().wait()

        async def main(standin: Standin = standin) -> None:
            task = asyncio.create_task(block())
            await asyncio.to_thread(until, "the lease", lambda: standin.states == ["active"])
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(main())
        assert standin.states == ["ended"]


# Renewal.


def test_a_lease_is_renewed_while_its_block_lasts_and_no_longer(run: Run) -> None:
    standin = Standin()
    standin.ttl_seconds = 4
    before = threading.active_count()

    def inside(lease: leasehold.HeldLease | leasehold.AsyncHeldLease) -> None:
        until("two renewals", lambda: standin.count("POST", "/renewal") >= 2)
        until("the renewal to be seen", lambda: lease.lease.state == "active" and lease.trouble is None)

    run(standin, inside, ttl=4, renew=True)
    assert standin.states == ["ended"]
    renewals = standin.count("POST", "/renewal")
    assert not [thread for thread in threading.enumerate() if thread.name == "leasehold-renewal"]
    assert threading.active_count() <= before
    assert standin.count("POST", "/renewal") == renewals


def held(seconds: float) -> Holding:
    """A lease that lasts so long from now."""
    holding = Holding(questions.new_lease("texts", 3600, None, False), 3600, True, PACE)
    holding.lease = lease(seconds)
    return holding


def lease(seconds: float) -> leasehold.Lease:
    until = datetime.now(UTC) + timedelta(seconds=seconds)
    return leasehold.Lease("0" * 32, "d" * 64, "texts", "UiSMSP", "p", "active", "ready", expires_at=until)


def test_a_lease_is_renewed_at_half_of_its_time() -> None:
    flow = held(3600).keep()
    step = next(flow)
    assert isinstance(step, Pause)
    assert 1790 < step.seconds <= 1800
    step = flow.send(None)
    assert not isinstance(step, Pause)
    assert step.request.path == ("leases", "0" * 32, "renewal")
    assert step.request.body == b'{"ttl_seconds": 3600}'


@pytest.mark.parametrize(
    ("refusal", "goes_on"),
    [
        (problem(409, "renewal_waited_for"), True),
        (problem(400, "invalid_field", field="ttl_seconds"), True),
        (problem(401, "unauthenticated"), True),
        (problem(500, "internal"), True),
        (problem(429, "too_many_leases"), True),
        (problem(409, "lease_not_active"), False),
        (problem(409, "lease_expired"), False),
        (problem(404, "not_found"), False),
        (problem(403, "forbidden"), False),
    ],
    ids=lambda value: value.json()["type"].rsplit(":")[-1] if isinstance(value, httpx.Response) else "",
)
def test_a_renewal_that_is_refused_is_told_and_tried_again_where_that_may_help(
    refusal: httpx.Response, goes_on: bool
) -> None:
    holding = held(100)
    flow = holding.keep()
    next(flow)
    flow.send(None)
    try:
        step = flow.send(Answer(refusal.status_code, {}, refusal.content))
        assert isinstance(step, Pause)
        assert 40 < step.seconds <= 50
        went_on = True
    except StopIteration:
        went_on = False
    assert went_on == goes_on
    assert holding.trouble is not None
    assert holding.trouble.code == refusal.json()["type"].rsplit(":")[-1]


def test_a_renewal_that_meets_the_end_of_its_block_is_no_trouble() -> None:
    holding = held(100)
    renewing, leaving = holding.keep(), holding.give_back(Budget(10))
    next(renewing)
    renewing.send(None)
    next(leaving)
    with pytest.raises(StopIteration):
        renewing.send(Answer(409, {}, problem(409, "lease_not_active").content))
    assert holding.trouble is None


def test_a_lease_that_is_over_is_not_renewed() -> None:
    assert list(held(-1).keep()) == []
    holding = held(60)
    steps = holding.keep()
    next(steps)
    holding.lease = lease(-1)
    with pytest.raises(StopIteration):
        steps.send(None)


def test_a_lease_can_be_renewed_by_hand(run: Run) -> None:
    standin = Standin()

    def inside(held: leasehold.HeldLease | leasehold.AsyncHeldLease) -> None:
        if isinstance(held, leasehold.HeldLease):
            standin.leases[held.id]["expires_at"] = NOW
            assert held.renew(ttl=60).expires_at == held.expires_at
            assert held.expires_at is not None
            assert held.expires_at.timestamp() > NOW
            assert held.skeleton().directories == ("a", "a/b")

    run(standin, inside)
    assert standin.states == ["ended"]


def test_giving_back_asks_again_only_where_an_answer_is_missing() -> None:
    holding = Holding(questions.new_lease("texts", None, None, False), None, True, PACE)
    flow = holding.give_back(Budget(10))
    step = next(flow)
    assert not isinstance(step, Pause)
    assert step.request == holding.request
    refused = answer(409, problem(409, "lease_conflict").json())
    with pytest.raises(StopIteration):
        flow.send(Answer(refused.status_code, {}, refused.content))
