"""A lease in one line, in a notebook: `with leasehold.lease("texts"): …`."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from types import TracebackType

from leasehold.async_client import AsyncClient
from leasehold.blocks import AsyncHeldLease, HeldLease
from leasehold.client import USUAL_SECONDS, Client
from leasehold.questions import Mode, Seconds

LAYING_SECONDS = 30.0


def lease(
    dataset: str,
    *,
    ttl: Seconds | None = None,
    mode: Mode | None = None,
    queue: bool = False,
    renew: bool = False,
    mounted: bool = True,
    timeout: float = USUAL_SECONDS,
) -> NotebookLease:
    """Lease a dataset for as long as a `with` or `async with` block lasts, from the broker that the environment names.

    `ttl` in seconds; the dataset's longest lease where it is none. See `LeaseBlock` for the rest.
    """
    return NotebookLease(dataset, ttl, mode, queue, renew, mounted, timeout)


class NotebookLease:
    """A lease and the connection that it needs, both for one block. Has the dataset's directories made below
    `~/datasets`, as the `leasehold` command does, where that is installed and there are such directories.
    """

    def __init__(
        self,
        dataset: str,
        ttl: Seconds | None,
        mode: Mode | None,
        queue: bool,
        renew: bool,
        mounted: bool,
        timeout: float,
    ) -> None:
        self._dataset, self._ttl, self._mode, self._queue = dataset, ttl, mode, queue
        self._renew, self._mounted, self._timeout = renew, mounted, timeout
        self._open: ExitStack | None = None
        self._async_open: AsyncExitStack | None = None

    def __enter__(self) -> HeldLease:
        with ExitStack() as stack:
            client = stack.enter_context(Client(timeout=self._timeout))
            block = client.lease(
                self._dataset,
                ttl=self._ttl,
                mode=self._mode,
                queue=self._queue,
                renew=self._renew,
                mounted=self._mounted,
            )
            held = stack.enter_context(block)
            lay_directories(Path.home())
            self._open = stack.pop_all()
        return held

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._open:
            self._open.__exit__(kind, error, at)

    async def __aenter__(self) -> AsyncHeldLease:
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(AsyncClient(timeout=self._timeout))
            block = client.lease(
                self._dataset,
                ttl=self._ttl,
                mode=self._mode,
                queue=self._queue,
                renew=self._renew,
                mounted=self._mounted,
            )
            held = await stack.enter_async_context(block)
            await asyncio.to_thread(lay_directories, Path.home())
            self._async_open = stack.pop_all()
        return held

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._async_open:
            await self._async_open.__aexit__(kind, error, at)


def lay_directories(home: Path) -> bool:
    """Have the command keep the directories of leased datasets in a home that has such; tells whether it did. Jobs
    find the data without them, except where a home cannot be written to from their node.
    """
    command = shutil.which("leasehold")
    if not command or not (home / "datasets").is_dir():
        return False
    arguments = [command, "skeleton", "sync", "--best-effort", "--home", str(home)]
    try:
        done = subprocess.run(arguments, capture_output=True, check=False, timeout=LAYING_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
