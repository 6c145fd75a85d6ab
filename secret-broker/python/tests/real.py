"""A real broker, with an issuer of tokens and a provisioner that the tests own."""

from __future__ import annotations

import base64
import json
import os
import re
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

import leasehold

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = "leasehold-secret-broker"
CLUSTER = "https://kubernetes.default.svc.cluster.local"
PROVISIONER = "system:serviceaccount:leasehold-system:leasehold-provisioner"
PATIENCE_SECONDS = 120.0
INVALID_OR_NOT_ALLOWED = ("3", "7", "12", "16")


def until(what: str, look: Callable[[], T | None]) -> T:
    """Wait for a condition, looking again and again."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (found := look()) is None:
        assert time.monotonic() < deadline, f"not within {PATIENCE_SECONDS} s: {what}"
        time.sleep(0.02)
    return found


def program() -> Path:
    """Find the broker: as `LEASEHOLD_BROKER_BIN` says, or where cargo builds it."""
    given = os.environ.get("LEASEHOLD_BROKER_BIN")
    built = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target") / "debug" / PROGRAM
    found = Path(given) if given else built
    if not found.is_file():
        pytest.skip(f"{PROGRAM} is not built: cargo build --package {PROGRAM}")
    return found


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Issuer:
    """A key pair, and its discovery document and key set on a loopback port."""

    def __init__(self, name: str | None = None) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                documents = {"/.well-known/openid-configuration": issuer.discovery(), "/openid/v1/jwks": issuer.keys()}
                document = documents.get(self.path)
                content = json.dumps(document).encode()
                self.send_response(200 if document else 404)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.name = name or self.url
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def discovery(self) -> dict[str, Any]:
        return {"issuer": self.name, "jwks_uri": f"{self.url}/openid/v1/jwks"}

    def keys(self) -> dict[str, Any]:
        numbers = self.key.public_key().public_numbers()
        point = {"x": _text(numbers.x.to_bytes(32, "big")), "y": _text(numbers.y.to_bytes(32, "big"))}
        return {"keys": [{"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": "k1", **point}]}

    def sign(self, **claims: Any) -> str:
        """Sign claims that hold for ten minutes, unless they say otherwise."""
        now = int(time.time())
        good = {"iss": self.name, "aud": "leasehold", "iat": now, "nbf": now, "exp": now + 600}
        head = {"alg": "ES256", "typ": "JWT", "kid": "k1"}
        message = ".".join(_text(json.dumps(part).encode()) for part in (head, good | claims))
        r, s = utils.decode_dss_signature(self.key.sign(message.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{message}.{_text(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Broker:
    """The built program as its operator runs it."""

    def __init__(self, directory: Path) -> None:
        self.program = program()
        self.directory = directory
        self.provider, self.cluster = Issuer(), Issuer(CLUSTER)
        self._process: subprocess.Popen[bytes] | None = None
        self._starts = 0
        self.rest = self.grpc = "127.0.0.1:0"
        self._configure()
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self.provider.close()
        self.cluster.close()

    def _configure(self) -> None:
        token = self.directory / "own-token"
        token.write_text("the-brokers-own-token")
        cluster = {"name": "cluster", "kind": "kubernetes", "api_server": self.cluster.url, "algorithms": ["ES256"]}
        provider: dict[str, Any] = {
            "name": "provider",
            "kind": "oidc",
            "issuer": self.provider.url,
            "algorithms": ["ES256"],
        }
        provider |= {"researchers": True, "roles": [{"claim": "groups", "values": {"audit": "auditor"}}]}
        config = {
            # The API server that is played here reviews no tokens.
            "issuers": [{**cluster, "token_file": str(token), "ca_file": None, "review_tokens": False}, provider],
            "stewards": [{"issuer": "provider", "subject": "steward"}],
            "machines": {"provisioner": [PROVISIONER]},
        }
        (self.directory / "config.yaml").write_text(json.dumps(config))

    def start(self) -> None:
        """Start the process, where it listened before, and wait until it is ready."""
        self._starts += 1
        log = self.directory / f"broker-{self._starts}.log"
        data = self.directory / "data"
        arguments = ["--organisation", "UiSMSP", "--kek-create", "--local-roots", "UiSMSP=/srv/leasehold/uis"]
        arguments += ["--rest-listen", self.rest, "--grpc-listen", self.grpc, "--probe-listen", "127.0.0.1:0"]
        arguments += ["--config", str(self.directory / "config.yaml"), "--data-dir", str(data)]
        with log.open("wb") as file:
            self._process = subprocess.Popen([self.program, *arguments], env={}, stdout=file, stderr=file)

        def listening() -> dict[str, Any] | None:
            assert self._process is not None
            assert self._process.poll() is None, f"the broker ended: {log.read_text()[-2000:]}"
            line = re.search(r"^.*the secret broker listens.*\n", log.read_text(), re.MULTILINE)
            return json.loads(line[0]) if line else None

        told = until("the broker to listen", listening)
        self.rest, self.grpc = told["rest"], told["grpc"]
        with httpx.Client(trust_env=False) as probe:
            until("the broker to be ready", lambda: self._is_ready(probe, told["probe"]) or None)

    @staticmethod
    def _is_ready(probe: httpx.Client, address: str) -> bool:
        with suppress(httpx.TransportError):
            return probe.get(f"http://{address}/readyz").is_success
        return False

    def kill(self) -> None:
        """End the process as `kill -9` does."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    @property
    def url(self) -> str:
        return f"https://{self.rest}"

    @property
    def ca_file(self) -> Path:
        return self.directory / "data" / "tls-ca.pem"

    def token(self, subject: str) -> str:
        """Sign a token; who is called auditor is one."""
        return self.provider.sign(sub=subject, groups=["audit"] if subject == "auditor" else [])

    def client(self, subject: str, **more: Any) -> leasehold.Client:
        usual: dict[str, Any] = {
            "token": lambda: self.token(subject),
            "ca_file": self.ca_file,
            "timeout": PATIENCE_SECONDS,
        }
        return leasehold.Client(self.url, **{**usual, **more})

    def async_client(self, subject: str, **more: Any) -> leasehold.AsyncClient:
        usual: dict[str, Any] = {
            "token": lambda: self.token(subject),
            "ca_file": self.ca_file,
            "timeout": PATIENCE_SECONDS,
        }
        return leasehold.AsyncClient(self.url, **{**usual, **more})


class Provisioner:
    """What a cluster does for leases, and no more: it says that they can be mounted, and confirms their ends."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        context = ssl.create_default_context(cafile=str(broker.ca_file))
        self._http = httpx.Client(http1=False, http2=True, verify=context, trust_env=False)
        self.refusals: list[str] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._http.close()

    def _run(self) -> None:
        with self._broker.client("steward") as steward:
            while not self._over.wait(0.1):
                # The broker may be away for a moment, or the lease be over.
                with suppress(leasehold.LeaseholdError, httpx.TransportError):
                    for lease in steward.leases():
                        if lease.state == "active" and lease.mount == "pending":
                            directories = [_field(5, name.encode()) for name in ("a", "a/b")]
                            self._call("ReportMount", _field(1, lease.id.encode()), b"\x10\x02", *directories)
                        elif lease.state == "ending":
                            self._call("ConfirmEnd", _field(1, lease.id.encode()))

    def check(self) -> None:
        """Fail where the broker did not take what a provisioner says."""
        assert self.refusals == []

    def _call(self, method: str, *fields: bytes) -> None:
        """Call the broker's gRPC interface, written out."""
        uids = {"serviceaccount": {"name": "leasehold-provisioner", "uid": "u"}, "pod": {"name": "p", "uid": "p"}}
        claims = {"kubernetes.io": {"namespace": "leasehold-system", **uids}}
        token = self._broker.cluster.sign(sub=PROVISIONER, aud=["leasehold-broker"], **claims)
        message = b"".join(fields)
        answer = self._http.post(
            f"https://{self._broker.grpc}/leasehold.broker.v1.Machines/{method}",
            content=b"\0" + len(message).to_bytes(4, "big") + message,
            headers={"Content-Type": "application/grpc", "TE": "trailers", "Authorization": f"Bearer {token}"},
        )
        # A lease may be over, or told of already, by the time that this is read; the rest is wrong.
        if answer.headers.get("grpc-status") in INVALID_OR_NOT_ALLOWED:
            self.refusals.append(f"{method}: {answer.headers.get('grpc-message')}")


def _field(number: int, value: bytes) -> bytes:
    """Write a short length-delimited field of a protobuf message."""
    assert len(value) < 128
    return bytes([number << 3 | 2, len(value)]) + value
