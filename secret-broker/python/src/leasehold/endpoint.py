"""Where the broker is, whom to trust for it, and who we are: given, or as a Leasehold notebook has it in its
environment (`LEASEHOLD_URL`, `LEASEHOLD_TOKEN_FILE`, `LEASEHOLD_CA_FILE`), exactly as for the `leasehold` command.

Token and CA certificate are read anew for every request: the kubelet replaces a notebook's token every few minutes. A
token goes to where it cannot be overheard only.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from leasehold.errors import CredentialsUnreadable, Misconfigured

LARGEST_FILE_BYTES = 1 << 20
LOOPBACK = ("127.0.0.1", "::1", "localhost")
# Bundles have comments between certificates, in any encoding.
CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----")
VISIBLE = re.compile(r"[\x21-\x7e]+")

TokenSource = Callable[[], str | Awaitable[str]]
"""Gives a token that is good now; only an `AsyncClient` takes one that has to be awaited."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One broker and one caller."""

    url: str
    ca_file: Path | None = None
    token: TokenSource = field(default=lambda: "", repr=False)

    @classmethod
    def found(
        cls,
        url: str | None,
        token: TokenSource | None,
        token_file: str | os.PathLike[str] | None,
        ca_file: str | os.PathLike[str] | None,
    ) -> Endpoint:
        """Take what is given and the rest from the environment; nothing is read or connected yet."""
        url = url or os.environ.get("LEASEHOLD_URL")
        token_file = token_file or os.environ.get("LEASEHOLD_TOKEN_FILE")
        ca_file = ca_file or os.environ.get("LEASEHOLD_CA_FILE")
        if not url:
            raise _missing("broker", "url", "LEASEHOLD_URL")
        if token is None:
            if not token_file:
                raise _missing("token file", "token_file", "LEASEHOLD_TOKEN_FILE")
            token = _reader(Path(token_file))
        return cls(checked_url(url), Path(ca_file) if ca_file else None, token)

    @property
    def may_use_proxies(self) -> bool:
        """Whether the environment's proxies are for it: they are not for this very machine."""
        return self.url.startswith("https:")

    def ca_pem(self) -> str | None:
        """Give the CA certificates that the file holds now; none where the machine's own trust store serves."""
        if self.ca_file is None:
            return None
        blocks = CERTIFICATE.findall(_content(self.ca_file, "CA certificate"))
        if not blocks:
            raise _malformed(self.ca_file, "CA certificate")
        return b"\n".join(blocks).decode("ascii")

    def trusting(self, pem: str | None) -> ssl.SSLContext:
        """Give what trusts these CA certificates, and no others."""
        reason = ""
        try:
            return ssl.create_default_context(cadata=pem)
        except ssl.SSLError as error:
            reason = str(error)
        raise CredentialsUnreadable(f"cannot set up TLS for {self.url}: {reason}", code="credentials_unreadable")


def checked_url(url: str) -> str:
    """Give the URL without a slash at its end; plain HTTP is for loopback addresses only."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if not host or "@" in parts.netloc or parts.query or parts.fragment or not VISIBLE.fullmatch(url):
        # What it holds may be a password.
        raise Misconfigured("the broker's URL is not an absolute one such as https://broker:8443", code="malformed_url")
    if parts.scheme != "https" and not (parts.scheme == "http" and host in LOOPBACK):
        raise Misconfigured(f"broker URL {url!r} would send a token in the clear; use https", code="insecure_url")
    return url.rstrip("/")


def is_token(token: object) -> bool:
    """Tell whether it can be a token, in a header."""
    return isinstance(token, str) and VISIBLE.fullmatch(token) is not None


def _reader(path: Path) -> TokenSource:
    def token() -> str:
        content = _content(path, "token").strip()
        if not content.isascii() or not VISIBLE.fullmatch(content.decode("ascii")):
            raise _malformed(path, "token")
        return content.decode("ascii")

    return token


def _content(path: Path, what: str) -> bytes:
    reason = ""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE_BYTES + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
    if reason:
        raise CredentialsUnreadable(f"cannot read the {what} from {path}: {reason}", code="credentials_unreadable")
    if len(content) > LARGEST_FILE_BYTES:
        raise _malformed(path, what)
    return content


def _missing(what: str, argument: str, variable: str) -> Misconfigured:
    detail = f"no {what} is given: pass {argument} or set {variable} (a Leasehold notebook has it set)"
    return Misconfigured(detail, code="not_configured")


def _malformed(path: Path, what: str) -> CredentialsUnreadable:
    return CredentialsUnreadable(f"{path} does not hold a {what}", code="credentials_unreadable")
