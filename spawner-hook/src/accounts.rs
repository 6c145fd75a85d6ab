//! The objects that make a person known to Kubernetes: two ServiceAccounts and exactly the rights that each needs.
//!
//! | account | may | because |
//! |---|---|---|
//! | `nb-…` | create and delete `workflows`, `cronworkflows` | jupyterflow posts and deletes them; the webhook guards both |
//! | `nb-…` | get the one pod it runs in | jupyterflow copies its own pod |
//! | `wf-…` | create and patch `workflowtaskresults` | Argo's `wait` container reports with it |
//!
//! Nothing is listed or watched: RBAC cannot filter lists by owner. The spawner-hook's own ServiceAccount must hold
//! what it grants, since Kubernetes lets nobody hand on more than they have.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject};
use kube::api::ObjectMeta;
use leasehold_broker_wire::names::{PERSON_LABEL, USERNAME_ANNOTATION};

use crate::names::{Names, pod_role};
use crate::request::SpawnRequest;

/// Field manager of server-side apply, and the value of `app.kubernetes.io/managed-by`.
pub const MANAGER: &str = "leasehold-spawner-hook";

/// What is to exist before the notebook's pod is created.
#[derive(Debug, Clone, PartialEq)]
pub struct Accounts {
    /// `nb-…`; its token is mounted into the notebook, since jupyterflow needs it.
    pub notebook: ServiceAccount,
    /// `wf-…`.
    pub executor: ServiceAccount,
    /// Rights of both.
    pub roles: Vec<Role>,
    /// Who has them.
    pub bindings: Vec<RoleBinding>,
}

/// The accounts of one spawn.
#[must_use]
pub fn accounts(request: &SpawnRequest, names: &Names) -> Accounts {
    let metadata = |name: &str| ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(request.namespace.clone()),
        annotations: Some(BTreeMap::from([(
            USERNAME_ANNOTATION.to_owned(),
            request.username.clone(),
        )])),
        labels: Some(BTreeMap::from([
            (PERSON_LABEL.to_owned(), names.person.clone()),
            ("app.kubernetes.io/managed-by".to_owned(), MANAGER.to_owned()),
        ])),
        ..ObjectMeta::default()
    };
    let account = |name: &str| ServiceAccount {
        metadata: metadata(name),
        automount_service_account_token: Some(true),
        ..ServiceAccount::default()
    };
    let role = |name: &str, rules| Role {
        metadata: metadata(name),
        rules: Some(rules),
    };
    let binding = |role: &str, account: &str| RoleBinding {
        metadata: metadata(role),
        role_ref: RoleRef {
            api_group: "rbac.authorization.k8s.io".to_owned(),
            kind: "Role".to_owned(),
            name: role.to_owned(),
        },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".to_owned(),
            name: account.to_owned(),
            namespace: Some(request.namespace.clone()),
            api_group: None,
        }]),
    };
    let own_pod = pod_role(&request.pod_name);
    Accounts {
        notebook: account(&names.notebook),
        executor: account(&names.executor),
        roles: vec![
            role(
                &names.notebook,
                vec![
                    rule("argoproj.io", "workflows", &["create", "delete"]),
                    rule("argoproj.io", "cronworkflows", &["create", "delete"]),
                ],
            ),
            role(
                &own_pod,
                vec![PolicyRule {
                    resource_names: Some(vec![request.pod_name.clone()]),
                    ..rule("", "pods", &["get"])
                }],
            ),
            role(
                &names.executor,
                vec![rule("argoproj.io", "workflowtaskresults", &["create", "patch"])],
            ),
        ],
        bindings: vec![
            binding(&names.notebook, &names.notebook),
            binding(&own_pod, &names.notebook),
            binding(&names.executor, &names.executor),
        ],
    }
}

fn rule(group: &str, resource: &str, verbs: &[&str]) -> PolicyRule {
    PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(vec![resource.to_owned()]),
        verbs: verbs.iter().map(|&verb| verb.to_owned()).collect(),
        ..PolicyRule::default()
    }
}

/// Whose an existing object is, as far as this spawn is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// There is none yet, or it is this person's.
    Ours,
    /// It names another username, or none.
    Foreign,
}

/// Whether an object of this name may be made this person's: only where it is theirs by annotation, raw username and all.
#[must_use]
pub fn ownership(existing: Option<&ObjectMeta>, username: &str) -> Ownership {
    let Some(existing) = existing else {
        return Ownership::Ours;
    };
    let annotated = existing
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get(USERNAME_ANNOTATION));
    if annotated.is_some_and(|annotated| annotated == username) {
        Ownership::Ours
    } else {
        Ownership::Foreign
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn request() -> SpawnRequest {
        serde_json::from_value(json!({
            "username": "alice@example.com", "namespace": "hub", "pod_name": "jupyter-alice",
            "home": {"claim": "claim-alice", "mount_path": "/home/jovyan", "volume": "home"},
        }))
        .unwrap()
    }

    /// Every right of an account, as `group/resource[name]: verbs`.
    fn rights(accounts: &Accounts, account: &str) -> Vec<String> {
        let bound: Vec<_> = accounts
            .bindings
            .iter()
            .filter(|binding| {
                binding
                    .subjects
                    .iter()
                    .flatten()
                    .any(|subject| subject.name == account)
            })
            .map(|binding| binding.role_ref.name.clone())
            .collect();
        let roles = accounts
            .roles
            .iter()
            .filter(|role| bound.contains(role.metadata.name.as_ref().unwrap()));
        roles
            .flat_map(|role| role.rules.iter().flatten())
            .map(|rule| {
                let text =
                    |list: &Option<Vec<String>>| list.as_ref().map_or(String::new(), |list| list.join(","));
                let (groups, resources) = (text(&rule.api_groups), text(&rule.resources));
                format!(
                    "{groups}/{resources}[{}]: {}",
                    text(&rule.resource_names),
                    rule.verbs.join(",")
                )
            })
            .collect()
    }

    #[test]
    fn each_account_has_exactly_the_rights_that_jupyterflow_and_argo_need() {
        let names = Names::of("alice@example.com");
        let accounts = accounts(&request(), &names);
        assert_eq!(
            rights(&accounts, &names.notebook),
            [
                "argoproj.io/workflows[]: create,delete",
                "argoproj.io/cronworkflows[]: create,delete",
                "/pods[jupyter-alice]: get"
            ]
        );
        assert_eq!(
            rights(&accounts, &names.executor),
            ["argoproj.io/workflowtaskresults[]: create,patch"]
        );
    }

    #[test]
    fn every_object_says_whose_it_is_and_stays_in_its_namespace() {
        let accounts = accounts(&request(), &Names::of("alice@example.com"));
        let mut objects: Vec<Value> = [&accounts.notebook, &accounts.executor]
            .map(|it| json!(it))
            .to_vec();
        objects.extend(accounts.roles.iter().map(|it| json!(it)));
        objects.extend(accounts.bindings.iter().map(|it| json!(it)));
        for object in objects {
            assert_eq!(object["metadata"]["namespace"], "hub");
            assert_eq!(
                object["metadata"]["annotations"]["leasehold.dev/username"],
                "alice@example.com"
            );
            let name = object["metadata"]["name"].as_str().unwrap();
            assert!(
                name.starts_with("nb-") || name.starts_with("wf-"),
                "the chart's policy refuses {name}"
            );
        }
    }

    #[test]
    fn only_what_names_this_very_username_is_ours() {
        let annotated = |username: &str| ObjectMeta {
            annotations: Some(BTreeMap::from([(
                USERNAME_ANNOTATION.to_owned(),
                username.to_owned(),
            )])),
            ..ObjectMeta::default()
        };
        assert_eq!(ownership(None, "alice"), Ownership::Ours);
        assert_eq!(ownership(Some(&annotated("alice")), "alice"), Ownership::Ours);
        for other in ["Alice", "alice ", "bob", ""] {
            assert_eq!(ownership(Some(&annotated(other)), "alice"), Ownership::Foreign);
        }
        assert_eq!(
            ownership(Some(&ObjectMeta::default()), "alice"),
            Ownership::Foreign
        );
    }
}
