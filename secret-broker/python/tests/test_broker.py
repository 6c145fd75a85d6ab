"""The client against a real broker: what no stand-in can show."""

from __future__ import annotations

import asyncio
import builtins
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from real import PATIENCE_SECONDS, ROOT, Broker, Provisioner, until

import leasehold
from leasehold.endpoint import Endpoint
from leasehold.questions import Mode

MINE = {"kind": "local", "path": "/srv/leasehold/uis/texts", "node": "node-1"}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One broker for all, with one dataset and the cluster that serves it."""
    with Broker(tmp_path_factory.mktemp("broker")) as broker:
        with broker.client("steward") as steward:
            steward.register(
                "texts", title="Three texts", volume=MINE, max_ttl=86400, policy=leasehold.Policy(most_waiting=5)
            )
        with Provisioner(broker) as provisioner:
            yield broker
        provisioner.check()


@pytest.fixture
def free(broker: Broker) -> Broker:
    """The broker, once nobody has the dataset, or waits for it."""
    with broker.client("steward") as steward:
        for lease in steward.leases():
            if lease.is_open:
                with suppress(leasehold.Conflict):
                    steward.revoke(lease, reason="left over by a test that failed")
    with broker.client("alice") as client:
        until("the dataset to be free", lambda: client.dataset("texts").lease_state == "free" or None)
    return broker


def test_a_block_leases_mounts_and_gives_back_at_a_real_broker(free: Broker) -> None:
    with free.client("alice") as client:
        assert client.me().subject == "alice"
        assert client.me().roles == ("researcher",)
        with client.lease("texts", ttl=600) as lease:
            assert (lease.lease.state, lease.lease.mount, lease.lease.mode) == ("active", "ready", "exclusive")
            assert lease.skeleton().directories == ("a", "a/b")
            assert [skeleton.dataset for skeleton in client.skeletons()] == ["texts"]
            assert client.dataset("texts").lease_state == "leased"
            before = lease.expires_at
            assert before is not None
            assert lease.renew(ttl=1200).expires_at == lease.expires_at
            assert lease.expires_at is not None
            assert lease.expires_at > before
        over = client.get_lease(lease.id)
        assert (over.is_open, over.end_cause) == (False, "released")
        events = [event.event for event in client.history("texts")]
        assert events[0] == "dataset_registered"
        assert {"lease_granted", "mount_ready", "lease_renewed", "lease_ending"} <= set(events)
        assert [event.event for event in client.history("texts", page_size=1)][: len(events)] == events


def test_the_same_from_an_event_loop(free: Broker) -> None:
    async def main() -> None:
        async with free.async_client("alice") as client:
            assert (await client.me()).subject == "alice"
            assert [dataset.name async for dataset in client.datasets()] == ["texts"]
            async with client.lease("texts", renew=True) as lease:
                assert lease.lease.mount == "ready"
                assert (await lease.skeleton()).directories == ("a", "a/b")
            assert not (await client.get_lease(lease.id)).is_open

    asyncio.run(main())


def test_what_happens_is_heard_as_it_happens_and_words_find_what_it_is_about(free: Broker) -> None:
    with free.client("alice") as client:
        events = client.events("leases", "operations")
        assert next(events).kind == "opened"
        lease = client.request_lease("texts", ttl=600)
        for event in events:
            if isinstance(event.data, leasehold.Lease):
                assert (event.data.id, event.data.state, event.data.yours) == (lease.id, "active", True)
                break
        client.release(lease)
        for later in client.events("leases", after=event.id):
            if isinstance(later.data, leasehold.Lease) and not later.data.is_open:
                assert later.data.id == lease.id
                break
        assert [dataset.name for dataset in client.datasets(search="TEXT three")] == ["texts"]
        assert list(client.datasets(search="nothing OR texts")) == []
        assert lease.id in [other.id for other in client.leases(dataset="texts", page_size=1)]

    async def main() -> None:
        async with free.async_client("steward") as steward:
            async for event in steward.events("catalogue"):
                if event.kind == "opened":
                    await steward.amend("texts", description="by words")
                if isinstance(event.data, leasehold.CatalogueChange):
                    assert event.data.what["event"] in {"dataset_described", "lease_ended", "mount_ready"}
                    return

    asyncio.run(main())


def test_who_waits_gets_the_lease_when_the_first_gives_it_back(free: Broker) -> None:
    with free.client("alice") as alice, free.client("bob") as bob:
        with alice.lease("texts"):
            with pytest.raises(leasehold.Conflict) as refused:
                bob.request_lease("texts")
            assert refused.value.code == "lease_conflict"
            place = bob.request_lease("texts", queue=True)
            assert (place.state, place.place) == ("waiting", 1)
            assert [(waiting.place, waiting.lease) for waiting in bob.line("texts")] == [(1, place.id)]
            assert [waiting.lease for waiting in alice.line("texts")] == [None]
            with pytest.raises(leasehold.DeadlineExceeded, match="number 1 in the line"):
                bob.wait_until_active(place, timeout=0.5)
        assert bob.wait_until_mounted(place).is_active
        assert not bob.release(place).is_open


def test_decisions_of_stewards_are_taken_and_refused_by_a_real_broker(free: Broker) -> None:
    with free.client("alice") as alice, free.client("steward") as steward:
        lease = alice.request_lease("texts")
        with pytest.raises(leasehold.Forbidden):
            alice.revoke(lease, reason="not mine to revoke")
        calls: list[Callable[[], leasehold.Lease]] = [
            lambda: steward.approve(lease),
            lambda: steward.deny(lease, reason="too late"),
            lambda: steward.declare_ended(lease, reason="too early"),
        ]
        for call in calls:
            with pytest.raises(leasehold.Conflict):
                call()
        revoked = steward.revoke(lease, reason="for a test")
        assert (revoked.end_cause, revoked.end_reason) == ("revoked", "for a test")
        with pytest.raises(leasehold.LeaseEnded, match="for a test"):
            alice.wait_until_mounted(lease)
        amended = steward.amend("texts", title="Three good texts", policy=leasehold.Policy(most_waiting=6))
        assert (amended.title, amended.policy.most_waiting, amended.policy.exclusive) == ("Three good texts", 6, True)
        with pytest.raises(leasehold.Invalid) as wrong:
            steward.register("other", title="x", volume={"kind": "local", "path": "/etc", "node": "n"})
        assert wrong.value.field is not None
        assert wrong.value.request_id is not None
        passing = steward.register("passing", title="x", volume={**MINE, "path": "/srv/leasehold/uis/passing"})
        steward.remove(passing.name)
        with pytest.raises(leasehold.NotFound):
            steward.dataset("passing")


class LosesOneAnswer(httpx.HTTPTransport):
    """Kills the broker when it has accepted a lease, before anybody has heard of it."""

    def __init__(self, broker: Broker) -> None:
        super().__init__(verify=ssl.create_default_context(cafile=str(broker.ca_file)))
        self.broker = broker
        self.killed = threading.Event()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = super().handle_request(request)
        if request.method == "POST" and not self.killed.is_set():
            answer.read()
            assert answer.status_code == 202
            self.broker.kill()
            self.killed.set()
            raise httpx.ReadError("the connection was reset")
        return answer


def test_what_a_broker_accepted_before_it_was_killed_is_done_once_and_heard_of(free: Broker) -> None:
    transport = LosesOneAnswer(free)
    client = free.client("alice", transport=transport, pace=leasehold.Pace(tries=1000))
    with client, ThreadPoolExecutor(1) as pool:
        before = {lease.id for lease in client.leases()}
        asked = pool.submit(client.request_lease, "texts")
        assert transport.killed.wait(PATIENCE_SECONDS)
        free.start()
        lease = asked.result()
        assert {lease.id for lease in client.leases()} - before == {lease.id}
        assert not client.release(lease).is_open


def test_a_real_broker_renews_a_lease_while_its_block_lasts(broker: Broker) -> None:
    with broker.client("steward") as steward:
        steward.register("short", title="x", volume={**MINE, "path": "/srv/leasehold/uis/short"}, max_ttl=20)
    with broker.client("alice") as client, client.lease("short", ttl=10, renew=True) as lease:
        granted = lease.expires_at
        until("a renewal", lambda: lease.expires_at != granted or None)
        assert lease.trouble is None
        assert "lease_renewed" in [event.event for event in client.history("short")]
        assert client.get_lease(lease.id).expires_at == lease.expires_at


def test_an_expired_token_is_refused_and_the_next_one_is_taken(free: Broker, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(free.provider.sign(sub="alice", exp=int(time.time()) - 600))
    with leasehold.Client(free.url, token_file=file, ca_file=free.ca_file) as client:
        with pytest.raises(leasehold.Unauthenticated) as refused:
            client.me()
        assert refused.value.code == "unauthenticated"
        file.write_text(free.token("alice"))
        assert client.me().subject == "alice"


def test_a_broker_of_another_authority_is_not_trusted_and_not_asked_again(free: Broker, tmp_path: Path) -> None:
    (tmp_path / "own-token").touch()
    file = tmp_path / "ca.pem"
    own = free.ca_file.read_bytes()
    with Broker(tmp_path) as other:
        file.write_bytes("# Bündel\n".encode("latin-1") + other.ca_file.read_bytes())
        asked: list[None] = []

        def token() -> str:
            asked.append(None)
            return free.token("alice")

        with leasehold.Client(free.url, token=token, ca_file=file) as client:
            with pytest.raises(leasehold.Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
                client.me()
            assert len(asked) == 1
            # The authority's file is read anew, as the token's is.
            file.write_bytes(own)
            assert client.me().subject == "alice"


def test_the_brokers_certificate_stands_up_to_strict_checks(free: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = Endpoint.trusting

    def strict(endpoint: Endpoint, pem: str | None) -> ssl.SSLContext:
        context = usual(endpoint, pem)
        # What Python 3.13 has as its default.
        context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
        return context

    monkeypatch.setattr(Endpoint, "trusting", strict)
    with free.client("alice") as client:
        assert client.me().subject == "alice"


def test_auditors_read_what_was_decided(free: Broker) -> None:
    with free.client("alice") as alice, free.client("auditor") as auditor:
        with pytest.raises(leasehold.Forbidden):
            list(alice.audit())
        assert "auditor" in auditor.me().roles
        lease = alice.request_lease("texts")
        alice.release(lease)
        decided = list(auditor.audit(about=lease.dataset_id))
        assert decided
        everything = list(auditor.audit())
        assert [record.number for record in everything] == list(range(1, len(everything) + 1))
        assert {record.decision for record in everything} == {"allowed", "denied"}
        assert list(auditor.audit(since=datetime.now(UTC) + timedelta(days=1))) == []


def test_threads_share_a_client(free: Broker) -> None:
    with free.client("alice") as client, ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: client.dataset("texts").name, range(40)))
    assert found == ["texts"] * 40


def test_of_many_who_want_it_at_once_one_gets_it(free: Broker) -> None:
    mode: Mode = "exclusive"
    names = [f"person-{number}" for number in range(8)]
    ready = threading.Barrier(len(names))

    def ask(name: str) -> leasehold.Lease | None:
        with free.client(name) as client:
            ready.wait()
            try:
                return client.request_lease("texts", mode=mode)
            except leasehold.Conflict:
                return None

    with ThreadPoolExecutor(len(names)) as pool:
        leases = dict(zip(names, pool.map(ask, names), strict=True))
    [(winner, lease)] = [(name, lease) for name, lease in leases.items() if lease]
    with free.client(winner) as client:
        client.release(lease)


def as_in_a_notebook(free: Broker, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set the environment as the spawner-hook does; the command is one that notes how it was called."""
    (home / "token").write_text(free.token("alice"))
    for name in ("leasehold", "jupyterflow"):
        command = home / "bin" / name
        command.parent.mkdir(exist_ok=True)
        command.write_text(f'#!/bin/sh\necho "{name} $*" >>{home}/ran\n')
        command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{home}/bin:/usr/bin:/bin")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("LEASEHOLD_URL", free.url)
    monkeypatch.setenv("LEASEHOLD_TOKEN_FILE", str(home / "token"))
    monkeypatch.setenv("LEASEHOLD_CA_FILE", str(free.ca_file))
    return home / "ran"


def test_in_a_notebook_a_lease_takes_one_line_and_its_directories_are_laid(
    free: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = as_in_a_notebook(free, tmp_path, monkeypatch)
    with leasehold.lease("texts", ttl=600) as lease:
        assert lease.path == tmp_path / "datasets" / "texts"
        assert not ran.exists(), "no home is given directories that has none"
    (tmp_path / "datasets").mkdir()
    with free.client("alice") as client:
        until("the dataset to be free", lambda: client.dataset("texts").lease_state == "free" or None)

    async def main() -> None:
        async with leasehold.lease("texts") as lease:
            assert lease.lease.mount == "ready"

    asyncio.run(main())
    assert ran.read_text() == f"leasehold skeleton sync --best-effort --home {tmp_path}\n"
    with free.client("alice") as client:
        assert [lease.id for lease in client.leases() if lease.is_open] == []


def test_the_user_guides_examples_run(free: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guide = (ROOT / "docs" / "user-guide.md").read_text()
    section = guide.split("### From Python\n")[1].split("\n## ")[0].split("\n### ")[0]
    examples = re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert len(examples) == 3
    ran = as_in_a_notebook(free, tmp_path, monkeypatch)
    monkeypatch.setattr(builtins, "input", lambda *_: "")
    with free.client("alice") as client:
        for example in examples:
            until("the dataset to be free", lambda: client.dataset("texts").lease_state == "free" or None)
            exec(compile(example, "docs/user-guide.md", "exec"), {"__name__": "__main__"})  # noqa: S102
        assert [lease.dataset for lease in client.leases() if lease.is_open] == []
    assert ran.read_text() == "jupyterflow run -f workflow.yaml\n"
