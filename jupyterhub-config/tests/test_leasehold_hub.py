"""What the hook file promises: the merge, what jupyterflow may copy, and the call over a real TLS socket."""

from __future__ import annotations

import asyncio
import copy
import datetime
import json
import logging
import ssl
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from kubernetes_asyncio.client import V1EnvVar, V1EnvVarSource, V1ObjectFieldSelector
from kubernetes_asyncio.client.api_client import ApiClient
from kubespawner.objects import make_pod
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler
from traitlets.config import Config

import leasehold_hub

TOKEN = "5f0c1e0f6d4b4e0f9e0c"
SCOPES = '["access:servers!server=alice/", "access:servers!user=alice"]'

PATCH: dict[str, Any] = {
    "service_account": "nb-alice-example-com-ff8d9819fc0e12bf",
    "executor_service_account": "wf-alice-example-com-ff8d9819fc0e12bf",
    "annotations": {"leasehold.dev/x": "y"},
    "env": {"LEASEHOLD_URL": "https://broker:8443", "LEASEHOLD_TOKEN_FILE": "/var/run/leasehold/token"},
    "volumes": [{"name": "leasehold-identity", "projected": {"sources": []}}],
    "volume_mounts": [{"name": "leasehold-identity", "mountPath": "/var/run/leasehold", "readOnly": True}],
    "init_containers": [{"name": "leasehold-skeleton", "image": "cli:dev"}],
}


def kubespawner_pod(**more: Any) -> Any:
    """Make a pod as KubeSpawner 7 does."""
    arguments: dict[str, Any] = {
        "name": "jupyter-alice-example-com---ff8d9819",
        "cmd": ["jupyterhub-singleuser"],
        "port": 8888,
        "image": "notebook:dev",
        "uid": 1000,
        "gid": 100,
        "fs_gid": 100,
        "env": {
            "JUPYTERHUB_API_TOKEN": TOKEN,
            "JPY_API_TOKEN": TOKEN,
            "JUPYTERHUB_OAUTH_SCOPES": SCOPES,
            "JUPYTERHUB_USER": "alice@example.com",
            "LEASEHOLD_URL": "https://stale",
        },
        "volumes": [{"name": "home", "persistentVolumeClaim": {"claimName": "claim-alice"}}],
        "volume_mounts": [{"name": "home", "mountPath": "/home/jovyan/", "subPath": "alice"}],
        "init_containers": [{"name": "block-cloud-metadata", "image": "iptables"}],
        "annotations": {"hub.jupyter.org/username": "alice@example.com"},
    }
    return make_pod(**{**arguments, **more})


def sent(pod: Any) -> dict[str, Any]:
    """Give the pod as it goes to the API server."""
    sanitize = ApiClient.sanitize_for_serialization
    result: dict[str, Any] = sanitize(SimpleSanitizer(), pod)
    return result


class SimpleSanitizer(ApiClient):
    """The serializer without its connection pool."""

    def __init__(self) -> None:
        pass


def test_the_request_is_read_from_the_pod_as_kubespawner_made_it() -> None:
    request = leasehold_hub.spawn_request(
        username="alice@example.com",
        namespace="hub",
        pod=kubespawner_pod(),
        id_token="",
        home_mount_path="/home/jovyan",
    )
    assert request == {
        "username": "alice@example.com",
        "namespace": "hub",
        "pod_name": "jupyter-alice-example-com---ff8d9819",
        "id_token": None,
        "uid": 1000,
        "gid": 100,
        "home": {"claim": "claim-alice", "sub_path": "alice", "mount_path": "/home/jovyan", "volume": "home"},
    }


def test_a_pod_without_a_home_is_refused_with_what_to_set() -> None:
    pod = kubespawner_pod(volumes=[{"name": "home", "emptyDir": {}}])
    with pytest.raises(leasehold_hub.SpawnRefused, match="homeMountPath") as refused:
        leasehold_hub.home_of(pod, "/home/jovyan")
    assert refused.value.jupyterhub_message.startswith("Leasehold could not prepare your notebook")


def test_a_home_whose_place_only_the_kubelet_knows_is_refused() -> None:
    mount = {"name": "home", "mountPath": "/home/jovyan", "subPathExpr": "$(JUPYTERHUB_USER)"}
    pod = kubespawner_pod(volume_mounts=[mount])
    with pytest.raises(leasehold_hub.SpawnRefused, match="subPathExpr"):
        leasehold_hub.home_of(pod, "/home/jovyan")


def test_the_answer_is_merged_beside_what_was_there() -> None:
    pod = kubespawner_pod()
    leasehold_hub.merge(pod, copy.deepcopy(PATCH))
    spec = sent(pod)["spec"]
    assert spec["serviceAccountName"] == PATCH["service_account"]
    assert spec["automountServiceAccountToken"] is True
    assert [volume["name"] for volume in spec["volumes"]] == ["home", "leasehold-identity"]
    assert [container["name"] for container in spec["initContainers"]] == ["block-cloud-metadata", "leasehold-skeleton"]
    notebook = spec["containers"][0]
    assert [mount["name"] for mount in notebook["volumeMounts"]] == ["home", "leasehold-identity"]
    assert [e["value"] for e in notebook["env"] if e["name"] == "LEASEHOLD_URL"] == ["https://broker:8443"]
    annotations = sent(pod)["metadata"]["annotations"]
    assert annotations["hub.jupyter.org/username"] == "alice@example.com"
    assert annotations["leasehold.dev/x"] == "y"


def test_merging_twice_is_merging_once() -> None:
    once, twice = kubespawner_pod(), kubespawner_pod()
    for pod, times in ((once, 1), (twice, 2)):
        for _ in range(times):
            leasehold_hub.merge(pod, copy.deepcopy(PATCH))
            leasehold_hub.shelter_environment(pod, {TOKEN})
    assert sent(once) == sent(twice)


def test_no_hub_token_and_nothing_that_breaks_jupyterflow_is_a_plain_value() -> None:
    pod = kubespawner_pod()
    pod.spec.containers[0].env += [
        V1EnvVar(name="WINDOWS_PATH", value="C:\\data"),
        V1EnvVar(name="LINES", value="a\nb"),
        V1EnvVar(name="ARGO", value="{{workflow.name}}"),
        V1EnvVar(name="URL_WITH_TOKEN_INSIDE", value=f"https://hub/?token={TOKEN}"),
        V1EnvVar(name="weird name!", value='"'),
        V1EnvVar(name="N" * 80, value='"'),
        V1EnvVar(name="EMPTY", value=""),
        V1EnvVar(name="POD_IP", value_from=V1EnvVarSource(field_ref=V1ObjectFieldSelector(field_path="status.podIP"))),
        V1EnvVar(name="PLAIN", value="it's: #fine & {x} 100%"),
    ]
    before = {e["name"]: e for e in sent(pod)["spec"]["containers"][0]["env"]}
    leasehold_hub.shelter_environment(pod, {TOKEN})
    manifest = sent(pod)
    annotations = manifest["metadata"]["annotations"]
    plain = set()
    for variable in manifest["spec"]["containers"][0]["env"]:
        name = variable["name"]
        if variable == before[name]:
            plain.add(name)
            continue
        path = variable["valueFrom"]["fieldRef"]["fieldPath"]
        key = path.removeprefix("metadata.annotations['").removesuffix("']")
        assert annotations[key] == before[name]["value"]
        prefix, _, local = key.partition("/")
        assert prefix == "env.leasehold.dev"
        assert len(local) <= 63
    assert plain == {"JUPYTERHUB_USER", "LEASEHOLD_URL", "EMPTY", "POD_IP", "PLAIN"}
    assert len(manifest["spec"]["containers"][0]["env"]) == len(before)


def test_variables_never_share_an_annotation() -> None:
    names = ["A", "a", "A.B", "A_B", "_A", "A-", "N" * 63, "N" * 64, "N" * 65, "weird name!", "weird name?"]
    assert len({leasehold_hub.annotation_key(name) for name in names}) == len(names)


def test_an_earlier_hook_runs_first() -> None:
    seen: list[str] = []
    c = Config()

    async def earlier(spawner: Any, pod: Any) -> Any:
        seen.append("earlier")
        return pod

    c.KubeSpawner.modify_pod_hook = earlier
    leasehold_hub.configure(c)
    spawner = SimpleNamespace(user=SimpleNamespace(name="alice", get_auth_state=no_auth_state), namespace="hub")
    with pytest.raises(leasehold_hub.SpawnRefused):
        asyncio.run(c.KubeSpawner.modify_pod_hook(spawner, kubespawner_pod(volumes=[], volume_mounts=[])))
    assert seen == ["earlier"]


async def no_auth_state() -> None:
    return None


def test_wrong_settings_stop_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEASEHOLD_SPAWNER_HOOK_URL", "http://hook:8443")
    with pytest.raises(ValueError, match="https"):
        leasehold_hub.read_settings()


# The call, over TLS.


class Hook(RequestHandler):
    """A spawner-hook that answers from a script."""

    def initialize(self, script: list[tuple[int, Any]], seen: list[tuple[str | None, Any]]) -> None:
        self.script, self.seen = script, seen

    def post(self) -> None:
        self.seen.append((self.request.headers.get("Authorization"), json.loads(self.request.body)))
        status, body = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        self.set_status(status)
        self.finish(body if isinstance(body, str) else json.dumps(body))


def certificate(directory: Path, name: str) -> ssl.SSLContext:
    """Make an authority (ca.crt) and a server context with a leaf for a name."""
    now = datetime.datetime.now(datetime.UTC)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])

    def build(subject: x509.Name, key: ec.EllipticCurvePrivateKey, extension: x509.ExtensionType) -> bytes:
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number()).add_extension(extension, critical=False)
        builder = builder.not_valid_before(now - datetime.timedelta(hours=1))
        builder = builder.not_valid_after(now + datetime.timedelta(hours=1))
        return builder.sign(keys[0], hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    (directory / "ca.crt").write_bytes(build(issuer, keys[0], x509.BasicConstraints(ca=True, path_length=0)))
    leaf = build(x509.Name([]), keys[1], x509.SubjectAlternativeName([x509.DNSName(name)]))
    private = keys[1].private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (directory / "server.pem").write_bytes(private + leaf)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "server.pem")
    return context


NAME = "leasehold-spawner-hook.leasehold-system.svc"


class Run:
    """One call of the hook through `prepare`, with everything around it scripted."""

    def __init__(
        self, directory: Path, script: list[tuple[int, Any]], *, served_name: str = NAME, deadline: str = "20"
    ) -> None:
        self.directory, self.script, self.served_name = directory, script, served_name
        self.seen: list[tuple[str | None, Any]] = []
        self.settings = {name: default for name, (_, default) in leasehold_hub.SETTINGS.items()}
        self.settings |= {"tokenFile": str(directory / "token"), "deadlineSeconds": deadline}
        (directory / "token").write_text("the-hubs-token\n")

    async def prepare(self, auth_state: dict[str, str] | None = None) -> dict[str, Any]:
        context = certificate(self.directory, self.served_name)
        application = Application([("/v1/spawn", Hook, {"script": self.script, "seen": self.seen})])
        server = HTTPServer(application, ssl_options=context)
        sockets = bind_sockets(0, "127.0.0.1")
        server.add_sockets(sockets)
        self.settings["spawnerHookUrl"] = f"https://{NAME}:{sockets[0].getsockname()[1]}"
        self.settings["spawnerHookAddress"] = "127.0.0.1"
        try:
            pod = kubespawner_pod()
            await leasehold_hub.prepare(self.spawner(auth_state), pod, self.settings)
            return sent(pod)
        finally:
            server.stop()
            await server.close_all_connections()

    def spawner(self, auth_state: dict[str, str] | None) -> Any:
        async def get_auth_state() -> dict[str, str] | None:
            return auth_state

        async def read_namespaced_config_map(name: str, namespace: str) -> Any:
            assert (namespace, name) == ("leasehold-system", "leasehold-spawner-hook-ca")
            return SimpleNamespace(data={"ca.crt": (self.directory / "ca.crt").read_text()})

        return SimpleNamespace(
            user=SimpleNamespace(name="alice@example.com", get_auth_state=get_auth_state),
            namespace="hub",
            api_token=TOKEN,
            api=SimpleNamespace(read_namespaced_config_map=read_namespaced_config_map),
            log=logging.getLogger("test"),
        )


def test_a_spawn_is_prepared_and_only_the_id_token_leaves_the_hub(tmp_path: Path) -> None:
    run = Run(tmp_path, [(200, PATCH)])
    state = {"id_token": "the.id.token", "refresh_token": "r3fresh", "access_token": "4ccess"}
    manifest = asyncio.run(run.prepare(state))
    [(authorization, body)] = run.seen
    assert authorization == "Bearer the-hubs-token"
    assert body["id_token"] == "the.id.token"
    assert "r3fresh" not in json.dumps([body, manifest])
    assert "4ccess" not in json.dumps([body, manifest])
    assert "the.id.token" not in json.dumps(manifest)
    assert TOKEN not in json.dumps(manifest["spec"])


def test_a_refusal_is_shown_and_not_asked_again(tmp_path: Path) -> None:
    problem = {
        "type": "urn:leasehold:problem:username_taken",
        "status": 409,
        "detail": "nb-x belongs to another username",
    }
    run = Run(tmp_path, [(409, problem)])
    with pytest.raises(leasehold_hub.SpawnRefused) as refused:
        asyncio.run(run.prepare())
    assert "nb-x belongs to another username (HTTP 409)" in refused.value.jupyterhub_message
    assert len(run.seen) == 1


def test_a_hook_that_is_away_for_a_moment_only_delays_a_spawn(tmp_path: Path) -> None:
    run = Run(tmp_path, [(503, "starting"), (503, {"detail": "the broker does not answer"}), (200, PATCH)])
    manifest = asyncio.run(run.prepare())
    assert manifest["spec"]["serviceAccountName"] == PATCH["service_account"]
    assert len(run.seen) == 3


def test_a_hook_that_stays_away_fails_the_spawn_with_its_reason(tmp_path: Path) -> None:
    run = Run(tmp_path, [(503, {"detail": "the broker does not answer"})], deadline="8")
    with pytest.raises(leasehold_hub.SpawnRefused, match="the broker does not answer"):
        asyncio.run(run.prepare())


def test_no_token_goes_to_a_server_of_another_name_or_authority(tmp_path: Path) -> None:
    run = Run(tmp_path, [(200, PATCH)], served_name="evil.leasehold-system.svc", deadline="3")
    with pytest.raises(leasehold_hub.SpawnRefused, match="does not answer"):
        asyncio.run(run.prepare())
    assert run.seen == []
    other = tmp_path / "other"
    other.mkdir()
    certificate(other, NAME)
    run = Run(tmp_path, [(200, PATCH)], deadline="3")
    run.settings["caFile"] = str(other / "ca.crt")
    with pytest.raises(leasehold_hub.SpawnRefused, match="does not answer"):
        asyncio.run(run.prepare())
    assert run.seen == []
