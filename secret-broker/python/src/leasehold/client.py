"""The client for programmes without an event loop."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from leasehold import questions, wire
from leasehold.blocks import LeaseBlock
from leasehold.endpoint import Endpoint, TokenSource
from leasehold.errors import LeaseholdError
from leasehold.feed import Feed, Kind, StreamEvent
from leasehold.flow import Answer, Budget, Flow, NoAnswer, Pace, Pause, Send
from leasehold.records import AuditRecord, Dataset, Event, Lease, Me, Operation, Place, Policy, Skeleton

T = TypeVar("T")

USUAL_SECONDS = 60.0


class Client:
    """A broker and a caller. May be used by several threads; holds connections until it is closed.

    Without arguments it finds both as a Leasehold notebook has them in its environment. `timeout` is how many seconds
    each call may take, with its retries, and until an accepted write is decided.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        token: TokenSource | None = None,
        token_file: str | os.PathLike[str] | None = None,
        ca_file: str | os.PathLike[str] | None = None,
        timeout: float = USUAL_SECONDS,
        pace: Pace | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._endpoint = Endpoint.found(url, token, token_file, ca_file)
        self._timeout = timeout
        self._pace = pace or Pace()
        self._transport = transport
        self._lock = threading.Lock()
        self._trusted: str | None = None
        self._http: list[httpx.Client] = []
        self._closed = False

    def __repr__(self) -> str:
        """Show which broker it is."""
        return f"{type(self).__name__}({self._endpoint.url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            self._closed = True
            while self._http:
                self._http.pop().close()

    # Looking.

    def me(self, *, timeout: float | None = None) -> Me:
        """Who the broker takes the caller for."""
        return self.run(questions.one(Me, ("me",), *self._with(timeout)))

    def datasets(
        self, *, search: str | None = None, page_size: int | None = None, timeout: float | None = None
    ) -> Iterator[Dataset]:
        """The catalogue by name, or the datasets in which all words of `search` stand or begin, the best first; page by
        page as it is consumed, and `timeout` is for each page.
        """
        return self._pages(questions.Pages(Dataset, ("datasets",), limit=page_size, q=search), timeout)

    def dataset(self, dataset: str, *, timeout: float | None = None) -> Dataset:
        """One dataset, by name or id."""
        return self.run(questions.one(Dataset, ("datasets", questions.reference(dataset)), *self._with(timeout)))

    def history(self, dataset: str, *, page_size: int | None = None, timeout: float | None = None) -> Iterator[Event]:
        """What has become of a dataset, by name or id; its oldest event first."""
        path = ("datasets", questions.reference(dataset), "history")
        return self._pages(questions.Pages(Event, path, limit=page_size), timeout)

    def line(self, dataset: str, *, timeout: float | None = None) -> Iterator[Place]:
        """Who waits for a dataset, by name or id; the first first."""
        path = ("datasets", questions.reference(dataset), "line")
        return self._pages(questions.Pages(Place, path), timeout)

    def leases(
        self,
        *,
        state: questions.State | None = None,
        dataset: str | None = None,
        page_size: int | None = None,
        timeout: float | None = None,
    ) -> Iterator[Lease]:
        """The caller's leases, and for a data steward those of the organisation's datasets, page by page as they are
        consumed; only those in a state, of a dataset by name or id. Others' that are over come only where both are
        given, as `state="ended"`. A lease that passes on meanwhile comes again.
        """
        named = None if dataset is None else questions.reference(dataset)
        return self._pages(questions.Pages(Lease, ("leases",), limit=page_size, state=state, dataset=named), timeout)

    def get_lease(self, lease: Lease | str, *, timeout: float | None = None) -> Lease:
        """One lease as it is now."""
        return self.run(questions.one(Lease, ("leases", id_of(lease)), *self._with(timeout)))

    def skeleton(self, lease: Lease | str, *, timeout: float | None = None) -> Skeleton:
        """The directories of one leased dataset."""
        return self.run(questions.one(Skeleton, ("leases", id_of(lease), "skeleton"), *self._with(timeout)))

    def skeletons(self, *, timeout: float | None = None) -> Iterator[Skeleton]:
        """The directories of all datasets that the caller leases."""
        return self._pages(questions.Pages(Skeleton, ("skeletons",), "skeletons"), timeout)

    def operation(self, operation: str, *, timeout: float | None = None) -> Operation:
        """What became of an accepted write."""
        path = ("operations", questions.reference(operation))
        return self.run(questions.one(Operation, path, *self._with(timeout)))

    def audit(
        self,
        *,
        who: str | None = None,
        about: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        timeout: float | None = None,
    ) -> Iterator[AuditRecord]:
        """What the broker decided, for auditors; of a pseudonym, about an object, from a time until before another."""
        times: dict[str, Any] = {"since": questions.moment(since), "until": questions.moment(until)}
        return self._pages(questions.Pages(AuditRecord, ("audit",), who=who, object=about, **times), timeout)

    def events(self, *kinds: Kind, after: str | None = None, timeout: float | None = None) -> Iterator[StreamEvent]:
        """What becomes of the caller's operations, of leases that they may see, and of the catalogue, as it happens:
        all of it, or some `kinds`. It does not end by itself: when the broker ends the stream it goes on, also after
        the event whose id is given. Where no stream can be had for `timeout`, it raises.
        """
        feed = Feed(kinds, after, self._seconds(timeout), self._pace)
        while True:
            reply: Answer | NoAnswer | None = None
            url, headers = wire.url(self._endpoint, feed.request), feed.headers(self._headers(feed.send))
            try:
                with self._trusting().stream("GET", url, headers=headers, timeout=feed.timeout()) as response:
                    if response.status_code == 200:
                        feed.opened()
                        for line in response.iter_lines():
                            if event := feed.line(line):
                                yield event
                    else:
                        reply = wire.answer(response, response.read())
            except httpx.HTTPError as error:
                reply = wire.no_answer(error)
            time.sleep(feed.pause(reply))

    # Leasing.

    def lease(
        self,
        dataset: str,
        *,
        ttl: questions.Seconds | None = None,
        mode: questions.Mode | None = None,
        queue: bool = False,
        renew: bool = False,
        mounted: bool = True,
        timeout: float | None = None,
    ) -> LeaseBlock:
        """A lease for as long as a `with` block lasts; see `LeaseBlock`."""
        request = questions.new_lease(dataset, ttl, mode, queue)
        return LeaseBlock(self, request, ttl, renew, mounted, self._seconds(timeout), self._pace)

    def request_lease(
        self,
        dataset: str,
        *,
        ttl: questions.Seconds | None = None,
        mode: questions.Mode | None = None,
        queue: bool = False,
        timeout: float | None = None,
    ) -> Lease:
        """Ask for a lease, by the dataset's name or id. Its state says whether it is active, waits in the line or
        needs approval.
        """
        request = questions.new_lease(dataset, ttl, mode, queue)
        return self.run(questions.granted(request, *self._with(timeout)))

    def wait_until_active(self, lease: Lease | str, *, timeout: float | None = None) -> Lease:
        """Wait until a lease is granted."""
        return self.run(questions.awaited(id_of(lease), False, *self._with(timeout)))

    def wait_until_mounted(self, lease: Lease | str, *, timeout: float | None = None) -> Lease:
        """Wait until a lease is granted and its data can be mounted."""
        return self.run(questions.awaited(id_of(lease), True, *self._with(timeout)))

    def renew(self, lease: Lease | str, *, ttl: questions.Seconds | None = None, timeout: float | None = None) -> Lease:
        """Keep a lease for so many seconds from now, or as long as the dataset is leased at most."""
        body = {} if ttl is None else {"ttl_seconds": questions.seconds(ttl)}
        return self._change("POST", lease, "renewal", body, timeout)

    def release(self, lease: Lease | str, *, timeout: float | None = None) -> Lease:
        """Give a lease back, leave the line, or withdraw a request."""
        return self._change("DELETE", lease, None, None, timeout)

    # What data stewards do.

    def register(
        self,
        name: str,
        *,
        title: str,
        volume: Mapping[str, Any],
        description: str = "",
        max_ttl: questions.Seconds | None = None,
        policy: Policy | None = None,
        timeout: float | None = None,
    ) -> Dataset:
        """Register a dataset of the organisation; what is said of its volume only the broker can read afterwards."""
        body: dict[str, Any] = {"name": name, "title": title, "description": description, "volume": dict(volume)}
        body |= questions.words(None, None, max_ttl, policy)
        return self.run(questions.dataset_change("POST", ("datasets",), body, *self._with(timeout)))

    def amend(
        self,
        dataset: str,
        *,
        title: str | None = None,
        description: str | None = None,
        max_ttl: questions.Seconds | None = None,
        policy: Policy | None = None,
        timeout: float | None = None,
    ) -> Dataset:
        """Change words or terms of a dataset of the organisation; granted leases keep theirs."""
        path = ("datasets", questions.reference(dataset))
        body = questions.words(title, description, max_ttl, policy)
        return self.run(questions.dataset_change("PATCH", path, body, *self._with(timeout)))

    def remove(self, dataset: str, *, timeout: float | None = None) -> None:
        """Remove a dataset of the organisation."""
        path = ("datasets", questions.reference(dataset))
        self.run(questions.change("DELETE", path, None, *self._with(timeout)))

    def approve(self, lease: Lease | str, *, timeout: float | None = None) -> Lease:
        """Grant a lease that was asked for."""
        return self._change("POST", lease, "approval", None, timeout)

    def deny(self, lease: Lease | str, *, reason: str, timeout: float | None = None) -> Lease:
        """Refuse a lease that was asked for; the whole consortium can read the reason."""
        return self._change("POST", lease, "denial", {"reason": reason}, timeout)

    def revoke(self, lease: Lease | str, *, reason: str, timeout: float | None = None) -> Lease:
        """End somebody's lease now; the whole consortium can read the reason."""
        return self._change("POST", lease, "revocation", {"reason": reason}, timeout)

    def declare_ended(self, lease: Lease | str, *, reason: str, timeout: float | None = None) -> Lease:
        """Count a lease as ended whose cluster has not confirmed its end for an hour."""
        return self._change("POST", lease, "declaration", {"reason": reason}, timeout)

    # Carrying out.

    def run(self, flow: Flow[T], sleep: Callable[[float], None] = time.sleep) -> T:
        """Carry a flow out."""
        reply: Answer | NoAnswer | None = None
        while True:
            try:
                step = flow.send(reply)
            except StopIteration as done:
                result: T = done.value
                return result
            reply = None
            if isinstance(step, Pause):
                sleep(step.seconds)
            else:
                reply = self._send(step)

    def _send(self, send: Send) -> Answer | NoAnswer:
        http, end = self._trusting(), time.monotonic() + send.seconds
        url, headers = wire.url(self._endpoint, send.request), self._headers(send)
        body = bytearray()
        options: dict[str, Any] = {"content": send.request.body, "timeout": wire.timeout(send)}
        try:
            with http.stream(send.request.method, url, headers=headers, **options) as response:
                for chunk in response.iter_bytes():
                    body += chunk
                    if time.monotonic() > end:
                        return wire.too_slow(send)
                return wire.answer(response, bytes(body))
        except httpx.HTTPError as error:
            return wire.no_answer(error)

    def _headers(self, send: Send) -> httpx.Headers:
        try:
            return wire.headers(send.request, self._endpoint.token())
        except LeaseholdError:
            raise
        except Exception as error:
            reason = type(error).__name__
        raise wire.no_token(reason)

    def _trusting(self) -> httpx.Client:
        """Give the HTTP client for the CA certificates that the file holds now."""
        pem = self._endpoint.ca_pem()
        with self._lock:
            if self._closed:
                raise RuntimeError("the client is closed")
            if not self._http or pem != self._trusted:
                # Another thread may be using the one before.
                options = wire.options(self._endpoint, pem)
                self._http.append(httpx.Client(transport=self._transport, **options))
                self._trusted = pem
            return self._http[-1]

    def _with(self, timeout: float | None) -> tuple[Budget, Pace]:
        return Budget(self._seconds(timeout)), self._pace

    def _seconds(self, timeout: float | None) -> float:
        return self._timeout if timeout is None else timeout

    def _pages(self, pages: questions.Pages[T], timeout: float | None) -> Iterator[T]:
        while not pages.is_read:
            yield from self.run(pages.following(*self._with(timeout)))

    def _change(
        self,
        method: str,
        lease: Lease | str,
        verb: str | None,
        body: Mapping[str, Any] | None,
        timeout: float | None,
    ) -> Lease:
        return self.run(questions.lease_change(method, id_of(lease), verb, body, *self._with(timeout)))


def id_of(lease: Lease | str) -> str:
    """Give the id of a lease that is named by itself or by its id."""
    return questions.reference(lease.id if isinstance(lease, Lease) else lease)
