"""What holds on a real API server while no replica of the webhook runs: the ValidatingAdmissionPolicies alone."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import CHART, NAMESPACE, Cluster, Manifest, until

ARGO = "system:serviceaccount:argo:argo"
PROVISIONER = f"system:serviceaccount:{NAMESPACE}:leasehold-provisioner"
SPAWNER_HOOK = f"system:serviceaccount:{NAMESPACE}:leasehold-spawner-hook"
HUB = "system:serviceaccount:hub:hub"
NOTEBOOK = "system:serviceaccount:hub:nb-alice-0123456789abcdef"
EXECUTOR = "system:serviceaccount:hub:wf-alice-0123456789abcdef"
STAMP = "leasehold.dev/stamp"


@pytest.fixture(scope="module")
def policies(cluster: Cluster) -> Iterator[Cluster]:
    """The policies without the webhook, and identities that RBAC lets do anything, so that only policies refuse."""
    for namespace, labels in {
        "hub": {"leasehold.dev/users": "true"},
        "elsewhere": {},
        NAMESPACE: {},
        "argo": {},
    }.items():
        cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}})
    crds = (Path(__file__).parent / "argo-crds.yaml").read_text()
    cluster.kubectl("apply", "--filename", "-", stdin=crds)
    cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
    subjects = [
        {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": user}
        for user in (ARGO, PROVISIONER, SPAWNER_HOOK, HUB, NOTEBOOK, EXECUTOR)
    ]
    cluster.apply(
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "rbac-refuses-nothing"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": subjects,
        }
    )
    rendered = cluster.run(
        "helm", "template", "leasehold", str(CHART), "--namespace", NAMESPACE, "--kube-version", "1.35.4",
        "--set", "organisation=UiSMSP", "--show-only", "templates/admission/policies.yaml",
    )  # fmt: skip
    cluster.kubectl("apply", "--filename", "-", stdin=rendered.stdout)
    until("the policies are in force", lambda: "claim_reserved" in cluster.apply(claim("leasehold-probe")))
    yield cluster
    cluster.kubectl("delete", "--filename", "-", stdin=rendered.stdout)


def claim(name: str, **spec: Any) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": "hub"},
        "spec": {
            "accessModes": ["ReadOnlyMany"],
            "storageClassName": "",
            "resources": {"requests": {"storage": "1Gi"}},
            **spec,
        },
    }


def volume(name: str, **spec: Any) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "accessModes": ["ReadOnlyMany"],
            "capacity": {"storage": "1Gi"},
            "nfs": {"server": "192.0.2.1", "path": "/x"},
            **spec,
        },
    }


def pod(name: str, *, claim_name: str | None = None, namespace: str = "hub", **metadata: Any) -> Manifest:
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": claim_name}}] if claim_name else []
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, **metadata},
        # Never scheduled: only admission is looked at.
        "spec": {
            "schedulerName": "nobody",
            "containers": [{"name": "main", "image": "none"}],
            "volumes": volumes,
        },
    }


def workflow(name: str, kind: str = "Workflow", namespace: str = "hub", **fields: Any) -> Manifest:
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"entrypoint": "main", "templates": [{"name": "main"}]},
        **fields,
    }


def stamped(manifest: Manifest, value: str) -> Manifest:
    changed = copy.deepcopy(manifest)
    changed["metadata"]["annotations"] = {STAMP: value}
    return changed


def test_the_api_server_finds_no_fault_in_the_expressions(policies: Cluster) -> None:
    def checked() -> list[Manifest]:
        found: list[Manifest] = policies.get("validatingadmissionpolicies")["items"]
        return [policy for policy in found if "typeChecking" in policy.get("status", {})]

    count = len(list((CHART / "files" / "policies").glob("*.yaml")))
    until("all policies are type-checked", lambda: len(checked()) == count)
    for policy in checked():
        assert policy["status"]["typeChecking"] == {}, policy["metadata"]["name"]


@pytest.mark.parametrize(
    "creator", [None, NOTEBOOK, EXECUTOR, SPAWNER_HOOK], ids=["admin", "notebook", "executor", "hook"]
)
def test_a_claim_of_a_lease_is_named_only_by_pods_that_argo_makes(policies: Cluster, creator: str | None) -> None:
    assert "pvc_not_injected" in policies.apply(pod("thief", claim_name="leasehold-00"), user=creator)


def test_pods_that_name_no_claim_of_a_lease_are_nobodys_business(policies: Cluster) -> None:
    assert policies.apply(pod("plain", claim_name="claim-alice")) == ""
    assert policies.apply(pod("argos", claim_name="leasehold-00"), user=ARGO) == ""


def test_only_argos_pods_carry_the_mark_of_a_dataset(policies: Cluster) -> None:
    marked = pod("marked", labels={"leasehold.dev/dataset-pod": "true"})
    assert "reserved_metadata" in policies.apply(marked, user=NOTEBOOK)
    unmarked = pod("unmarked")
    assert policies.apply(unmarked) == ""
    refused = policies.kubectl(
        "label", "pod", "unmarked", "--namespace", "hub", "leasehold.dev/dataset-pod=true", check=False
    )
    assert "dataset_pod_frozen" in refused.stderr


def test_nobody_but_argo_makes_pods_that_its_controller_would_take_for_its_own(policies: Cluster) -> None:
    for kind, key in (("labels", "workflow"), ("annotations", "node-id")):
        metadata: dict[str, Any] = {kind: {f"workflows.argoproj.io/{key}": "victim"}}
        for user in (None, HUB, NOTEBOOK):
            assert "reserved_metadata" in policies.apply(pod("decoy", **metadata), user=user), user
        assert policies.apply(pod(f"{kind}-elsewhere", namespace="elsewhere", **metadata)) == ""
        assert policies.apply(pod(f"{kind}-argos", **metadata), user=ARGO) == ""


def test_no_pod_becomes_a_step_of_somebodys_workflow_after_its_creation(policies: Cluster) -> None:
    assert policies.apply(pod("chameleon")) == ""
    assert policies.apply(pod("step", labels={"workflows.argoproj.io/workflow": "own"}), user=ARGO) == ""

    def patched(name: str, patch: str, *more: str) -> str:
        command = ["patch", "pod", name, "--namespace", "hub", "--patch", patch, *more]
        return policies.kubectl(*command, check=False).stderr

    for kind, key in (("labels", "workflow"), ("annotations", "node-id")):
        join = f'{{"metadata":{{"{kind}":{{"workflows.argoproj.io/{key}":"victim"}}}}}}'
        for name in ("chameleon", "step"):
            assert "reserved_metadata" in patched(name, join), (name, kind)
            assert "reserved_metadata" in patched(name, join, "--subresource", "status"), (name, kind)
    leave = '{"metadata":{"labels":{"workflows.argoproj.io/workflow":null}}}'
    assert "reserved_metadata" in patched("step", leave)
    assert patched("chameleon", '{"metadata":{"labels":{"other":"fine"}}}') == ""
    assert patched("step", '{"metadata":{"labels":{"workflows.argoproj.io/completed":"true"}}}', "--as", ARGO) == ""


def test_nobody_but_the_spawner_hook_says_whom_notebooks_trust(policies: Cluster) -> None:
    authority = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "leasehold-ca", "namespace": "hub"}}
    for user in (None, HUB, NOTEBOOK, ARGO):
        assert "certificate_authority_reserved" in policies.apply(authority, user=user), user
    assert policies.apply(authority, user=SPAWNER_HOOK) == ""
    assert "certificate_authority_reserved" in policies.apply({**authority, "data": {"ca.crt": "mine"}}, user=HUB)
    delete = ["delete", "configmap", "leasehold-ca", "--namespace", "hub"]
    assert "certificate_authority_reserved" in policies.kubectl(*delete, "--as", HUB, check=False).stderr
    other = {**authority, "metadata": {"name": "other", "namespace": "hub"}}
    assert policies.apply(other, user=HUB) == ""


def test_pods_run_as_a_person_only_where_the_hub_or_argo_made_them(policies: Cluster) -> None:
    for name, made_by in (("nb-mallory", HUB), ("wf-mallory", ARGO)):
        for namespace in ("hub", "elsewhere"):
            assert policies.apply(account(name, namespace)) == ""

        def running_as(namespace: str, name: str = name) -> Manifest:
            running = pod(f"as-{name}", namespace=namespace)
            running["spec"]["serviceAccountName"] = name
            return running

        for user in {None, NOTEBOOK, HUB, ARGO} - {made_by}:
            assert "service_account" in policies.apply(running_as("hub"), user=user), (name, user)
        assert policies.apply(running_as("elsewhere")) == "", "other namespaces are not ours"
        assert policies.apply(running_as("hub"), user=made_by) == ""


def test_a_dataset_pod_is_known_by_its_claims_and_by_way_of_its_status_too(policies: Cluster) -> None:
    assert policies.apply(pod("unlabelled", claim_name="leasehold-00"), user=ARGO) == ""
    marked = pod("marked", claim_name="leasehold-00", labels={"leasehold.dev/dataset-pod": "true"})
    assert policies.apply(marked, user=ARGO) == ""

    def patched(name: str, patch: str, *more: str) -> str:
        done = policies.kubectl("patch", "pod", name, "--namespace", "hub", "--patch", patch, *more, check=False)
        return done.stderr

    image = '{"spec":{"containers":[{"name":"main","image":"other"}]}}'
    assert "dataset_pod_frozen" in patched("unlabelled", image)
    join = '{"metadata":{"labels":{"app":"jupyterhub"}}}'
    assert "dataset_pod_frozen" in patched("marked", join), "a Service would send it what is meant for others"
    assert "dataset_pod_frozen" in patched("marked", join, "--subresource", "status")
    unlabel = '{"metadata":{"labels":{"leasehold.dev/dataset-pod":null}}}'
    assert "dataset_pod_frozen" in patched("marked", unlabel, "--subresource", "status")
    assert patched("marked", '{"status":{"message":"from the kubelet"}}', "--subresource", "status") == ""


def test_a_pod_with_a_dataset_stays_as_it_was_admitted(policies: Cluster) -> None:
    frozen = pod("frozen", labels={"leasehold.dev/dataset-pod": "true"}, annotations={"leasehold.dev/leases": "00"})
    assert policies.apply(frozen, user=ARGO) == ""

    def patched(patch: str, *more: str) -> str:
        done = policies.kubectl("patch", "pod", "frozen", "--namespace", "hub", "--patch", patch, *more, check=False)
        return done.stderr

    assert "dataset_pod_frozen" in patched('{"spec":{"containers":[{"name":"main","image":"other"}]}}')
    assert "dataset_pod_frozen" in patched('{"metadata":{"labels":{"leasehold.dev/dataset-pod":null}}}')
    assert "dataset_pod_frozen" in patched('{"metadata":{"annotations":{"leasehold.dev/leases":"11"}}}')
    debug = '{"spec":{"ephemeralContainers":[{"name":"debug","image":"none","targetContainerName":"main"}]}}'
    assert "ephemeral" in patched(debug, "--subresource", "ephemeralcontainers")
    completed = '{"metadata":{"labels":{"workflows.argoproj.io/completed":"true"}}}'
    assert patched(completed, "--as", ARGO) == "", "what Argo's controller does"


@pytest.mark.parametrize("user", [None, ARGO, NOTEBOOK], ids=["admin", "argo", "notebook"])
def test_claims_and_volumes_of_leases_are_the_provisioners_alone(policies: Cluster, user: str | None) -> None:
    name = f"leasehold-{'admin' if user is None else user.split(':')[-1]}"
    assert "claim_reserved" in policies.apply(claim(name), user=user)
    assert "claim_reserved" in policies.apply(volume(name), user=user)
    assert policies.apply([claim(name), volume(name)], user=PROVISIONER) == ""

    who = ["--as", user] if user else []
    for kind in ("persistentvolumeclaim", "persistentvolume"):
        for command in (["delete", kind, name, "--wait=false"], ["annotate", kind, name, "a=b"]):
            refused = policies.kubectl(*command, "--namespace", "hub", *who, check=False)
            assert "claim_reserved" in refused.stderr, (kind, command)
    everything = ["delete", "persistentvolumeclaims", "--all", "--namespace", "hub", "--wait=false", *who]
    assert "claim_reserved" in policies.kubectl(*everything, check=False).stderr


def test_no_other_claim_or_volume_reaches_a_leases_volume(policies: Cluster) -> None:
    assert "claim_reserved" in policies.apply(claim("mine", volumeName="leasehold-00"), user=ARGO)
    clone = claim("clone", dataSource={"kind": "PersistentVolumeClaim", "name": "leasehold-00"})
    assert "claim_reserved" in policies.apply(clone, user=ARGO)
    bait = volume("bait", claimRef={"name": "leasehold-00", "namespace": "hub"})
    assert "claim_reserved" in policies.apply(bait)
    assert policies.apply([claim("claim-alice"), volume("home")]) == ""


@pytest.mark.parametrize("user", [None, ARGO, NOTEBOOK], ids=["admin", "controller", "notebook"])
@pytest.mark.parametrize("kind", ["Workflow", "CronWorkflow", "WorkflowTemplate"])
def test_a_stamp_never_changes(policies: Cluster, kind: str, user: str | None) -> None:
    name = f"stamped-{'admin' if user is None else user.split(':')[-1]}"
    assert policies.apply(stamped(workflow(name, kind), "alice")) == ""
    who = ["--as", user] if user else []
    for change in (f"{STAMP}=bob", f"{STAMP}-"):
        command = ["annotate", "--overwrite", kind, name, change, "--namespace", "hub", *who]
        assert "stamp_immutable" in policies.kubectl(*command, check=False).stderr, change
    policies.kubectl("annotate", kind, name, "other=fine", "--namespace", "hub", *who)

    assert policies.apply(workflow(f"un{name}", kind)) == ""
    late = ["annotate", kind, f"un{name}", f"{STAMP}=alice", "--namespace", "hub", *who]
    assert "stamp_immutable" in policies.kubectl(*late, check=False).stderr


def test_no_stamp_is_brought_into_being_where_the_webhook_does_not_look(policies: Cluster) -> None:
    assert "reserved_metadata" in policies.apply(stamped(workflow("forged", namespace="elsewhere"), "alice"), user=ARGO)
    assert policies.apply(workflow("plain", namespace="elsewhere")) == ""


def test_a_workflows_status_is_the_controllers(policies: Cluster) -> None:
    finished = workflow("finished", status={"phase": "Succeeded"})
    assert "status_on_create" in policies.apply(finished, user=NOTEBOOK)
    assert policies.apply(workflow("running", status={}), user=NOTEBOOK) == ""
    succeed = ["patch", "workflow", "running", "--namespace", "hub", "--type=merge", "--patch"]
    patch = '{"status":{"phase":"Succeeded"}}'
    assert "[status]" in policies.kubectl(*succeed, patch, "--as", NOTEBOOK, check=False).stderr
    policies.kubectl(*succeed, patch, "--as", ARGO)


SECRET_BY_PROJECTION = {"projected": {"sources": [{"secret": {"name": "hub"}}]}}


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ({"hostPath": {"path": "/"}}, "volume_type"),
        ({"secret": {"secretName": "hub"}}, "secret_ref"),
        (SECRET_BY_PROJECTION, "secret_ref"),
        ({"csi": {"driver": "x"}}, "volume_type"),
        ({"nfs": {"server": "192.0.2.1", "path": "/"}}, "volume_type"),
        ({"fc": {"wwids": ["x"]}}, "volume_type"),
        ({"image": {"reference": "x"}}, "volume_type"),
        ({"persistentVolumeClaim": {"claimName": "leasehold-00"}}, "pvc_not_injected"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_no_workflow_declares_such_a_volume_anywhere(policies: Cluster, source: Manifest, code: str) -> None:
    volumes = [{"name": "v", **source}]
    spec = {"templates": [{"name": "main", "volumes": volumes}]}
    assert code in policies.apply(workflow("a", spec={"volumes": volumes}), user=NOTEBOOK)
    assert code in policies.apply(workflow("a", spec=spec), user=NOTEBOOK)
    assert code in policies.apply(workflow("a", spec={"templateDefaults": {"volumes": volumes}}), user=NOTEBOOK)
    assert code in policies.apply(workflow("a", "WorkflowTemplate", spec=spec), user=NOTEBOOK)
    assert code in policies.apply(workflow("a", "CronWorkflow", spec={"workflowSpec": spec}), user=NOTEBOOK)


def test_a_home_and_an_empty_directory_are_fine(policies: Cluster) -> None:
    volumes = [{"name": "h", "persistentVolumeClaim": {"claimName": "claim-alice"}}, {"name": "e", "emptyDir": {}}]
    assert policies.apply(workflow("fine", spec={"volumes": volumes, "templates": []}), user=NOTEBOOK) == ""


@pytest.mark.parametrize("person", [NOTEBOOK, EXECUTOR], ids=["notebook", "executor"])
def test_people_connect_to_no_pod(policies: Cluster, person: str) -> None:
    assert policies.apply(pod("target"), verb="apply") == ""
    for path in (
        "pods/target/exec?command=true&stdout=true",
        "pods/target/attach?stdout=true",
        "pods/target/portforward?ports=1234",
        "pods/target/proxy/",
        "services/target/proxy/",
    ):
        refused = policies.kubectl("get", "--raw", f"/api/v1/namespaces/hub/{path}", "--as", person, check=False)
        assert "connect_denied" in refused.stderr, path


def account(name: str, namespace: str = "hub") -> Manifest:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}}


def binding(name: str, role: Manifest, subject: Manifest) -> Manifest:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": name, "namespace": "hub"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", **role},
        "subjects": [subject],
    }


# T5 of docs/security/model.md.
def test_the_spawner_hook_makes_peoples_accounts_and_no_others(policies: Cluster) -> None:
    me = {"kind": "ServiceAccount", "name": "nb-eve", "namespace": "hub"}
    own = {"kind": "Role", "name": "nb-eve"}
    assert policies.apply([account("nb-eve"), binding("nb-eve", own, me)], user=SPAWNER_HOOK) == ""
    for refused, code in (
        (account("hub"), "spawner_hook_scope"),
        (account("nb-eve", "elsewhere"), "spawner_hook_scope"),
        (binding("cluster-admin", own, me), "spawner_hook_scope"),
        (binding("nb-x", {"kind": "ClusterRole", "name": "cluster-admin"}, me), "spawner_hook_scope"),
        (binding("nb-x", own, {**me, "name": "default"}), "spawner_hook_scope"),
        (binding("nb-x", own, {**me, "namespace": "elsewhere"}), "spawner_hook_scope"),
    ):
        assert code in policies.apply(refused, user=SPAWNER_HOOK), yaml.safe_dump(refused)
