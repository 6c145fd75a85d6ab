"""The little that `Client` and `AsyncClient` share about HTTP: how a request is written, an answer read, and a
failure told apart. The HTTP library's exceptions end here: they hold the request, and so the token.
"""

from __future__ import annotations

import inspect
import ssl
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import httpx

from leasehold.endpoint import Endpoint, is_token
from leasehold.errors import CredentialsUnreadable, Misconfigured
from leasehold.flow import Answer, NoAnswer, Request, Send

CONNECT_SECONDS = 5.0


def _version() -> str:
    try:
        return version("leasehold")
    except PackageNotFoundError:  # run from its sources
        return "0"


USER_AGENT = f"leasehold-python/{_version()}"


def options(endpoint: Endpoint, pem: str | None) -> dict[str, Any]:
    """Give how the HTTP library is set up."""
    return {
        "verify": endpoint.trusting(pem) if endpoint.may_use_proxies else False,
        "trust_env": endpoint.may_use_proxies,
        "follow_redirects": False,
    }


def url(endpoint: Endpoint, request: Request) -> str:
    """Give the request's URL; its segments were checked."""
    query = f"?{request.query}" if request.query else ""
    return "/".join([endpoint.url, "v1", *request.path]) + query


def headers(request: Request, token: object) -> httpx.Headers:
    """Give the request's headers, which do not show the token. Callers keep it in no variable: tracebacks show it."""
    if not is_token(token):
        awaitable = inspect.isawaitable(token)
        del token
        if awaitable:
            raise Misconfigured("a token that has to be awaited is for an AsyncClient", code="malformed_token")
        raise CredentialsUnreadable("what was given as a token is none", code="credentials_unreadable")
    given = {
        "Accept": "application/json, application/problem+json",
        "Authorization": f"Bearer {token}",
        "User-Agent": USER_AGENT,
    }
    if request.body is not None:
        given["Content-Type"] = "application/json"
    if request.key is not None:
        given["Idempotency-Key"] = request.key
    return httpx.Headers(given)


def no_token(reason: str) -> CredentialsUnreadable:
    """Give the failure of a caller's source of tokens; what that said may hold one."""
    return CredentialsUnreadable(f"the source of tokens failed with {reason}", code="credentials_unreadable")


def timeout(send: Send) -> httpx.Timeout:
    """Give how long each step may take."""
    return httpx.Timeout(send.seconds, connect=min(CONNECT_SECONDS, send.seconds))


def answer(response: httpx.Response, body: bytes) -> Answer:
    """Give what was answered."""
    return Answer(response.status_code, {k.lower(): v for k, v in response.headers.items()}, body)


def no_answer(error: httpx.HTTPError) -> NoAnswer:
    """Give why nobody answered."""
    reason = str(error) or type(error).__name__
    untrusted = any(isinstance(cause, ssl.SSLCertVerificationError) for cause in _causes(error))
    never_sent = isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError))
    return NoAnswer(reason, may_pass=not untrusted, was_sent=not never_sent)


def too_slow(send: Send) -> NoAnswer:
    """Give what an answer is that does not end."""
    return NoAnswer(f"the answer was not complete after {send.seconds:.0f} s")


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__
