"""`with` and `async with`: a lease that is given back when the block ends, however it ends."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING

from leasehold import questions
from leasehold.errors import LeaseholdError
from leasehold.flow import Budget, Pace, Request
from leasehold.holding import RELEASE_SECONDS, Held, Holding
from leasehold.records import Lease, Skeleton

if TYPE_CHECKING:
    from leasehold.async_client import AsyncClient
    from leasehold.client import Client


class HeldLease(Held):
    """The lease of a `with` block."""

    def __init__(self, holding: Holding, client: Client) -> None:
        super().__init__(holding)
        self._client = client

    def renew(self, ttl: questions.Seconds | None = None, *, timeout: float | None = None) -> Lease:
        """Keep the lease for so many seconds from now, or as long as the dataset is leased at most."""
        self._holding.lease = self._client.renew(self.lease, ttl=ttl, timeout=timeout)
        return self._holding.lease

    def skeleton(self, *, timeout: float | None = None) -> Skeleton:
        """The dataset's directories."""
        return self._client.skeleton(self.lease, timeout=timeout)


class LeaseBlock:
    """Leases a dataset for as long as the block lasts.

    Entering asks for the lease and waits, `timeout` seconds at most, until it is active and (unless `mounted` is
    false) its data can be mounted. With `queue` this includes the time in the line, so give it a longer `timeout`
    then. Leaving releases the lease, and so does whatever keeps the block from being entered. With `renew` a thread
    keeps the lease from ending meanwhile; where it cannot, the lease says so in its `trouble`. A renewal has to bring a
    minute, so give a `ttl` of some minutes then. A block is entered once.
    """

    def __init__(
        self,
        client: Client,
        request: Request,
        ttl: questions.Seconds | None,
        renew: bool,
        mounted: bool,
        timeout: float,
        pace: Pace,
    ) -> None:
        self._client = client
        self._holding = Holding(request, ttl, mounted, pace)
        self._renew = renew
        self._timeout = timeout
        self._over = threading.Event()
        self._keeper: threading.Thread | None = None

    def __enter__(self) -> HeldLease:
        self._holding.begin()
        try:
            self._client.run(self._holding.take(Budget(self._timeout)))
            if self._renew:
                self._keeper = threading.Thread(target=self._keep, name="leasehold-renewal", daemon=True)
                self._keeper.start()
        except BaseException as error:
            if self._holding.may_be_held(error):
                self._leave(error)
            raise
        return HeldLease(self._holding, self._client)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._leave(error)

    def _leave(self, error: BaseException | None) -> None:
        """Give the lease back; a failure of that is the block's, or is noted on the block's own."""
        self._over.set()
        try:
            self._client.run(self._holding.give_back(Budget(RELEASE_SECONDS)))
        except LeaseholdError as failure:
            if error is None:
                raise
            error.add_note(still_held(self._holding, failure))
        finally:
            if self._keeper:
                self._keeper.join(RELEASE_SECONDS)

    def _keep(self) -> None:
        with suppress(_Over):
            self._client.run(self._holding.keep(), self._sleep)

    def _sleep(self, seconds: float) -> None:
        if self._over.wait(seconds):
            raise _Over


class _Over(Exception):
    """The block has been left."""


class AsyncHeldLease(Held):
    """The lease of an `async with` block."""

    def __init__(self, holding: Holding, client: AsyncClient) -> None:
        super().__init__(holding)
        self._client = client

    async def renew(self, ttl: questions.Seconds | None = None, *, timeout: float | None = None) -> Lease:
        """Keep the lease for so many seconds from now, or as long as the dataset is leased at most."""
        self._holding.lease = await self._client.renew(self.lease, ttl=ttl, timeout=timeout)
        return self._holding.lease

    async def skeleton(self, *, timeout: float | None = None) -> Skeleton:
        """The dataset's directories."""
        return await self._client.skeleton(self.lease, timeout=timeout)


class AsyncLeaseBlock:
    """`LeaseBlock` for `async with`: a task of the event loop renews. The lease is given back also where the block is
    cancelled.
    """

    def __init__(
        self,
        client: AsyncClient,
        request: Request,
        ttl: questions.Seconds | None,
        renew: bool,
        mounted: bool,
        timeout: float,
        pace: Pace,
    ) -> None:
        self._client = client
        self._holding = Holding(request, ttl, mounted, pace)
        self._renew = renew
        self._timeout = timeout
        self._keeper: asyncio.Task[None] | None = None

    async def __aenter__(self) -> AsyncHeldLease:
        self._holding.begin()
        try:
            await self._client.run(self._holding.take(Budget(self._timeout)))
            if self._renew:
                self._keeper = asyncio.create_task(self._client.run(self._holding.keep()), name="leasehold-renewal")
        except BaseException as error:
            if self._holding.may_be_held(error):
                await self._leave(error)
            raise
        return AsyncHeldLease(self._holding, self._client)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._leave(error)

    async def _leave(self, error: BaseException | None) -> None:
        if self._keeper:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        try:
            await self._client.run(self._holding.give_back(Budget(RELEASE_SECONDS)))
        except LeaseholdError as failure:
            if error is None:
                raise
            error.add_note(still_held(self._holding, failure))


def still_held(holding: Holding, failure: LeaseholdError) -> str:
    """Tell that a lease could not be given back."""
    which = f"lease {holding.lease.id}" if holding.lease else "the lease that was asked for"
    return f"{which} could not be given back and ends by its time: {failure}"
