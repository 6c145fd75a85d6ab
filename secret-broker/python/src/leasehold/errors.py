"""Why a call gave nothing: the broker's RFC 9457 problems as exceptions, and what can go wrong without a broker.

Each has a stable `code`; those that a broker gave have its `title`, `detail`, `field`, HTTP `status` and `request_id`
too. None of them holds a token, and none has the HTTP library's exception, which does, as its cause.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from leasehold.records import Lease, Problem


class LeaseholdError(Exception):
    """What all exceptions of this package are."""

    def __init__(
        self,
        detail: str = "",
        *,
        code: str = "failed",
        title: str = "",
        field: str | None = None,
        status: int | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code
        self.title = title
        self.field = field
        """The part of the request that is wrong."""
        self.status = status
        """HTTP status; none where no broker answered."""
        self.request_id = request_id
        """Under this id the broker's log has the request."""
        self.operation: str | None = None
        """Id of an accepted write of which it is not known what became."""
        self.lease: Lease | None = None
        """The lease that it is about, as it was last seen."""

    def __str__(self) -> str:
        """Give the sentence, and the code in brackets."""
        place = f" in {self.field}" if self.field else ""
        return f"{self.detail} ({self.code}{place})"


class Misconfigured(LeaseholdError, ValueError):
    """An argument or a variable of the environment cannot be right; nothing was sent."""


class CredentialsUnreadable(LeaseholdError):
    """The token or the CA certificate cannot be read now."""


class Refused(LeaseholdError):
    """The broker understood the request, and the answer is no."""


class Invalid(Refused):
    """The request is not one that can be granted to anybody; `field` says where."""


class Unauthenticated(Refused):
    """The token is missing, over or not from an issuer that the broker accepts."""


class Forbidden(Refused):
    """Not in the caller's role, or not by the terms of the dataset's owner."""


class NotFound(Refused):
    """There is no such thing, or it is somebody else's."""


class Conflict(Refused):
    """Not as things stand: leased by somebody else, over already, others wait."""


class Unavailable(LeaseholdError):
    """Nobody answered, or the broker has too much to do, however often it was asked; later may do."""


class BrokerFailed(LeaseholdError):
    """A defect of the broker, or an answer that is not a broker's."""


class DeadlineExceeded(LeaseholdError, TimeoutError):
    """What was waited for did not come in time; it may still come."""


class LeaseEnded(LeaseholdError):
    """The lease ended while it was waited for: denied, revoked, lapsed, expired."""


class Unmountable(LeaseholdError):
    """The dataset is leased, but its data is not as its owner said."""


_BY_STATUS: dict[int, type[LeaseholdError]] = {
    400: Invalid,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    405: Invalid,
    409: Conflict,
    413: Invalid,
    415: Invalid,
    422: Invalid,
    429: Unavailable,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}


def of_problem(problem: Problem, request_id: str | None) -> LeaseholdError:
    """Give the exception that a problem stands for."""
    usual: type[LeaseholdError] = Refused if 400 <= problem.status < 500 else BrokerFailed
    return _BY_STATUS.get(problem.status, usual)(
        problem.detail,
        code=problem.code,
        title=problem.title,
        field=problem.field,
        status=problem.status,
        request_id=request_id or problem.request_id,
    )


def of_status(status: int, request_id: str | None) -> LeaseholdError:
    """Give the exception for an answer without a problem, as something between us and the broker gives."""
    kind = _BY_STATUS.get(status, BrokerFailed)
    if kind is not Unavailable:
        kind = BrokerFailed
    detail = (
        f"the answer with status {status} is not a secret broker's; check the URL, and what stands before the broker"
    )
    return kind(detail, code="unintelligible", status=status, request_id=request_id)
