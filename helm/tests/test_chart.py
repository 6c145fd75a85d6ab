"""What the chart promises, read from what it renders."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from conftest import CHART, NAMESPACE, Manifest, Refused, Render

CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"
EVERYTHING = yaml.safe_dump(
    {
        "storage": {"local": {"roots": {"UiSMSP": "/srv/leasehold/uis", "UiOMSP": ["/srv/a", "/srv/b"]}}},
        "secretBroker": {
            "config": {
                "stewards": [{"issuer": "cluster", "subject": "system:serviceaccount:leasehold-system:steward"}]
            },
            "keyEncryptionKey": {"existingSecret": "kek"},
            "tls": {"existingSecret": "broker-tls", "caCertificate": CERTIFICATE},
        },
        "spawnerHook": {
            "replicas": 2,
            "tls": {"existingSecret": "hook-tls", "caCertificate": CERTIFICATE},
            "namespaces": ["hub", "people"],
        },
        "networkPolicy": {"monitoringNamespaceLabels": {"kubernetes.io/metadata.name": "monitoring"}},
    }
)
CHANNEL = yaml.safe_dump(
    {
        "ledger": {
            "kind": "fabric",
            "fabric": {
                "channel": "research",
                "identitySecret": "broker-identity",
                "clientTlsSecret": "broker-client",
                "peers": [
                    {"address": "peer0.uis.example:7051", "roots": CERTIFICATE},
                    {"address": "peer0.uio.example:9051", "roots": CERTIFICATE, "serverName": "peer0"},
                ],
                "deadlines": {"commit_seconds": 30},
            },
        },
        "chaincode": {
            "deploy": True,
            "packageId": "leasehold:" + "0123456789abcdef" * 4,
            "tls": {"existingSecret": "chaincode-tls"},
            "peerNamespaceLabels": {"kubernetes.io/metadata.name": "fabric"},
        },
    }
)
DATABASE = yaml.safe_dump(
    {
        "ledger": {
            "kind": "postgres",
            "postgres": {
                "existingSecret": "ledger-address",
                "ca": {"existingSecret": "database-ca", "key": "roots.pem"},
                "ports": [5432, 6432],
            },
            "signingKey": {"existingSecret": "ledger-key", "key": "signing.pem"},
            "id": "0a" * 32,
            "trustedKeys": ["1b" * 32, "2c" * 32],
        },
        "store": {"kind": "mysql", "server": {"existingSecret": "store-address", "key": "url"}},
    }
)
BOTH = pytest.mark.parametrize(
    "values", [None, EVERYTHING, CHANNEL, DATABASE], ids=["defaults", "everything", "channel", "database"]
)


def of_kind(manifests: list[Manifest], *kinds: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] in kinds]


def named(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    (found,) = [manifest for manifest in of_kind(manifests, kind) if manifest["metadata"]["name"] == name]
    return found


def pods(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    for workload in of_kind(manifests, "Deployment", "StatefulSet", "DaemonSet", "Job"):
        yield workload["metadata"]["name"], workload["spec"]["template"]["spec"]


def webhooks(manifests: list[Manifest]) -> Iterator[Manifest]:
    for configuration in of_kind(manifests, "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"):
        yield from configuration["webhooks"]


def rules_of(manifests: list[Manifest], account: str) -> Iterator[tuple[str, dict[str, list[str]]]]:
    """Each rule that the account holds, with the namespace in which it does (empty: the whole cluster)."""
    for binding in of_kind(manifests, "RoleBinding", "ClusterRoleBinding"):
        if account not in [subject["name"] for subject in binding["subjects"]]:
            continue
        role = named(manifests, binding["roleRef"]["kind"], binding["roleRef"]["name"])
        for rule in role["rules"]:
            yield binding["metadata"].get("namespace", ""), rule


def rights(manifests: list[Manifest], account: str, resource: str) -> set[tuple[str, str]]:
    """(namespace, verb) pairs that the account holds on a resource."""
    return {
        (namespace, verb)
        for namespace, rule in rules_of(manifests, account)
        if {resource, "*"} & set(rule["resources"])
        for verb in rule["verbs"]
    }


@BOTH
def test_every_admission_hook_fails_closed_and_has_no_side_effect(render: Render, values: str | None) -> None:
    hooks = list(webhooks(render(values=values)))
    assert len(hooks) >= 5
    for hook in hooks:
        assert hook["failurePolicy"] == "Fail", hook["name"]
        assert hook["sideEffects"] == "None", hook["name"]
        assert hook["matchPolicy"] == "Equivalent", hook["name"]
        assert hook["timeoutSeconds"] <= 5, hook["name"]
        assert hook["namespaceSelector"] == {"matchLabels": {"leasehold.dev/users": "true"}}, hook["name"]
        assert "objectSelector" not in hook, "labels are the user's: they select nothing"


def test_every_policy_fails_closed_and_is_bound_to_deny(render: Render) -> None:
    manifests = render()
    policies = of_kind(manifests, "ValidatingAdmissionPolicy")
    assert {policy["metadata"]["name"].removeprefix("leasehold-") for policy in policies} == {
        path.stem for path in (CHART / "files" / "policies").glob("*.yaml")
    }
    for policy in policies:
        assert policy["spec"]["failurePolicy"] == "Fail"
        binding = named(manifests, "ValidatingAdmissionPolicyBinding", policy["metadata"]["name"])
        assert binding["spec"] == {"policyName": policy["metadata"]["name"], "validationActions": ["Deny"]}
        for validation in policy["spec"]["validations"]:
            sentence, _, code = validation["message"].removesuffix("]").rpartition(" [")
            assert re.fullmatch("[a-z]+(_[a-z]+)*", code), validation["message"]
            assert len(sentence.split()) > 5, f"{validation['message']} helps nobody"


def test_a_policy_and_the_webhook_call_the_same_thing_by_the_same_code(render: Render) -> None:
    """Whichever answers first, people and tests see the same code. Three are the policies' own."""
    reasons = (CHART.parents[1] / "webhook" / "src" / "review" / "reason.rs").read_text()
    known = set(re.findall(r'^ +[A-Z]\w+ "(\w+)" \d+;$', reasons, re.MULTILINE))
    assert "unstamped" in known
    codes = {
        validation["message"].removesuffix("]").rpartition(" [")[2]
        for policy in of_kind(render(), "ValidatingAdmissionPolicy")
        for validation in policy["spec"]["validations"]
    }
    assert codes - known == {"connect_denied", "spawner_hook_scope", "certificate_authority_reserved"}


# T6 of docs/security/model.md.
def test_the_webhook_sees_no_secret(render: Render) -> None:
    manifests = render()
    for hook in webhooks(manifests):
        for rule in hook["rules"]:
            assert not {"secrets", "*", "*/*"} & set(rule["resources"]), hook["name"]
    assert rights(manifests, "leasehold-webhook", "secrets") == set()
    assert rights(manifests, "leasehold-webhook", "serviceaccounts/token") == set()


# T6 of docs/security/model.md.
def test_the_webhook_writes_nothing_but_its_own_ca_certificates(render: Render) -> None:
    for _, rule in rules_of(render(), "leasehold-webhook"):
        written = set(rule["verbs"]) - {"get", "list", "watch"}
        assert not written or (rule["resources"], rule["resourceNames"]) == (["configmaps"], ["leasehold-webhook-ca"])


# T7 of docs/security/model.md.
@BOTH
def test_secrets_are_read_by_the_provisioner_alone_and_in_the_system_namespace_alone(
    render: Render, values: str | None
) -> None:
    manifests = render(values=values)
    for account in of_kind(manifests, "ServiceAccount"):
        name = account["metadata"]["name"]
        expected = {NAMESPACE} if name == "leasehold-provisioner" else set()
        assert {namespace for namespace, _ in rights(manifests, name, "secrets")} == expected, name


# T9 of docs/security/model.md.
def test_the_broker_may_patch_one_configmap_have_tokens_reviewed_and_nothing_else(render: Render) -> None:
    publishing = (
        NAMESPACE,
        {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["leasehold-ca"], "verbs": ["patch"]},
    )
    reviewing = ("", {"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]})
    rules = list(rules_of(render(), "leasehold-secret-broker"))
    assert sorted(rules, key=str) == sorted([publishing, reviewing], key=str)
    without = 'secretBroker.config.issuers=[{"name":"cluster","kind":"kubernetes","review_tokens":false}]'
    assert list(rules_of(render(without), "leasehold-secret-broker")) == [publishing]


def test_issuers_of_each_kind_reach_the_broker_and_only_the_hubs_own_may_have_the_hubs_name(render: Render) -> None:
    hub = '{"name":"jupyterhub","kind":"jupyterhub","api_url":"http://hub:8081/hub/api","plain_http":true}'
    front = (
        '{"name":"front","kind":"alb","region":"eu-north-1","issuer":"https://x","client":"c","researchers":true,'
        '"signer":"arn:aws:elasticloadbalancing:eu-north-1:111122223333:loadbalancer/app/a/b"}'
    )
    people = (
        '{"name":"uis","kind":"oidc","issuer":"https://x","audience":"a","algorithms":["RS256"],"groups_claim":["g"],'
        '"roles":[{"claim":"realm_access.roles","values":{"a":"auditor"}}],"private_networks":["10.0.0.0/8"]}'
    )
    issuers = f'secretBroker.config.issuers=[{{"name":"cluster","kind":"kubernetes"}},{hub},{front},{people}]'
    config = yaml.safe_load(named(render(issuers), "ConfigMap", "leasehold-secret-broker")["data"]["config.yaml"])
    assert [issuer["kind"] for issuer in config["issuers"]] == ["kubernetes", "jupyterhub", "alb", "oidc"]
    with pytest.raises(Refused, match="hubIssuer"):
        render(issuers, "secretBroker.config.hubIssuer=uis")
    with pytest.raises(Refused, match="issuers"):
        render(issuers.replace("auditor", "admin"))


@BOTH
def test_nobody_may_escalate_impersonate_or_act_on_wildcards(render: Render, values: str | None) -> None:
    manifests = render(values=values)
    for role in of_kind(manifests, "Role", "ClusterRole"):
        for rule in role["rules"]:
            everything = {*rule["verbs"], *rule["resources"], *rule["apiGroups"]}
            assert not {"*", "escalate", "bind", "impersonate"} & everything, role["metadata"]["name"]
            assert not {"serviceaccounts/token", "pods/exec", "pods/attach"} & everything, role["metadata"]["name"]


def test_the_spawner_hook_can_be_held_to_named_namespaces(render: Render) -> None:
    everywhere = rights(render(), "leasehold-spawner-hook", "roles")
    assert {namespace for namespace, _ in everywhere} == {""}
    named_ones = rights(render(values=EVERYTHING), "leasehold-spawner-hook", "roles")
    assert {namespace for namespace, _ in named_ones} == {"hub", "people"}


@BOTH
def test_every_container_is_restricted(render: Render, values: str | None) -> None:
    for name, pod in pods(render(values=values)):
        context = pod["securityContext"]
        assert context["runAsNonRoot"] and context["runAsUser"] == 65532, name
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in pod["containers"] + pod.get("initContainers", []):
            context = container["securityContext"]
            assert context["runAsNonRoot"] and context["readOnlyRootFilesystem"], name
            assert context["allowPrivilegeEscalation"] is False, name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
        for volume in pod["volumes"]:
            assert "hostPath" not in volume, name


@BOTH
def test_every_container_is_probed_and_bounded(render: Render, values: str | None) -> None:
    for name, pod in pods(render(values=values)):
        for container in pod["containers"]:
            assert {"startupProbe", "livenessProbe", "readinessProbe"} <= set(container), name
            assert {"cpu", "memory"} <= set(container["resources"]["requests"]), name
            assert "memory" in container["resources"]["limits"], name


def test_machines_reach_the_broker_with_a_token_for_it_alone(render: Render) -> None:
    for name, pod in pods(render()):
        if name == "leasehold-secret-broker":
            continue
        (volume,) = [volume for volume in pod["volumes"] if volume["name"] == "leasehold-broker"]
        token = volume["projected"]["sources"][0]["serviceAccountToken"]
        assert (token["audience"], token["path"]) == ("leasehold-broker", "token"), name
        (mount,) = [mount for mount in pod["containers"][0]["volumeMounts"] if mount["name"] == "leasehold-broker"]
        assert mount["mountPath"] == "/var/run/leasehold" and mount["readOnly"], name


def test_the_brokers_configuration_names_the_charts_own_machines(render: Render) -> None:
    config = yaml.safe_load(named(render(), "ConfigMap", "leasehold-secret-broker")["data"]["config.yaml"])
    accounts = {account["metadata"]["name"] for account in of_kind(render(), "ServiceAccount")}
    assert config["machines"] == {
        "issuer": "cluster",
        "webhook": [f"system:serviceaccount:{NAMESPACE}:leasehold-webhook"],
        "provisioner": [f"system:serviceaccount:{NAMESPACE}:leasehold-provisioner"],
        "spawner_hook": [f"system:serviceaccount:{NAMESPACE}:leasehold-spawner-hook"],
    }
    assert {"leasehold-webhook", "leasehold-provisioner", "leasehold-spawner-hook"} <= accounts


@BOTH
def test_no_secret_is_made_by_helm(render: Render, values: str | None) -> None:
    """What Helm generates changes at each rendering and lies in the release's history."""
    assert of_kind(render(values=values), "Secret") == []


def test_an_upgrade_says_nothing_about_what_the_provisioner_and_the_replicas_write(render: Render) -> None:
    manifests = render()
    assert all("caBundle" not in hook["clientConfig"] for hook in webhooks(manifests))
    for name in ("leasehold-ca", "leasehold-spawner-hook-ca", "leasehold-webhook-ca"):
        assert "data" not in named(manifests, "ConfigMap", name)


def test_an_operators_own_authority_is_given_to_all_who_call(render: Render) -> None:
    manifests = render(values=EVERYTHING)
    for name in ("leasehold-ca", "leasehold-spawner-hook-ca"):
        assert named(manifests, "ConfigMap", name)["data"]["ca.crt"] == CERTIFICATE
    assert not [argument for argument in arguments(manifests, "leasehold-secret-broker") if "publish" in argument]


def test_rendering_twice_gives_the_same(render: Render) -> None:
    assert render(values=EVERYTHING) == render(values=EVERYTHING)


def test_two_webhook_replicas_outlive_a_drain(render: Render) -> None:
    manifests = render()
    webhook = named(manifests, "Deployment", "leasehold-webhook")["spec"]
    assert webhook["replicas"] == 2
    assert webhook["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert named(manifests, "PodDisruptionBudget", "leasehold-webhook")["spec"]["minAvailable"] == 1
    pod = webhook["template"]["spec"]
    drain = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert 0 < drain < pod["terminationGracePeriodSeconds"]
    assert of_kind(render("webhook.replicas=1"), "PodDisruptionBudget") == []


def broker_volumes(manifests: list[Manifest]) -> dict[str, Any]:
    spec = named(manifests, "StatefulSet", "leasehold-secret-broker")["spec"]
    return {"pod": spec["template"]["spec"]["volumes"], "templates": spec.get("volumeClaimTemplates", [])}


def test_the_broker_keeps_its_data_where_it_is_told(render: Render) -> None:
    (template,) = broker_volumes(render())["templates"]
    assert template["metadata"]["name"] == "data" and "storageClassName" not in template["spec"]
    (template,) = broker_volumes(render("secretBroker.persistence.storageClass=-"))["templates"]
    assert template["spec"]["storageClassName"] == ""

    volumes = broker_volumes(render("secretBroker.persistence.existingClaim=kept"))
    assert volumes["templates"] == []
    assert {"name": "data", "persistentVolumeClaim": {"claimName": "kept"}} in volumes["pod"]

    volumes = broker_volumes(render("secretBroker.persistence.enabled=false"))
    assert volumes["templates"] == [] and {"name": "data", "emptyDir": {}} in volumes["pod"]


def arguments(manifests: list[Manifest], workload: str) -> list[str]:
    ((_, pod),) = [(name, pod) for name, pod in pods(manifests) if name == workload]
    found: list[str] = pod["containers"][0]["args"]
    return found


def test_the_key_encryption_key_is_the_operators_or_the_brokers_own(render: Render) -> None:
    assert "--kek-create" in arguments(render(), "leasehold-secret-broker")
    own = arguments(render(values=EVERYTHING), "leasehold-secret-broker")
    assert "--kek-create" not in own and "--kek-file=/etc/leasehold/kek/key" in own


def test_a_hardware_module_is_mounted_and_named(render: Render) -> None:
    module: dict[str, Any] = {
        "module": "/opt/pkcs11/lib/module.so",
        "token": "leasehold uis",
        "pinSecret": "module-pin",
    }
    module["volume"] = {"hostPath": {"path": "/opt/vendor"}}
    values = yaml.safe_dump({"secretBroker": {"keyEncryptionKey": {"pkcs11": module}}})
    (pod,) = [pod for name, pod in pods(render(values=values)) if name == "leasehold-secret-broker"]
    (container,) = pod["containers"]
    environment = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert environment["LEASEHOLD_PKCS11_TOKEN"] == "leasehold uis"
    assert environment["LEASEHOLD_PKCS11_PIN_FILE"] == "/etc/leasehold/pkcs11-pin/pin"
    assert {"name": "pkcs11", "hostPath": {"path": "/opt/vendor"}} in pod["volumes"]
    assert {"name": "pkcs11", "mountPath": "/opt/pkcs11", "readOnly": True} in container["volumeMounts"]
    (pod,) = [pod for name, pod in pods(render()) if name == "leasehold-secret-broker"]
    assert "pkcs11" not in json.dumps(pod)


def test_the_ledger_is_where_the_values_say(render: Render) -> None:
    def broker(values: str | None) -> tuple[list[str], Manifest]:
        manifests = render(values=values)
        (pod,) = [pod for name, pod in pods(manifests) if name == "leasehold-secret-broker"]
        return arguments(manifests, "leasehold-secret-broker"), pod

    own, pod = broker(None)
    assert not [argument for argument in own if argument.startswith("--ledger")], "beside the other data"
    assert "LEASEHOLD_LEDGER" not in json.dumps(pod)

    database, pod = broker(DATABASE)
    assert "--ledger-key=/etc/leasehold/ledger-key/signing.pem" in database
    (address,) = [variable for variable in pod["containers"][0]["env"] if variable["name"] == "LEASEHOLD_LEDGER"]
    assert address["valueFrom"] == {"secretKeyRef": {"name": "ledger-address", "key": "address"}}, "it has a password"
    mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    assert mounts["postgres"] == "/etc/leasehold/postgres"
    (roots,) = [variable for variable in pod["containers"][0]["env"] if variable["name"] == "PGSSLROOTCERT"]
    assert roots["value"] == mounts["postgres-ca"] + "/roots.pem"
    (volume,) = [volume for volume in pod["volumes"] if volume["name"] == "postgres-ca"]
    assert volume["secret"]["secretName"] == "database-ca"

    channel, pod = broker(CHANNEL)
    assert "--ledger=fabric:/etc/leasehold/fabric/profile.yaml" in channel
    assert not [argument for argument in channel if argument.startswith("--ledger-key")], "peers sign there"
    secrets = {volume["name"]: volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume}
    assert secrets == {"fabric-identity": "broker-identity", "fabric-tls": "broker-client"}


def test_the_broker_is_told_which_ledger_it_is_and_which_keys_were_the_operators(render: Render) -> None:
    def told(values: str | None) -> dict[str, str]:
        (pod,) = [pod for name, pod in pods(render(values=values)) if name == "leasehold-secret-broker"]
        return {variable["name"]: variable.get("value", "") for variable in pod["containers"][0]["env"]}

    names = {"LEASEHOLD_LEDGER_ID", "LEASEHOLD_TRUST_LEDGER_KEY"}
    assert not names & set(told(None)), "whichever is found at the first start"
    database = told(DATABASE)
    assert database["LEASEHOLD_LEDGER_ID"] == "0a" * 32
    assert database["LEASEHOLD_TRUST_LEDGER_KEY"] == "1b" * 32 + "," + "2c" * 32


def test_a_channels_profile_names_files_that_are_mounted(render: Render) -> None:
    manifests = render(values=CHANNEL)
    files = named(manifests, "ConfigMap", "leasehold-fabric")["data"]
    profile = yaml.safe_load(files["profile.yaml"])
    assert (profile["channel"], profile["chaincode"], profile["msp"]) == ("research", "leasehold", "UiSMSP")
    assert [peer["address"] for peer in profile["peers"]] == ["peer0.uis.example:7051", "peer0.uio.example:9051"]
    assert [peer.get("server_name") for peer in profile["peers"]] == [None, "peer0"]
    assert profile["deadlines"] == {"commit_seconds": 30}
    for peer in profile["peers"]:
        assert files[peer["roots"]].strip() == CERTIFICATE.strip()
    (pod,) = [pod for name, pod in pods(manifests) if name == "leasehold-secret-broker"]
    mounts = [mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]]
    for path in (profile["certificate"], profile["key"], *profile["client_tls"].values()):
        assert path.rpartition("/")[0] in mounts, path
    source = (CHART.parents[1] / "secret-broker" / "src" / "fabric" / "profile.rs").read_text()
    for field in (*profile, *profile["peers"][1], *profile["deadlines"]):
        assert re.search(rf"^    pub {field}: ", source, re.MULTILINE), f"a profile has no field {field}"


def test_the_key_store_is_where_the_values_say(render: Render) -> None:
    def broker(values: str | None) -> Manifest:
        (pod,) = [pod for name, pod in pods(render(values=values)) if name == "leasehold-secret-broker"]
        return pod

    assert "LEASEHOLD_STORE" not in json.dumps(broker(None)), "beside the other data"
    pod = broker(DATABASE)
    (address,) = [variable for variable in pod["containers"][0]["env"] if variable["name"] == "LEASEHOLD_STORE"]
    assert address["valueFrom"] == {"secretKeyRef": {"name": "store-address", "key": "url"}}, "it has a password"
    mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    assert mounts["store"] == "/etc/leasehold/store"
    (volume,) = [volume for volume in pod["volumes"] if volume["name"] == "store"]
    assert volume["secret"]["secretName"] == "store-address"


def test_the_broker_reaches_its_ledger_and_the_chaincode_nobody(render: Render) -> None:
    def ports(values: str | None) -> set[int]:
        policy = named(render(values=values), "NetworkPolicy", "leasehold-secret-broker")
        return {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}

    assert ports(DATABASE) - ports(None) == {5432, 6432, 3306}
    elsewhere = "store: { kind: postgres, server: { existingSecret: store-address, ports: [7432] } }"
    assert ports(elsewhere) - ports(None) == {7432}
    assert ports(CHANNEL) - ports(None) == {7051, 9051}
    spec = named(render(values=CHANNEL), "NetworkPolicy", "leasehold-chaincode")["spec"]
    assert spec["egress"] == []
    (peers,) = spec["ingress"]
    assert peers["ports"] == [{"port": 9999, "protocol": "TCP"}]
    assert peers["from"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "fabric"}}}]


# T10 of docs/security/model.md.
def test_the_chaincode_runs_only_where_it_is_asked_for_and_holds_no_token(render: Render) -> None:
    assert "leasehold-chaincode" not in {name for name, _ in pods(render())}
    manifests = render(values=CHANNEL)
    (pod,) = [pod for name, pod in pods(manifests) if name == "leasehold-chaincode"]
    assert pod["automountServiceAccountToken"] is False
    environment = {variable["name"]: variable.get("value") for variable in pod["containers"][0]["env"]}
    assert environment["CHAINCODE_ID"].startswith("leasehold:0123")
    assert environment["CHAINCODE_CLIENT_CA_CERT"] == "/etc/leasehold/tls/ca.crt"
    assert named(manifests, "Service", "leasehold-chaincode")["spec"]["ports"][0]["port"] == 9999
    assert not list(rules_of(manifests, "leasehold-chaincode"))


def test_owners_roots_reach_broker_and_provisioner_alike(render: Render) -> None:
    roots = "--local-roots=UiOMSP=/srv/a,UiOMSP=/srv/b,UiSMSP=/srv/leasehold/uis"
    for workload in ("leasehold-secret-broker", "leasehold-provisioner"):
        assert roots in arguments(render(values=EVERYTHING), workload)


SHARED = ["secret-broker/process/src/lib.rs", "secret-broker/src/pace.rs"]
SOURCES = {
    "leasehold-secret-broker": "secret-broker/src/config.rs",
    "leasehold-webhook": "webhook/src/admission/arguments.rs",
    "leasehold-provisioner": "webhook/src/provisioner/arguments.rs",
    "leasehold-spawner-hook": "spawner-hook/src/arguments.rs",
    "leasehold-chaincode": "chaincode/shim/src/config.rs",
}

# Read by the client of PostgreSQL, as libpq does.
OF_THE_DATABASES_CLIENT = {"PGSSLROOTCERT"}


@BOTH
def test_every_component_knows_the_flags_that_it_is_given(render: Render, values: str | None) -> None:
    for name, pod in pods(render(values=values)):
        source = "".join((CHART.parents[1] / path).read_text() for path in [SOURCES[name], *SHARED])
        (container,) = pod["containers"]
        for argument in container.get("args", []):
            field = argument.partition("=")[0].removeprefix("--").replace("-", "_")
            assert re.search(rf"^    pub {field}: ", source, re.MULTILINE), f"{name} has no flag like {argument}"
        for variable in container["env"]:
            if variable["name"] in OF_THE_DATABASES_CLIENT:
                continue
            assert f'"{variable["name"]}"' in source, f"{name} does not read {variable['name']}"


def images(manifests: list[Manifest]) -> set[str]:
    return {container["image"] for _, pod in pods(manifests) for container in pod["containers"]}


def test_images_can_be_redirected_and_pinned(render: Render) -> None:
    assert images(render("global.imageTag=dev")) == {
        f"leasehold.local/{name}:dev" for name in ("secret-broker", "webhook", "spawner-hook")
    }
    assert all(image.startswith("mirror.example/") for image in images(render("global.imageRegistry=mirror.example")))
    digest = "sha256:" + "0123456789abcdef" * 4
    pinned = images(render(f"webhook.image.digest={digest}", "global.imageTag=dev"))
    assert f"leasehold.local/webhook@{digest}" in pinned


def test_pull_policy_and_pull_secrets_reach_every_pod(render: Render) -> None:
    manifests = render("global.imagePullPolicy=Never", 'global.imagePullSecrets=["pull"]')
    for name, pod in pods(manifests):
        assert pod["containers"][0]["imagePullPolicy"] == "Never", name
        assert pod["imagePullSecrets"] == [{"name": "pull"}], name
    assert "--cli-image-pull-policy=Never" in arguments(manifests, "leasehold-spawner-hook")


def test_every_policy_of_the_network_selects_one_component(render: Render) -> None:
    manifests = render(values=EVERYTHING)
    workloads = {name for name, _ in pods(manifests)}
    policies = of_kind(manifests, "NetworkPolicy")
    assert {policy["metadata"]["name"] for policy in policies} == workloads
    for policy in policies:
        assert set(policy["spec"]["policyTypes"]) == {"Ingress", "Egress"}
    assert of_kind(render("networkPolicy.enabled=false"), "NetworkPolicy") == []


def test_nothing_reaches_a_pod_with_a_dataset_over_the_network(render: Render) -> None:
    manifests = render('networkPolicy.usersNamespaces=["hub"]', 'networkPolicy.apiServerCidrs=["198.51.100.1/32"]')
    (policy,) = [it for it in of_kind(manifests, "NetworkPolicy") if it["metadata"].get("namespace") == "hub"]
    spec = policy["spec"]
    assert spec["podSelector"] == {"matchLabels": {"leasehold.dev/dataset-pod": "true"}}
    assert set(spec["policyTypes"]) == {"Ingress", "Egress"}
    assert spec["ingress"] == []
    dns, api_server = spec["egress"]
    assert {port["port"] for port in dns["ports"]} == {53}
    (to,) = dns["to"]
    assert to["namespaceSelector"] == {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}
    assert to["podSelector"] == {"matchLabels": {"k8s-app": "kube-dns"}}, "port 53 of anybody else is a way out"
    assert api_server["to"] == [{"ipBlock": {"cidr": "198.51.100.1/32"}}]


def test_the_webhook_asks_for_a_client_certificate_only_where_its_authority_is_named(render: Render) -> None:
    def webhook(*settings: str) -> Manifest:
        pod: Manifest = named(render(*settings), "Deployment", "leasehold-webhook")["spec"]["template"]["spec"]
        return pod

    assert "client-ca" not in json.dumps(webhook())
    pod = webhook("webhook.clientCaConfigMap=api-client")
    (container,) = pod["containers"]
    (argument,) = [argument for argument in container["args"] if argument.startswith("--client-ca-file=")]
    (mount,) = [mount for mount in container["volumeMounts"] if mount["name"] == "client-ca"]
    assert argument == f"--client-ca-file={mount['mountPath']}/ca.crt"
    (volume,) = [volume for volume in pod["volumes"] if volume["name"] == "client-ca"]
    assert volume["configMap"] == {"name": "api-client"}


def test_in_the_hubs_namespace_only_the_hub_reaches_the_spawner_hook(render: Render) -> None:
    policies = of_kind(render(), "NetworkPolicy")
    (policy,) = [it for it in policies if it["metadata"]["name"] == "leasehold-spawner-hook"]
    (caller,) = policy["spec"]["ingress"][0]["from"]
    assert caller["namespaceSelector"]["matchExpressions"][0]["values"] == ["hub"]
    assert caller["podSelector"] == {"matchLabels": {"component": "hub"}}, "notebooks may live in the same namespace"


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("webhook.replcas=3", "replcas"),
        ("webhook.replicas=0", "replicas"),
        ("webhook.image.pullPolicy=Sometimes", "pullPolicy"),
        ("webhook.image.digest=sha256:12", "digest"),
        ("webhook.failurePolicy=Ignore", "failurePolicy"),
        ("argo.controllerIdentity=argo", "controllerIdentity"),
        ("storage.local.roots.UiSMSP=/", "roots"),
        ("storage.local.roots.UiSMSP=/srv/../etc", "roots"),
        ("storage.local.roots.UiSMSP=srv", "roots"),
        ("hub.identities=[]", "identities"),
        ('secretBroker.config.stewards=[{"issuer":"cluster"}]', "subject"),
        ('secretBroker.config.issuers=[{"name":"x","kind":"oidc","issuer":"http://x"}]', "issuers"),
        (
            'secretBroker.config.issuers=[{"name":"x","kind":"oidc","issuer":"https://x","audience":"leasehold",'
            '"algorithms":["none"]}]',
            "issuers",
        ),
        ("secretBroker.config.hubIssuer=cluster", "hubIssuer"),
        ("secretBroker.config.machinesIssuer=elsewhere", "machinesIssuer"),
        (
            'secretBroker.config.issuers=[{"name":"cluster","kind":"kubernetes"},{"name":"cluster","kind":"kubernetes"}]',
            "twice",
        ),
        ("spawnerHook.replicas=2", "tls.existingSecret"),
        ("secretBroker.tls.existingSecret=mine", "come together"),
        ('networkPolicy.usersNamespaces=["hub"]', "networkPolicy.apiServerCidrs is empty"),
        ("secretBroker.keyEncryptionKey.pkcs11.module=/opt/m.so", "token or pinSecret is empty"),
        ("secretBroker.keyEncryptionKey.pkcs11.module=m.so", "module"),
        ("ledger.kind=mysql", "kind"),
        ("store.kind=fabric", "kind"),
        ("store.kind=mysql", "store.server.existingSecret is empty"),
        ('store={"kind":"postgres","server":{"ports":[0]}}', "ports"),
        ("ledger.kind=postgres", "ledger.postgres.existingSecret is empty"),
        ('ledger={"kind":"postgres","postgres":{"existingSecret":"a"}}', "ledger.signingKey.existingSecret is empty"),
        ("ledger.id=0a0b", "id"),
        ('ledger.trustedKeys=["0A"]', "trustedKeys"),
        ('ledger={"kind":"fabric","id":"' + "0a" * 32 + '"}', "ledger.id is set"),
        ('ledger={"kind":"fabric","trustedKeys":["' + "0a" * 32 + '"]}', "ledger.trustedKeys is set"),
        ("ledger.kind=fabric", "ledger.fabric.channel is empty"),
        ('ledger.fabric.peers=[{"address":"peer:7051"}]', "roots"),
        ('ledger.fabric.peers=[{"address":"peer","roots":"-----BEGIN CERTIFICATE-----"}]', "address"),
        ("ledger.fabric.deadlines.commit_seconds=0", "commit_seconds"),
        ("chaincode.deploy=true", "chaincode.packageId is empty"),
        ("chaincode.packageId=leasehold", "packageId"),
    ],
)
def test_a_mistake_is_refused_with_its_name(render: Render, setting: str, said: str) -> None:
    with pytest.raises(Refused, match=said):
        render(setting)


def test_the_broker_serves_the_cluster_that_is_named(render: Render) -> None:
    assert "--cluster=main" in arguments(render(), "leasehold-secret-broker")
    assert "--cluster=east-2" in arguments(render("cluster=east-2"), "leasehold-secret-broker")
    with pytest.raises(Refused, match="cluster"):
        render("cluster=East 2")


def test_an_organisation_is_required(render: Render) -> None:
    with pytest.raises(Refused, match="organisation is empty"):
        render(organisation=None)


def test_the_schema_knows_every_default() -> None:
    """A key of values.yaml that the schema does not list would be refused; one that only it lists is forgotten."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def compare(value: Any, described: dict[str, Any], path: str) -> None:
        if "$ref" in described:
            described = schema["$defs"][described["$ref"].removeprefix("#/$defs/")]
        if not isinstance(value, dict) or "properties" not in described:
            return
        optional = {"enabled"} if not path else {"claims"} if path.endswith(".resources") else set()
        assert set(described["properties"]) - set(value) <= optional, path
        for key, child in value.items():
            compare(child, described["properties"][key], f"{path}.{key}")

    compare(values, schema, "")
