//! What a verified caller may be: a person's roles, a machine's place. Denied by default: who is in no table has no role.

use std::collections::{HashMap, HashSet};

use super::config::IdentityConfig;
use super::{Subject, Verified};

/// A person's role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Reads the catalogue, leases.
    Researcher,
    /// Registers and removes the organisation's datasets.
    Steward,
}

impl Role {
    /// The role as the API shows it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Researcher => "researcher",
            Self::Steward => "steward",
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
    stewards: HashSet<Subject>,
    machines_issuer: Option<String>,
    machines: HashMap<String, Vec<Machine>>,
}

impl RoleTable {
    /// Takes the tables from the configuration.
    #[must_use]
    pub fn new(config: &IdentityConfig) -> Self {
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
            stewards,
            machines_issuer: config.machines.issuer.clone(),
            machines,
        }
    }

    /// Whether the subject is a steward of this organisation.
    #[must_use]
    pub fn is_steward(&self, subject: &Subject) -> bool {
        self.stewards.contains(subject)
    }

    /// What a verified machine token may be; empty for a stranger.
    #[must_use]
    pub fn machines_of(&self, verified: &Verified) -> &[Machine] {
        if self.machines_issuer.as_deref() != Some(verified.subject.issuer.as_str())
            || verified.account.is_none()
        {
            return &[];
        }
        self.machines
            .get(&verified.subject.sub)
            .map_or(&[], Vec::as_slice)
    }
}
