//! Progress: how many pods (and containers of container sets) have succeeded, of those known so far.
//!
//! As in Argo a node that is no pod counts all that follows it, its own and what comes after.

use std::collections::BTreeSet;

use super::Run;
use crate::status::{Node, Phase};

impl Run<'_> {
    /// Recounts the progress of every node and of the Workflow.
    pub(super) fn count_progress(&mut self) {
        let counted: Vec<(String, String)> = self
            .status
            .nodes
            .values()
            .filter(|node| node.kind != "Skipped")
            .map(|node| (node.id.clone(), fraction(self.leaves(node))))
            .collect();
        self.status.progress = Some(fraction(self.status.nodes.values().filter(|node| is_leaf(node))));
        for (id, progress) in counted {
            if let Some(node) = self.status.nodes.get_mut(&id) {
                node.progress = Some(progress);
            }
        }
    }

    /// The pods and containers that a node stands for.
    fn leaves<'n>(&'n self, node: &'n Node) -> Vec<&'n Node> {
        if is_leaf(node) {
            return vec![node];
        }
        let mut seen = BTreeSet::new();
        let mut ahead = vec![node];
        let mut leaves = Vec::new();
        while let Some(next) = ahead.pop() {
            for child in next.children.iter().filter_map(|id| self.status.nodes.get(id)) {
                if seen.insert(child.id.as_str()) {
                    ahead.push(child);
                    leaves.extend(is_leaf(child).then_some(child));
                }
            }
        }
        leaves
    }
}

fn is_leaf(node: &Node) -> bool {
    matches!(node.kind.as_str(), "Pod" | "Container")
}

fn fraction<'n>(leaves: impl IntoIterator<Item = &'n Node>) -> String {
    let (mut done, mut all) = (0, 0);
    for leaf in leaves {
        all += 1;
        done += usize::from(leaf.phase == Phase::Succeeded);
    }
    format!("{done}/{all}")
}
