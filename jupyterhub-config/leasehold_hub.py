"""JupyterHub's side of Leasehold: at each spawn, ask the spawner-hook for what the notebook's pod needs, and merge it.

Use it from the hub's configuration, after everything else that concerns KubeSpawner:

    import leasehold_hub
    leasehold_hub.configure(c)

What it promises:
- A pod is created only after the spawner-hook has prepared the person's accounts; where it can't, the spawn fails with
  its reason on the spawn page. Asking again is safe, so a hook that restarts only delays a spawn.
- The hub's tokens, and values that vanilla jupyterflow cannot copy, stand in the pod's annotations and reach the
  notebook by `fieldRef`: jupyterflow copies plain values only, so they stay out of Workflows. Whoever may read pods of
  the namespace can read them there, as before in the environment; people may read their own pod only.
- Of `auth_state` only the `id_token` leaves the hub, and only for the spawner-hook.

Settings are read from `custom.leasehold.<name>` of z2jh's values where there are such, else from the environment; see
SETTINGS. Works with JupyterHub 5.5 and 6 and KubeSpawner 7.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import json
import os
import re
import ssl
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kubernetes_asyncio.client import V1EnvVar, V1EnvVarSource, V1ObjectFieldSelector
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest, HTTPResponse
from tornado.simple_httpclient import SimpleAsyncHTTPClient

# Name in custom.leasehold → (environment variable, default).
SETTINGS: dict[str, tuple[str, str]] = {
    "spawnerHookUrl": (
        "LEASEHOLD_SPAWNER_HOOK_URL",
        "https://leasehold-spawner-hook.leasehold-system.svc:8443",
    ),
    # An address to connect to in place of the URL's host, for hubs that don't resolve the cluster's names. The
    # certificate is still checked against the URL's host.
    "spawnerHookAddress": ("LEASEHOLD_SPAWNER_HOOK_ADDRESS", ""),
    # The hub's ServiceAccount token with audience leasehold-spawner-hook.
    "tokenFile": ("LEASEHOLD_SPAWNER_HOOK_TOKEN_FILE", "/var/run/leasehold/token"),
    # PEM file with the spawner-hook's CA certificate; empty: read from the ConfigMap below at each spawn.
    "caFile": ("LEASEHOLD_SPAWNER_HOOK_CA_FILE", ""),
    "caConfigMap": ("LEASEHOLD_SPAWNER_HOOK_CA_CONFIG_MAP", "leasehold-system/leasehold-spawner-hook-ca"),
    # Where the person's home is mounted in the notebook.
    "homeMountPath": ("LEASEHOLD_HOME_MOUNT_PATH", "/home/jovyan"),
    "deadlineSeconds": ("LEASEHOLD_SPAWN_DEADLINE_SECONDS", "40"),
}

ANNOTATION_PREFIX = "env.leasehold.dev/"
# JUPYTERHUB_API_TOKEN, JPY_API_TOKEN, and whatever else the hub's operator names so.
TOKEN_NAME = re.compile(r"(^|_)(TOKEN|SECRET|PASSWORD|CRYPT_KEY)$")
# jupyterflow writes values between double quotes into YAML, and Argo substitutes {{…}}.
NOT_FOR_JUPYTERFLOW = re.compile(r'["\\\x00-\x1f\x7f-\x9f\u2028\u2029]|\{\{')
ANNOTATION_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")


class SpawnRefused(Exception):
    """A spawn that must not go on; the spawn page shows why."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.jupyterhub_message = f"Leasehold could not prepare your notebook: {message}"


class Unanswered(Exception):
    """The spawner-hook gave no answer that decides; asking again may help."""


def configure(c: Any) -> None:
    """Add the hook to the hub's configuration, after a modify_pod_hook that is there already."""
    settings = read_settings()
    earlier = c.KubeSpawner.get("modify_pod_hook")

    async def modify_pod(spawner: Any, pod: Any) -> Any:
        if callable(earlier):
            pod = earlier(spawner, pod)
            if inspect.isawaitable(pod):
                pod = await pod
        return await prepare(spawner, pod, settings)

    c.KubeSpawner.modify_pod_hook = modify_pod


def read_settings() -> dict[str, str]:
    """Read the settings: z2jh's values first, then the environment."""
    values: dict[str, Any] = {}
    try:
        from z2jh import get_config
    except ImportError:
        pass
    else:
        values = get_config("custom.leasehold", {}) or {}
    unknown = sorted(set(values) - set(SETTINGS))
    if unknown:
        raise ValueError(
            f"custom.leasehold has unknown settings: {', '.join(unknown)}; known are {', '.join(SETTINGS)}"
        )
    settings = {
        name: str(values.get(name, os.environ.get(variable, default))) for name, (variable, default) in SETTINGS.items()
    }
    url = urlsplit(settings["spawnerHookUrl"])
    if url.scheme != "https" or not url.hostname:
        raise ValueError(f"spawnerHookUrl {settings['spawnerHookUrl']!r} must be https://…: people's tokens go there")
    float(settings["deadlineSeconds"])
    return settings


async def prepare(spawner: Any, pod: Any, settings: dict[str, str]) -> Any:
    """Ask the spawner-hook and merge its answer into the pod."""
    auth_state = await spawner.user.get_auth_state()
    request = spawn_request(
        username=spawner.user.name,
        namespace=spawner.namespace,
        pod=pod,
        id_token=(auth_state or {}).get("id_token"),
        home_mount_path=settings["homeMountPath"],
    )
    patch = await ask(spawner, request, settings)
    merge(pod, patch)
    shelter_environment(pod, tokens={spawner.api_token} if spawner.api_token else set())
    spawner.log.info("Leasehold prepared pod %s as %s", pod.metadata.name, patch["service_account"])
    return pod


def spawn_request(
    *, username: str, namespace: str, pod: Any, id_token: str | None, home_mount_path: str
) -> dict[str, Any]:
    """Build the body of POST /v1/spawn from the pod as KubeSpawner made it."""
    request: dict[str, Any] = {
        "username": username,
        "namespace": namespace,
        "pod_name": pod.metadata.name,
        "id_token": id_token or None,
        "home": home_of(pod, home_mount_path),
    }
    for name, key in (("uid", "runAsUser"), ("gid", "runAsGroup")):
        for holder in (notebook_of(pod), pod.spec):
            value = field(field(holder, "securityContext"), key)
            if value is not None:
                request[name] = int(value)
                break
    return request


def home_of(pod: Any, mount_path: str) -> dict[str, Any]:
    """Find the claim that is mounted as the person's home."""
    wanted = mount_path.rstrip("/")
    mounts = [
        m for m in field(notebook_of(pod), "volumeMounts") or [] if str(field(m, "mountPath")).rstrip("/") == wanted
    ]
    for mount in mounts:
        for volume in pod.spec.volumes or []:
            claim = field(field(volume, "persistentVolumeClaim"), "claimName")
            if field(volume, "name") == field(mount, "name") and claim:
                home = {"claim": claim, "mount_path": wanted, "volume": field(mount, "name")}
                if field(mount, "subPathExpr"):
                    raise SpawnRefused(
                        f"the home at {mount_path} is mounted with subPathExpr, which only the kubelet can work out,"
                        " so that nobody could tell it from other people's homes on the same claim;"
                        " use subPath with {username} instead"
                    )
                if field(mount, "subPath"):
                    home["sub_path"] = field(mount, "subPath")
                return home
    raise SpawnRefused(
        f"no persistent volume claim is mounted at {mount_path}; set homeMountPath (or LEASEHOLD_HOME_MOUNT_PATH) to"
        " where the person's home is mounted"
    )


def merge(pod: Any, patch: dict[str, Any]) -> None:
    """Merge the spawner-hook's answer into the pod; what it names replaces what was there under the same name."""
    notebook = notebook_of(pod)
    pod.spec.service_account_name = patch["service_account"]
    pod.spec.service_account = None
    # jupyterflow talks to the API server with it.
    pod.spec.automount_service_account_token = True
    pod.metadata.annotations = {**(pod.metadata.annotations or {}), **patch["annotations"]}
    pod.spec.volumes = replaced(pod.spec.volumes, patch["volumes"])
    pod.spec.init_containers = replaced(pod.spec.init_containers, patch["init_containers"])
    names = {mount["name"] for mount in patch["volume_mounts"]}
    kept = [mount for mount in notebook.volume_mounts or [] if field(mount, "name") not in names]
    notebook.volume_mounts = kept + patch["volume_mounts"]
    added = [V1EnvVar(name=name, value=value) for name, value in sorted(patch["env"].items())]
    notebook.env = replaced(notebook.env, added)


def shelter_environment(pod: Any, tokens: set[str]) -> None:
    """Move tokens, and values that jupyterflow cannot copy, into annotations that the environment refers to."""
    notebook = notebook_of(pod)
    annotations = dict(pod.metadata.annotations or {})
    environment = []
    for variable in notebook.env or []:
        name, value = field(variable, "name"), field(variable, "value")
        if value and must_be_sheltered(name, value, tokens):
            key = annotation_key(name)
            annotations[key] = value
            reference = V1ObjectFieldSelector(field_path=f"metadata.annotations['{key}']")
            variable = V1EnvVar(name=name, value_from=V1EnvVarSource(field_ref=reference))
        environment.append(variable)
    notebook.env = environment
    pod.metadata.annotations = annotations


def must_be_sheltered(name: str, value: str, tokens: set[str]) -> bool:
    """Tell whether jupyterflow must not, or cannot, copy a variable into a Workflow."""
    is_token = TOKEN_NAME.search(name) or any(token in value for token in tokens)
    return bool(is_token or NOT_FOR_JUPYTERFLOW.search(value))


def annotation_key(name: str) -> str:
    """Give the annotation that holds a variable; two variables never share one."""
    if ANNOTATION_NAME.fullmatch(name):
        return ANNOTATION_PREFIX + name
    return f"{ANNOTATION_PREFIX}sha256.{hashlib.sha256(name.encode()).hexdigest()[:48]}"


def notebook_of(pod: Any) -> Any:
    """Give the notebook's container: KubeSpawner puts it first."""
    return pod.spec.containers[0]


def replaced(old: list[Any] | None, new: list[Any]) -> list[Any]:
    """Give `old` with the entries of `new` in place of those of the same name, at the end."""
    names = {field(entry, "name") for entry in new}
    return [entry for entry in old or [] if field(entry, "name") not in names] + new


def field(thing: Any, key: str) -> Any:
    """Read a field by its name in Kubernetes' API, from a model or a dict; KubeSpawner's pods hold both."""
    if thing is None:
        return None
    if isinstance(thing, dict):
        return thing.get(key)
    for attribute, name in thing.attribute_map.items():
        if name == key:
            return getattr(thing, attribute)
    return None


async def ask(spawner: Any, request: dict[str, Any], settings: dict[str, str]) -> dict[str, Any]:
    """Call the spawner-hook until it decides or the deadline is over; the call is idempotent."""
    deadline = time.monotonic() + float(settings["deadlineSeconds"])
    pause = 0.25
    while True:
        try:
            return decided(await call(spawner, request, settings, deadline - time.monotonic()))
        except Unanswered as reason:
            if time.monotonic() + pause >= deadline:
                raise SpawnRefused(f"{reason}; try again in a moment, or tell your administrator") from reason
            spawner.log.warning("Leasehold's spawner-hook: %s; asking again", reason)
        await asyncio.sleep(pause)
        pause = min(2 * pause, 2.0)


async def call(spawner: Any, request: dict[str, Any], settings: dict[str, str], seconds: float) -> HTTPResponse:
    """Send the request once."""
    url = settings["spawnerHookUrl"].rstrip("/") + "/v1/spawn"
    try:
        token = Path(settings["tokenFile"]).read_text().strip()
        tls = ssl.create_default_context(cadata=await ca_certificate(spawner, settings, seconds))
    except (OSError, ssl.SSLError) as error:
        raise Unanswered(f"the hub's token or the spawner-hook's CA certificate can't be read: {error}") from error
    mapping = {urlsplit(url).hostname: settings["spawnerHookAddress"]} if settings["spawnerHookAddress"] else None
    client: AsyncHTTPClient = SimpleAsyncHTTPClient(force_instance=True, hostname_mapping=mapping)
    try:
        return await client.fetch(
            HTTPRequest(
                url,
                method="POST",
                headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
                body=json.dumps(request),
                connect_timeout=min(5.0, seconds),
                # Longer than the spawner-hook takes to say that it gives up.
                request_timeout=min(25.0, seconds),
                follow_redirects=False,
                ssl_options=tls,
            ),
            raise_error=False,
        )
    except (OSError, HTTPClientError) as error:
        raise Unanswered(f"the spawner-hook at {url} does not answer: {error}") from error
    finally:
        client.close()


async def ca_certificate(spawner: Any, settings: dict[str, str], seconds: float) -> str:
    """Give the spawner-hook's CA certificate: of the file, or of the ConfigMap in which it publishes it."""
    if settings["caFile"]:
        return Path(settings["caFile"]).read_text()
    namespace, _, name = settings["caConfigMap"].partition("/")
    try:
        found = await asyncio.wait_for(spawner.api.read_namespaced_config_map(name, namespace), min(5.0, seconds))
    except Exception as error:  # the client raises what its transport raises
        raise Unanswered(f"ConfigMap {name} in {namespace} can't be read: {type(error).__name__}") from error
    pem = (found.data or {}).get("ca.crt")
    if not pem:
        raise Unanswered(f"ConfigMap {name} in {namespace} holds no CA certificate yet")
    return str(pem)


def decided(response: HTTPResponse) -> dict[str, Any]:
    """Give the patch, or say why there is none."""
    try:
        body = json.loads(response.body)
    except ValueError:
        body = None
    if response.code == 200 and isinstance(body, dict):
        return body
    detail = body.get("detail") if isinstance(body, dict) else None
    message = f"{detail or 'the spawner-hook gave no reason'} (HTTP {response.code})"
    # While it drains, and while the API server or the broker is away.
    if response.code in (429, 503, 504):
        raise Unanswered(message)
    raise SpawnRefused(message)
