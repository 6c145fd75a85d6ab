"""The same call through both clients."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from standin import PACE, TOKEN, URL

from leasehold import AsyncClient, Client

Call = Callable[[Any], Any]
Ask = Callable[..., Any]


def _options(handler: Any, options: dict[str, Any]) -> dict[str, Any]:
    usual: dict[str, Any] = {"url": URL, "pace": PACE, "timeout": 20.0}
    if "token_file" not in options:
        usual["token"] = lambda: TOKEN
    return {**usual, "transport": httpx.MockTransport(handler), **options}


def _sync(handler: Any, call: Call, **options: Any) -> Any:
    with Client(**_options(handler, options)) as client:
        found = call(client)
        return list(found) if isinstance(found, Iterator) else found


def _async(handler: Any, call: Call, **options: Any) -> Any:
    async def main() -> Any:
        async with AsyncClient(**_options(handler, options)) as client:
            found = call(client)
            return await found if inspect.isawaitable(found) else [item async for item in found]

    return asyncio.run(main())


@pytest.fixture(params=[_sync, _async], ids=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Makes a call, once with each client, answered by a handler."""
    chosen: Ask = request.param
    return chosen
