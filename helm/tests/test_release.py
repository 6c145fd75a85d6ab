"""Installing, upgrading and removing the release on a real API server."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Iterator

import pytest
from conftest import CHART, NAMESPACE, Cluster, Manifest, until

SETTINGS = ["--set", "organisation=UiSMSP", "--set", "global.imagePullPolicy=Never"]
CONFIGURATIONS = ("mutatingwebhookconfiguration", "validatingwebhookconfiguration")


@pytest.fixture
def release(cluster: Cluster) -> Iterator[Cluster]:
    cluster.run("helm", "install", "leasehold", str(CHART), "--namespace", NAMESPACE, "--create-namespace", *SETTINGS)
    yield cluster
    cluster.run("helm", "uninstall", "leasehold", "--namespace", NAMESPACE, "--ignore-not-found", "--wait")


def bundles(cluster: Cluster) -> list[str | None]:
    return [
        hook["clientConfig"].get("caBundle")
        for configuration in CONFIGURATIONS
        for hook in cluster.get(configuration, "leasehold")["webhooks"]
    ]


def test_an_upgrade_keeps_ca_bundles_and_published_certificates(release: Cluster) -> None:
    bundle = base64.b64encode(b"-----BEGIN CERTIFICATE-----\n").decode()
    for configuration in CONFIGURATIONS:
        hooks = release.get(configuration, "leasehold")["webhooks"]
        patch = [
            {"op": "add", "path": f"/webhooks/{number}/clientConfig/caBundle", "value": bundle}
            for number in range(len(hooks))
        ]
        release.kubectl("patch", configuration, "leasehold", "--type=json", "--patch", json.dumps(patch))
    published = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "leasehold-ca"}, "data": {"ca.crt": "x"}}
    release.kubectl("apply", "--server-side", "--namespace", NAMESPACE, "--filename", "-", stdin=json.dumps(published))

    upgrade = ["helm", "upgrade", "leasehold", str(CHART), "--namespace", NAMESPACE, *SETTINGS]
    release.run(*upgrade, "--set", "webhook.timeoutSeconds=3")

    hooks = release.get("validatingwebhookconfiguration", "leasehold")["webhooks"]
    assert {hook["timeoutSeconds"] for hook in hooks} == {3}, "the upgrade did reach the configuration"
    assert set(bundles(release)) == {bundle}
    assert release.get("configmap", "leasehold-ca", "--namespace", NAMESPACE)["data"] == {"ca.crt": "x"}


def test_while_the_webhook_is_down_only_argo_waits(release: Cluster) -> None:
    def pod(name: str) -> Manifest:
        spec = {"schedulerName": "nobody", "containers": [{"name": "main", "image": "none"}]}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "waiting"}, "spec": spec}

    labels = {"leasehold.dev/users": "true"}
    release.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "waiting", "labels": labels}})
    release.kubectl("create", "clusterrolebinding", "argo-may", "--clusterrole=cluster-admin",
                    "--user=system:serviceaccount:argo:argo")  # fmt: skip
    attempts = itertools.count()

    def refused() -> bool:
        answer = release.apply(pod(f"argos-{next(attempts)}"), user="system:serviceaccount:argo:argo")
        return "failed calling webhook" in answer

    # An API server learns of a configuration, and of a binding, a moment after they were made.
    until("Argo's pods wait", refused)
    assert release.apply(pod("notebook")) == ""


def test_the_release_does_not_go_into_a_users_namespace(cluster: Cluster) -> None:
    labels = {"leasehold.dev/users": "true"}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "people", "labels": labels}})
    install = ["helm", "install", "leasehold", str(CHART), "--namespace", "people", "--dry-run=server", *SETTINGS]
    assert "must not share a namespace" in cluster.run(*install, check=False).stderr


def test_the_notes_warn_of_what_will_not_work(cluster: Cluster) -> None:
    install = ["helm", "install", "leasehold", str(CHART), "--namespace", NAMESPACE, "--dry-run=server", *SETTINGS]
    notes = cluster.run(*install, "--set", "webhook.replicas=1", "--create-namespace").stdout
    assert "webhook.replicas is 1" in notes
    assert "nobody can register a dataset" in notes
    assert "TRANSIENT_ERROR_PATTERN" in notes


def test_removal_leaves_nothing_that_could_refuse_a_request(cluster: Cluster) -> None:
    install = ["helm", "install", "leasehold", str(CHART), "--namespace", NAMESPACE, "--create-namespace", *SETTINGS]
    cluster.run(*install)
    cluster.run("helm", "uninstall", "leasehold", "--namespace", NAMESPACE, "--wait")
    kinds = [*CONFIGURATIONS, "validatingadmissionpolicy", "validatingadmissionpolicybinding", "clusterrole",
             "clusterrolebinding"]  # fmt: skip
    left = cluster.kubectl(
        "get", ",".join(kinds), "--output", "name", "--selector", "app.kubernetes.io/part-of=leasehold"
    )
    assert left.stdout == ""
    namespaced = ["get", "configmap,secret,service,role,rolebinding", "--namespace", NAMESPACE, "--output", "name"]
    assert "leasehold" not in cluster.kubectl(*namespaced).stdout
