//! What is known of Workflows, CronWorkflows and ServiceAccounts: by uid whose an owner is, by name which uid an account
//! has. Pure indexes; [`crate::watches`] keeps them fed.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::review::stamp::Stamp;

/// A Workflow or CronWorkflow, reduced to what a review needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Its uid.
    pub uid: Box<str>,
    /// Its namespace.
    pub namespace: Box<str>,
    /// Its name.
    pub name: Box<str>,
    /// Whose it is; none if it was never stamped.
    pub stamp: Option<Stamp>,
    /// Being deleted: owns nothing new.
    pub deleting: bool,
}

/// Owners by uid.
#[derive(Debug, Default)]
pub struct StampIndex {
    owners: RwLock<HashMap<Box<str>, Arc<Owner>>>,
}

impl StampIndex {
    /// An owner by uid.
    #[must_use]
    pub fn get(&self, uid: &str) -> Option<Arc<Owner>> {
        self.owners
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(uid)
            .cloned()
    }

    /// New or changed.
    pub fn insert(&self, owner: Owner) {
        let mut owners = self.owners.write().unwrap_or_else(PoisonError::into_inner);
        owners.insert(owner.uid.clone(), Arc::new(owner));
    }

    /// Gone.
    pub fn remove(&self, uid: &str) {
        self.owners
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(uid);
    }

    /// Replaces everything.
    pub fn replace(&self, owners: Vec<Owner>) {
        let fresh = owners
            .into_iter()
            .map(|owner| (owner.uid.clone(), Arc::new(owner)))
            .collect();
        *self.owners.write().unwrap_or_else(PoisonError::into_inner) = fresh;
    }
}

type ByNamespace = HashMap<Box<str>, HashMap<Box<str>, Arc<str>>>;

/// Uids of ServiceAccounts by namespace and name.
#[derive(Debug, Default)]
pub struct AccountIndex {
    uids: RwLock<ByNamespace>,
}

impl AccountIndex {
    /// The uid that this name had last.
    #[must_use]
    pub fn uid(&self, namespace: &str, name: &str) -> Option<Arc<str>> {
        self.uids
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(namespace)?
            .get(name)
            .cloned()
    }

    /// New or changed.
    pub fn insert(&self, namespace: &str, name: &str, uid: &str) {
        let mut uids = self.uids.write().unwrap_or_else(PoisonError::into_inner);
        uids.entry(namespace.into())
            .or_default()
            .insert(name.into(), uid.into());
    }

    /// Gone.
    pub fn remove(&self, namespace: &str, name: &str) {
        if let Some(accounts) = self
            .uids
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .get_mut(namespace)
        {
            accounts.remove(name);
        }
    }

    /// Replaces everything with (namespace, name, uid).
    pub fn replace(&self, accounts: Vec<(String, String, String)>) {
        let mut fresh = ByNamespace::new();
        for (namespace, name, uid) in accounts {
            fresh
                .entry(namespace.into())
                .or_default()
                .insert(name.into(), uid.into());
        }
        *self.uids.write().unwrap_or_else(PoisonError::into_inner) = fresh;
    }
}
