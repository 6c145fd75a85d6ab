"""A lease for as long as a block lasts: asked for, waited for, renewed while the block runs, and given back whatever
happens. Decided here without I/O, as flows; `blocks` carries them out.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path

from leasehold import questions
from leasehold.errors import Conflict, Forbidden, Invalid, LeaseholdError, NotFound, Refused
from leasehold.flow import UNREACHABLE, Budget, Flow, Pace, Pause, Request
from leasehold.records import Lease

LOG = logging.getLogger("leasehold")

RELEASE_SECONDS = 30.0
"""How long giving back may take."""
RENEWAL_SECONDS = 60.0
LEAST_PAUSE_SECONDS = 0.25


class Holding:
    """One lease and what has become of it."""

    def __init__(self, request: Request, ttl: questions.Seconds | None, mounted: bool, pace: Pace) -> None:
        self.request = request
        self.pace = pace
        self.lease: Lease | None = None
        self.trouble: LeaseholdError | None = None
        self._ttl = None if ttl is None else questions.seconds(ttl)
        self._mounted = mounted
        self._is_begun = False
        self._is_left = False

    def begin(self) -> None:
        """Refuse a second time: the first may still hold the lease."""
        if self._is_begun:
            raise RuntimeError("a block's lease is taken once; make another block")
        self._is_begun = True

    def take(self, budget: Budget) -> Flow[Lease]:
        """Ask for the lease and wait until it is as wanted."""
        self.lease = yield from questions.granted(self.request, budget, self.pace)
        if not questions.is_there(self.lease, self._mounted):
            self.lease = yield from questions.awaited(self.lease.id, self._mounted, budget, self.pace)
        return self.lease

    def give_back(self, budget: Budget) -> Flow[None]:
        """Release the lease, in whichever state it is, and whether or not an answer told of it; nothing where there
        is none.

        The request is sent again under its key where its answer is not known: if it was accepted, this tells what it
        made, and if it was not, it makes what is given back at once.
        """
        self._is_left = True
        if self.lease is None:
            try:
                self.lease = yield from questions.granted(self.request, budget, self.pace)
            except Refused:
                return
        if not self.lease.is_open:
            return
        known = self.lease.id
        try:
            self.lease = yield from questions.lease_change("DELETE", known, None, None, budget, self.pace)
            return
        except (NotFound, Conflict) as error:
            refusal = error
        if refusal.code == "lease_expired":
            return
        # It may be over already, by its owner's word for one.
        try:
            self.lease = yield from questions.one(Lease, ("leases", known), budget, self.pace)
        except NotFound:
            return
        if self.lease.is_open:
            raise questions.about(self.lease, refusal)

    def may_be_held(self, error: BaseException) -> bool:
        """Tell whether, after this failure of `take`, there may be something to give back."""
        if self.lease is not None:
            return True
        return not isinstance(error, Refused) and getattr(error, "code", "") != UNREACHABLE

    def renew(self, ttl: int | None, budget: Budget) -> Flow[Lease]:
        """Renew the lease once."""
        body = {} if ttl is None else {"ttl_seconds": ttl}
        self.lease = yield from questions.lease_change("POST", self.held.id, "renewal", body, budget, self.pace)
        return self.lease

    def keep(self) -> Flow[None]:
        """Renew the lease again and again, at half of the time that is left; ends when that cannot go on, and says
        why in `trouble`.
        """
        while (left := self.seconds_left) > 0:
            yield Pause(max(left / 2, LEAST_PAUSE_SECONDS))
            if (left := self.seconds_left) <= 0:
                break
            try:
                yield from self.renew(self._ttl, Budget(min(left, RENEWAL_SECONDS)))
                self.trouble = None
            except LeaseholdError as error:
                if self._is_left:
                    return
                # Not the last word in general: others may leave the line, brokers come back.
                self.trouble = error
                LOG.warning("lease %s of %s was not renewed: %s", self.held.id, self.held.dataset, error)
                if is_final(error):
                    return

    @property
    def held(self) -> Lease:
        """The lease as it was last seen."""
        if self.lease is None:
            raise RuntimeError("the lease is there inside of its with block only")
        return self.lease

    @property
    def seconds_left(self) -> float:
        """By this machine's clock."""
        until = self.held.expires_at
        return (until - datetime.now(UTC)).total_seconds() if until else 0.0


def is_final(error: LeaseholdError) -> bool:
    """Tell whether renewing again later is of no use."""
    if isinstance(error, Invalid):
        # Too little is gained as yet.
        return error.field != "ttl_seconds"
    return isinstance(error, (NotFound, Forbidden)) or (
        isinstance(error, Conflict) and error.code in ("lease_not_active", "lease_expired")
    )


class Held:
    """What a block has of its lease."""

    def __init__(self, holding: Holding) -> None:
        self._holding = holding

    @property
    def lease(self) -> Lease:
        """The lease as it was last seen."""
        return self._holding.held

    @property
    def id(self) -> str:
        """The lease's id."""
        return self.lease.id

    @property
    def dataset(self) -> str:
        """The dataset's name."""
        return self.lease.dataset

    @property
    def path(self) -> Path:
        """Where jobs find the data, and a notebook its empty directories."""
        return self.lease.path

    @property
    def expires_at(self) -> datetime | None:
        """Until when it lasts, unless it is renewed."""
        return self.lease.expires_at

    @property
    def trouble(self) -> LeaseholdError | None:
        """Why the last renewal in the background failed; none while all is well."""
        return self._holding.trouble

    def __repr__(self) -> str:
        """Show which lease it is."""
        return f"<{type(self).__name__} {self.id} of {self.dataset}, {self.lease.state}>"
