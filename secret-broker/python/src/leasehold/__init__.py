"""Lease datasets of other organisations, from notebooks and programmes.

    import leasehold

    with leasehold.lease("texts", ttl=7200) as lease:
        ...  # run the workflow, and wait for it

`Client` and `AsyncClient` have the rest.
"""

from leasehold.async_client import AsyncClient
from leasehold.blocks import AsyncHeldLease, AsyncLeaseBlock, HeldLease, LeaseBlock
from leasehold.client import Client
from leasehold.errors import (
    BrokerFailed,
    Conflict,
    CredentialsUnreadable,
    DeadlineExceeded,
    Forbidden,
    Invalid,
    LeaseEnded,
    LeaseholdError,
    Misconfigured,
    NotFound,
    Refused,
    Unauthenticated,
    Unavailable,
    Unmountable,
)
from leasehold.feed import StreamEvent
from leasehold.flow import Pace
from leasehold.notebook import NotebookLease, lease
from leasehold.records import (
    AuditRecord,
    CatalogueChange,
    Dataset,
    Event,
    Finding,
    Lease,
    Me,
    Operation,
    Place,
    Policy,
    Problem,
    Skeleton,
)

__all__ = [
    "AsyncClient",
    "AsyncHeldLease",
    "AsyncLeaseBlock",
    "AuditRecord",
    "BrokerFailed",
    "CatalogueChange",
    "Client",
    "Conflict",
    "CredentialsUnreadable",
    "Dataset",
    "DeadlineExceeded",
    "Event",
    "Finding",
    "Forbidden",
    "HeldLease",
    "Invalid",
    "Lease",
    "LeaseBlock",
    "LeaseEnded",
    "LeaseholdError",
    "Me",
    "Misconfigured",
    "NotFound",
    "NotebookLease",
    "Operation",
    "Pace",
    "Place",
    "Policy",
    "Problem",
    "Refused",
    "Skeleton",
    "StreamEvent",
    "Unauthenticated",
    "Unavailable",
    "Unmountable",
    "lease",
]
