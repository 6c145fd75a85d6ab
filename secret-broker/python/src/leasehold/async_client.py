"""The client for programmes with an event loop of asyncio. Its methods are those of `Client`."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import AsyncIterator, Awaitable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from leasehold import questions, wire
from leasehold.blocks import AsyncLeaseBlock
from leasehold.client import USUAL_SECONDS, id_of
from leasehold.endpoint import Endpoint, TokenSource
from leasehold.errors import LeaseholdError
from leasehold.feed import Feed, Kind, StreamEvent
from leasehold.flow import Answer, Budget, Flow, NoAnswer, Pace, Pause, Send
from leasehold.records import AuditRecord, Dataset, Event, Lease, Me, Operation, Place, Policy, Skeleton

T = TypeVar("T")


class AsyncClient:
    """A broker and a caller, in one event loop; holds connections until it is closed.

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
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._endpoint = Endpoint.found(url, token, token_file, ca_file)
        self._timeout = timeout
        self._pace = pace or Pace()
        self._transport = transport
        self._trusted: str | None = None
        self._http: list[httpx.AsyncClient] = []
        self._closed = False

    def __repr__(self) -> str:
        """Show which broker it is."""
        return f"{type(self).__name__}({self._endpoint.url!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        self._closed = True
        while self._http:
            await self._http.pop().aclose()

    # Looking.

    async def me(self, *, timeout: float | None = None) -> Me:
        """Who the broker takes the caller for."""
        return await self.run(questions.one(Me, ("me",), *self._with(timeout)))

    def datasets(
        self, *, search: str | None = None, page_size: int | None = None, timeout: float | None = None
    ) -> AsyncIterator[Dataset]:
        """The catalogue by name, or the datasets in which all words of `search` stand or begin, the best first; page by
        page as it is consumed, and `timeout` is for each page.
        """
        return self._pages(questions.Pages(Dataset, ("datasets",), limit=page_size, q=search), timeout)

    async def dataset(self, dataset: str, *, timeout: float | None = None) -> Dataset:
        """One dataset, by name or id."""
        return await self.run(questions.one(Dataset, ("datasets", questions.reference(dataset)), *self._with(timeout)))

    def history(
        self, dataset: str, *, page_size: int | None = None, timeout: float | None = None
    ) -> AsyncIterator[Event]:
        """What has become of a dataset, by name or id; its oldest event first."""
        path = ("datasets", questions.reference(dataset), "history")
        return self._pages(questions.Pages(Event, path, limit=page_size), timeout)

    def line(self, dataset: str, *, timeout: float | None = None) -> AsyncIterator[Place]:
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
    ) -> AsyncIterator[Lease]:
        """The caller's leases, and for a data steward those of the organisation's datasets, page by page as they are
        consumed; only those in a state, of a dataset by name or id. Others' that are over come only where both are
        given, as `state="ended"`. A lease that passes on meanwhile comes again.
        """
        named = None if dataset is None else questions.reference(dataset)
        return self._pages(questions.Pages(Lease, ("leases",), limit=page_size, state=state, dataset=named), timeout)

    async def get_lease(self, lease: Lease | str, *, timeout: float | None = None) -> Lease:
        """One lease as it is now."""
        return await self.run(questions.one(Lease, ("leases", id_of(lease)), *self._with(timeout)))

    async def skeleton(self, lease: Lease | str, *, timeout: float | None = None) -> Skeleton:
        """The directories of one leased dataset."""
        return await self.run(questions.one(Skeleton, ("leases", id_of(lease), "skeleton"), *self._with(timeout)))

    def skeletons(self, *, timeout: float | None = None) -> AsyncIterator[Skeleton]:
        """The directories of all datasets that the caller leases."""
        return self._pages(questions.Pages(Skeleton, ("skeletons",), "skeletons"), timeout)

    async def operation(self, operation: str, *, timeout: float | None = None) -> Operation:
        """What became of an accepted write."""
        path = ("operations", questions.reference(operation))
        return await self.run(questions.one(Operation, path, *self._with(timeout)))

    def audit(
        self,
        *,
        who: str | None = None,
        about: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        timeout: float | None = None,
    ) -> AsyncIterator[AuditRecord]:
        """What the broker decided, for auditors; of a pseudonym, about an object, from a time until before another."""
        times: dict[str, Any] = {"since": questions.moment(since), "until": questions.moment(until)}
        return self._pages(questions.Pages(AuditRecord, ("audit",), who=who, object=about, **times), timeout)

    async def events(
        self, *kinds: Kind, after: str | None = None, timeout: float | None = None
    ) -> AsyncIterator[StreamEvent]:
        """What becomes of the caller's operations, of leases that they may see, and of the catalogue, as it happens:
        all of it, or some `kinds`. It does not end by itself: when the broker ends the stream it goes on, also after
        the event whose id is given. Where no stream can be had for `timeout`, it raises.
        """
        feed = Feed(kinds, after, self._seconds(timeout), self._pace)
        while True:
            reply: Answer | NoAnswer | None = None
            url, headers = wire.url(self._endpoint, feed.request), feed.headers(await self._headers(feed.send))
            try:
                async with self._trusting().stream("GET", url, headers=headers, timeout=feed.timeout()) as response:
                    if response.status_code == 200:
                        feed.opened()
                        async for line in response.aiter_lines():
                            if event := feed.line(line):
                                yield event
                    else:
                        reply = wire.answer(response, await response.aread())
            except httpx.HTTPError as error:
                reply = wire.no_answer(error)
            await asyncio.sleep(feed.pause(reply))

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
    ) -> AsyncLeaseBlock:
        """A lease for as long as an `async with` block lasts; see `AsyncLeaseBlock`."""
        request = questions.new_lease(dataset, ttl, mode, queue)
        return AsyncLeaseBlock(self, request, ttl, renew, mounted, self._seconds(timeout), self._pace)

    async def request_lease(
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
        return await self.run(questions.granted(request, *self._with(timeout)))

    async def wait_until_active(self, lease: Lease | str, *, timeout: float | None = None) -> Lease:
        """Wait until a lease is granted."""
        return await self.run(questions.awaited(id_of(lease), False, *self._with(timeout)))

    async def wait_until_mounted(self, lease: Lease | str, *, timeout: float | None = None) -> Lease:
        """Wait until a lease is granted and its data can be mounted."""
        return await self.run(questions.awaited(id_of(lease), True, *self._with(timeout)))

    async def renew(
        self, lease: Lease | str, *, ttl: questions.Seconds | None = None, timeout: float | None = None
    ) -> Lease:
        """Keep a lease for so many seconds from now, or as long as the dataset is leased at most."""
        body = {} if ttl is None else {"ttl_seconds": questions.seconds(ttl)}
        return await self._change("POST", lease, "renewal", body, timeout)

    async def release(self, lease: Lease | str, *, timeout: float | None = None) -> Lease:
        """Give a lease back, leave the line, or withdraw a request."""
        return await self._change("DELETE", lease, None, None, timeout)

    # What data stewards do.

    async def register(
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
        return await self.run(questions.dataset_change("POST", ("datasets",), body, *self._with(timeout)))

    async def amend(
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
        return await self.run(questions.dataset_change("PATCH", path, body, *self._with(timeout)))

    async def remove(self, dataset: str, *, timeout: float | None = None) -> None:
        """Remove a dataset of the organisation."""
        path = ("datasets", questions.reference(dataset))
        await self.run(questions.change("DELETE", path, None, *self._with(timeout)))

    async def approve(self, lease: Lease | str, *, timeout: float | None = None) -> Lease:
        """Grant a lease that was asked for."""
        return await self._change("POST", lease, "approval", None, timeout)

    async def deny(self, lease: Lease | str, *, reason: str, timeout: float | None = None) -> Lease:
        """Refuse a lease that was asked for; the whole consortium can read the reason."""
        return await self._change("POST", lease, "denial", {"reason": reason}, timeout)

    async def revoke(self, lease: Lease | str, *, reason: str, timeout: float | None = None) -> Lease:
        """End somebody's lease now; the whole consortium can read the reason."""
        return await self._change("POST", lease, "revocation", {"reason": reason}, timeout)

    async def declare_ended(self, lease: Lease | str, *, reason: str, timeout: float | None = None) -> Lease:
        """Count a lease as ended whose cluster has not confirmed its end for an hour."""
        return await self._change("POST", lease, "declaration", {"reason": reason}, timeout)

    # Carrying out.

    async def run(self, flow: Flow[T]) -> T:
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
                await asyncio.sleep(step.seconds)
            else:
                reply = await self._send(step)

    async def _send(self, send: Send) -> Answer | NoAnswer:
        http = self._trusting()
        url, headers = wire.url(self._endpoint, send.request), await self._headers(send)
        options: dict[str, Any] = {"content": send.request.body, "timeout": wire.timeout(send)}
        try:
            async with asyncio.timeout(send.seconds):
                response = await http.request(send.request.method, url, headers=headers, **options)
                return wire.answer(response, response.content)
        except TimeoutError:
            return wire.too_slow(send)
        except httpx.HTTPError as error:
            return wire.no_answer(error)

    async def _headers(self, send: Send) -> httpx.Headers:
        try:
            return wire.headers(send.request, await _taken(self._endpoint.token()))
        except LeaseholdError:
            raise
        except Exception as error:
            reason = type(error).__name__
        raise wire.no_token(reason)

    def _trusting(self) -> httpx.AsyncClient:
        """Give the HTTP client for the CA certificates that the file holds now."""
        pem = self._endpoint.ca_pem()
        if self._closed:
            raise RuntimeError("the client is closed")
        if not self._http or pem != self._trusted:
            # Another task may be using the one before.
            options = wire.options(self._endpoint, pem)
            self._http.append(httpx.AsyncClient(transport=self._transport, **options))
            self._trusted = pem
        return self._http[-1]

    def _with(self, timeout: float | None) -> tuple[Budget, Pace]:
        return Budget(self._seconds(timeout)), self._pace

    def _seconds(self, timeout: float | None) -> float:
        return self._timeout if timeout is None else timeout

    async def _pages(self, pages: questions.Pages[T], timeout: float | None) -> AsyncIterator[T]:
        while not pages.is_read:
            for item in await self.run(pages.following(*self._with(timeout))):
                yield item

    async def _change(
        self,
        method: str,
        lease: Lease | str,
        verb: str | None,
        body: Mapping[str, Any] | None,
        timeout: float | None,
    ) -> Lease:
        return await self.run(questions.lease_change(method, id_of(lease), verb, body, *self._with(timeout)))


async def _taken(token: str | Awaitable[str]) -> str:
    return await token if inspect.isawaitable(token) else token
