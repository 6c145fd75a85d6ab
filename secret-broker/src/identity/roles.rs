//! What a verified caller may be: a person's roles, a machine's place. Denied by default: who is in no table, and whose claims give
//! nothing, has no role.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::claim_path::ClaimPath;
use super::config::{IdentityConfig, RoleRule};
use super::{Subject, Verified};

/// A person's role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads the catalogue, leases.
    Researcher,
    /// Registers and removes the organisation's datasets.
    Steward,
    /// Looks after the broker.
    Operator,
    /// Reads what was done by whom.
    Auditor,
}

/// What an issuer says of a person's standing, by the configured claims.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Roles that the claims give.
    pub roles: BTreeSet<Role>,
    /// Groups of the person.
    pub groups: BTreeSet<String>,
}

impl Standing {
    /// Reads the claims by an issuer's rules.
    #[must_use]
    pub fn of(claims: &Map<String, Value>, rules: &[RoleRule], groups: Option<&ClaimPath>) -> Self {
        let roles = rules
            .iter()
            .flat_map(|rule| {
                rule.claim
                    .texts(claims)
                    .filter_map(|value| rule.values.get(value))
            })
            .copied()
            .collect();
        let groups = groups
            .into_iter()
            .flat_map(|path| path.texts(claims))
            .map(str::to_owned)
            .collect();
        Self { roles, groups }
    }
}

impl Role {
    /// The role as the API shows it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Researcher => "researcher",
            Self::Steward => "steward",
            Self::Operator => "operator",
            Self::Auditor => "auditor",
        }
    }
}

/// A machine of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Machine {
    /// The admission webhook.
    Webhook,
    /// The provisioner.
    Provisioner,
    /// The spawner-hook.
    SpawnerHook,
}

impl Machine {
    /// The machine as the audit shows it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Provisioner => "provisioner",
            Self::SpawnerHook => "spawner-hook",
        }
    }
}

/// The configured tables.
#[derive(Debug)]
pub struct RoleTable {
    /// Every issuer of people, and whether each of its people may lease.
    issuers: HashMap<String, bool>,
    stewards: HashSet<Subject>,
    machines_issuer: Option<String>,
    machines: HashMap<String, Vec<Machine>>,
}

impl RoleTable {
    /// Takes the tables from the configuration.
    #[must_use]
    pub fn new(config: &IdentityConfig) -> Self {
        let mut issuers: HashMap<String, bool> = config
            .issuers
            .iter()
            .map(|issuer| (issuer.name().to_owned(), issuer.has_researchers()))
            .collect();
        // The hub lets in only whom it knows, and its operator has named it.
        issuers.insert(config.hub_issuer.clone(), true);
        let stewards = config
            .stewards
            .iter()
            .map(|s| Subject {
                issuer: s.issuer.clone(),
                sub: s.subject.clone(),
            })
            .collect();
        let mut machines: HashMap<String, Vec<Machine>> = HashMap::new();
        for (list, machine) in [
            (&config.machines.webhook, Machine::Webhook),
            (&config.machines.provisioner, Machine::Provisioner),
            (&config.machines.spawner_hook, Machine::SpawnerHook),
        ] {
            for sub in list {
                machines.entry(sub.clone()).or_default().push(machine);
            }
        }
        Self {
            issuers,
            stewards,
            machines_issuer: config.machines.issuer.clone(),
            machines,
        }
    }

    /// Whether the subject is listed as a steward of this organisation.
    #[must_use]
    pub fn is_listed(&self, subject: &Subject) -> bool {
        self.stewards.contains(subject)
    }

    /// Roles of a person of whom the issuer told a standing. None of an issuer that is not configured any more.
    #[must_use]
    pub fn roles_of(&self, subject: &Subject, standing: &Standing) -> BTreeSet<Role> {
        let Some(researchers) = self.issuers.get(&subject.issuer) else {
            return BTreeSet::new();
        };
        let mut roles = standing.roles.clone();
        if *researchers {
            roles.insert(Role::Researcher);
        }
        if self.is_listed(subject) {
            roles.insert(Role::Steward);
        }
        roles
    }

    /// Whether the issuer of the machines vouches for the subject: the cluster whose accounts the hub binds.
    #[must_use]
    pub fn is_of_this_cluster(&self, subject: &Subject) -> bool {
        self.machines_issuer.as_deref() == Some(subject.issuer.as_str())
    }

    /// What a verified machine token may be; empty for a stranger.
    #[must_use]
    pub fn machines_of(&self, verified: &Verified) -> &[Machine] {
        if !self.is_of_this_cluster(&verified.subject) || verified.account.is_none() {
            return &[];
        }
        self.machines
            .get(&verified.subject.sub)
            .map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config() -> IdentityConfig {
        IdentityConfig::parse(
            r#"
issuers:
  - name: claims
    kind: oidc
    issuer: https://login.example.org
    algorithms: [RS256]
    groups_claim: groups
    roles:
      - { claim: realm_access.roles, values: { lease: researcher, data-steward: steward, ops: operator, audit: auditor } }
      - { claim: groups, values: { /stewards: steward } }
  - { name: everybody, kind: oidc, issuer: "https://other.example.org", algorithms: [RS256], researchers: true }
stewards: [{ issuer: everybody, subject: olga }, { issuer: claims, subject: olga }]
"#,
        )
        .unwrap()
    }

    fn roles(issuer: &str, sub: &str, claims: Value) -> Vec<&'static str> {
        let config = config();
        let Value::Object(claims) = claims else {
            unreachable!()
        };
        let standing = config
            .issuers
            .iter()
            .find_map(|i| match i {
                crate::identity::config::IssuerConfig::Oidc(c) if c.name == issuer => {
                    Some(Standing::of(&claims, &c.roles, c.groups_claim.as_ref()))
                }
                _ => None,
            })
            .unwrap_or_default();
        let subject = Subject {
            issuer: issuer.to_owned(),
            sub: sub.to_owned(),
        };
        let roles = RoleTable::new(&config).roles_of(&subject, &standing);
        roles.iter().map(|role| role.name()).collect()
    }

    #[test]
    fn roles_come_from_the_configured_values_of_the_configured_claims_and_from_nothing_else() {
        let realm = |roles: Value| json!({"realm_access": {"roles": roles}});
        for (claims, expected) in [
            (json!({}), vec![]),
            (realm(json!(["lease"])), vec!["researcher"]),
            (realm(json!("lease")), vec!["researcher"]),
            (
                realm(json!(["audit", "ops", "data-steward", "lease"])),
                vec!["researcher", "steward", "operator", "auditor"],
            ),
            (
                realm(json!(["Lease", "lease ", "lease data-steward", "steward"])),
                vec![],
            ),
            (realm(json!([["lease"], {"lease": true}])), vec![]),
            (realm(json!({"lease": true})), vec![]),
            (json!({"roles": ["lease"]}), vec![]),
            (json!({"realm_access.roles": ["lease"]}), vec![]),
            (json!({"groups": ["/stewards"]}), vec!["steward"]),
            (json!({"groups": ["lease"]}), vec![]),
        ] {
            assert_eq!(roles("claims", "alice", claims.clone()), expected, "{claims}");
        }
        assert_eq!(roles("claims", "olga", json!({})), ["steward"]);
        assert_eq!(roles("everybody", "alice", json!({})), ["researcher"]);
        assert_eq!(roles("everybody", "olga", json!({})), ["researcher", "steward"]);
        assert_eq!(roles("jupyterhub", "alice", json!({})), ["researcher"]);
        assert!(roles("gone", "alice", json!({})).is_empty());
    }

    #[test]
    fn accounts_of_another_cluster_are_bound_to_nobody() {
        let config = IdentityConfig::parse(
            r#"
issuers: [{ name: cluster, kind: kubernetes }, { name: other, kind: kubernetes, api_server: "https://other.example.org" }]
machines: { issuer: cluster }
"#,
        )
        .unwrap();
        let table = RoleTable::new(&config);
        let of = |issuer: &str| {
            table.is_of_this_cluster(&Subject {
                issuer: issuer.to_owned(),
                sub: "system:serviceaccount:hub:alice".to_owned(),
            })
        };
        assert!(of("cluster"));
        assert!(!of("other"));
    }
}
