//! Whether enough endorsed a transaction, by the chaincode's policy and those of single keys: what a peer looks at before it looks at
//! what was read (`docs` of Fabric: key-level endorsement; `core/common/validation/statebased`).

use std::collections::{HashMap, HashSet};

use crate::ledger::{Space, World};
use crate::policy::{VALIDATION_PARAMETER, is_met};
use crate::simulation::Effects;

/// How many members have to endorse what no key's own policy is about: a majority, unless a chaincode's definition says otherwise.
#[derive(Debug)]
pub(crate) struct Policies {
    majority: usize,
    by_chaincode: HashMap<String, usize>,
}

/// Keys whose policies transactions of the same block have set.
pub(crate) type Changed = HashSet<(Space, String)>;

impl Policies {
    pub(crate) fn of(members: usize) -> Self {
        Self {
            majority: members / 2 + 1,
            by_chaincode: HashMap::new(),
        }
    }

    pub(crate) fn require(&mut self, chaincode: &str, members: usize) {
        self.by_chaincode.insert(chaincode.to_owned(), members);
    }

    /// Whether these members' peers, each once, suffice for what a transaction of a chaincode would write. Each key is judged by its own
    /// policy, where it has one, else by its chaincode's; a transaction that writes nothing by that of its own.
    pub(crate) fn are_met(
        &self,
        world: &World,
        changed: &Changed,
        chaincode: &str,
        effects: &Effects,
        endorsers: &[String],
    ) -> bool {
        let enough = |chaincode: &str| {
            let needed = self.by_chaincode.get(chaincode).unwrap_or(&self.majority);
            endorsers.iter().collect::<HashSet<_>>().len() >= *needed
        };
        if effects.writes.is_empty() {
            return enough(chaincode);
        }
        effects.writes.keys().all(|at| {
            // Which of the two policies counts is not decided before the block is: neither is met.
            let (space, key) = at;
            !changed.contains(at)
                && match world
                    .get(space, key)
                    .and_then(|entry| entry.metadata.get(VALIDATION_PARAMETER))
                {
                    Some(policy) if !policy.is_empty() => is_met(policy, endorsers),
                    _ => enough(&space.namespace),
                }
        })
    }

    /// Notes the keys whose policies a transaction sets.
    pub(crate) fn note(changed: &mut Changed, effects: &Effects) {
        let set = effects
            .writes
            .iter()
            .filter(|(_, write)| write.metadata.is_some());
        changed.extend(set.map(|(at, _)| at.clone()));
    }
}
