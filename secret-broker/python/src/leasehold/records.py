"""What the broker tells, as frozen dataclasses. Fields that this version does not know are ignored, so that a newer
broker may add some; words such as a lease's state stay text for the same reason. Times are aware datetimes.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


class Unreadable(ValueError):
    """Data that is not the record it should be; says where, and never quotes."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A refusal (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str = ""
    instance: str | None = None
    field: str | None = None

    @property
    def code(self) -> str:
        """The stable word at the end of its type."""
        return self.type.rsplit(":", 1)[-1]

    @property
    def request_id(self) -> str | None:
        """The id of the request that it answered."""
        return self.instance.removeprefix("urn:uuid:") if self.instance else None


@dataclass(frozen=True, slots=True)
class Me:
    """Who the broker takes the caller for."""

    issuer: str
    subject: str
    organisation: str
    username: str | None = None
    roles: tuple[str, ...] = ()
    """Of `researcher`, `steward`, `operator`, `auditor`."""
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Policy:
    """On which terms a dataset is leased. In a request, what is none stays as it is, or is as the broker has it at
    first.
    """

    organisations: tuple[str, ...] | None = None
    """Whose people may lease it besides the owner's; `("*",)`: everybody's."""
    exclusive: bool | None = None
    most_shared: int | None = None
    approve_leases: bool | None = None
    most_waiting: int | None = None
    place_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """Why data could not be mounted."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset as the catalogue shows it."""

    id: str
    name: str
    """The directory below `~/datasets`."""
    owner: str
    """The organisation that registered it."""
    title: str
    max_ttl_seconds: int
    created_at: datetime
    lease_state: str
    """`free` or `leased`."""
    description: str = ""
    policy: Policy = Policy()
    waiting: int = 0
    finding: Finding | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a dataset's line."""

    place: int
    """From 1."""
    mode: str
    kept_until: datetime | None = None
    lease: str | None = None
    """For whom it is, and for the owner's stewards."""


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of a dataset's history."""

    revision: int
    at: datetime
    by: str
    """The organisation that submitted it."""
    what: Mapping[str, Any]
    """`event` names it; the rest depends on the event."""
    lease: str | None = None
    subject: str | None = None

    @property
    def event(self) -> str:
        """What happened, such as `lease_granted`."""
        return str(self.what.get("event", ""))


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease as its holder sees it."""

    OPEN: ClassVar[frozenset[str]] = frozenset({"requested", "waiting", "active"})

    id: str
    dataset_id: str
    dataset: str
    """The dataset's name."""
    owner: str
    subject: str
    """Pseudonym of the holder."""
    state: str
    """`requested` (its owner has to approve it), `waiting` (in the line), `active`, `ending` or `ended`."""
    mount: str
    """`pending`, `ready` or `failed`."""
    mode: str = "exclusive"
    fencing_token: int = 0
    """Grows with every lease of the dataset; 0 before it is granted."""
    organisation: str = ""
    cluster: str | None = None
    yours: bool = True
    place: int | None = None
    """Place in the line, from 1, while it waits."""
    asked_at: datetime | None = None
    granted_at: datetime | None = None
    expires_at: datetime | None = None
    """When it is over, and before it is granted, when its place or request is."""
    end_cause: str | None = None
    end_reason: str | None = None
    """In the words of the dataset's owner."""
    finding: Finding | None = None

    @property
    def is_active(self) -> bool:
        """Whether it is granted and not over, as far as the broker knew."""
        return self.state == "active"

    @property
    def is_open(self) -> bool:
        """Whether it is active, or may still become so."""
        return self.state in self.OPEN

    @property
    def path(self) -> Path:
        """Where jobs find the data, and a notebook its empty directories."""
        return Path.home() / "datasets" / self.dataset


@dataclass(frozen=True, slots=True)
class Skeleton:
    """The directories of a leased dataset, relative to its root, without data."""

    lease: str
    dataset: str
    directories: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Operation:
    """A write that was accepted: it happens exactly once."""

    id: str
    kind: str
    status: str
    """`pending`, `running`, `succeeded` or `failed`."""
    created_at: datetime
    finished_at: datetime | None = None
    result: Mapping[str, Any] | None = None
    """What it made: `{"dataset": id}` or `{"lease": id}`."""
    problem: Problem | None = None

    @property
    def is_decided(self) -> bool:
        """Whether it is known what became of it."""
        return self.status in ("succeeded", "failed")


@dataclass(frozen=True, slots=True)
class CatalogueChange:
    """A dataset is shown otherwise from now on."""

    dataset: str
    """Its id."""
    what: Mapping[str, Any]
    """What happened, as in its history."""


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """A decision that the broker recorded."""

    number: int
    """From 1, without a gap."""
    previous: str
    """SHA-256 of the record before."""
    id: str
    time: str
    """RFC 3339, UTC, as it was hashed."""
    who: str
    verb: str
    object: str
    decision: str
    """`allowed`, `denied`, or `unknown` where nobody tells whether it was done."""
    reason: str
    source: str | None = None
    request: str | None = None
    lease: str | None = None
    credential_opened: bool = False
    repeated: int | None = None
    """How many more of the same refusals followed within a minute."""


def read(kind: type[T], data: object) -> T:
    """Make a record of parsed JSON; raises `Unreadable` where it is none."""
    if not isinstance(data, Mapping):
        raise Unreadable(f"expected {kind.__name__} as an object")
    assert is_dataclass(kind)
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    for field in fields(kind):
        if field.name in data:
            values[field.name] = _value(hints[field.name], data[field.name], f"{kind.__name__}.{field.name}")
        elif field.default is MISSING:
            raise Unreadable(f"{kind.__name__}.{field.name} is missing")
    return kind(**values)


def _value(hint: Any, value: object, where: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        inner = next(argument for argument in arguments if argument is not types.NoneType)
        # The broker says 0 for a time that has not come.
        return None if value is None or (inner is datetime and value == 0) else _value(inner, value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise Unreadable(f"{where} is not a list")
        return tuple(_value(arguments[0], item, where) for item in value)
    if is_dataclass(hint) and isinstance(hint, type):
        return read(hint, value)
    if hint is datetime:
        return _time(value, where)
    expected = origin or hint
    if not isinstance(value, expected) or (expected is int and isinstance(value, bool)):
        raise Unreadable(f"{where} is of another type")
    return value


def _time(value: object, where: str) -> datetime:
    if isinstance(value, int) and not isinstance(value, bool):
        try:
            return datetime.fromtimestamp(value, UTC)
        except (OverflowError, OSError, ValueError):
            pass
    raise Unreadable(f"{where} is not a time")
