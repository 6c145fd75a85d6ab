//! Progress: how many pods (and containers of container sets) have succeeded, of those known so far.

use super::Run;
use crate::status::{Node, Phase};

impl Run<'_> {
    /// Recounts the progress of every node and of the Workflow.
    pub(super) fn count_progress(&mut self) {
        let leaves: Vec<(String, bool)> = self
            .status
            .nodes
            .values()
            .filter(|node| is_leaf(node))
            .map(|node| (node.name.clone(), node.phase == Phase::Succeeded))
            .collect();
        let exit_handler = format!("{}.onExit", self.workflow.name);
        let is_exit = |name: &str| name.starts_with(&exit_handler);
        for node in self.status.nodes.values_mut() {
            let counted: Vec<bool> = if is_leaf(node) {
                vec![node.phase == Phase::Succeeded]
            } else {
                let below = |leaf: &str| is_below(leaf, &node.name) && is_exit(leaf) == is_exit(&node.name);
                leaves
                    .iter()
                    .filter(|(leaf, _)| below(leaf))
                    .map(|(_, done)| *done)
                    .collect()
            };
            node.progress = Some(fraction(&counted));
        }
        let all: Vec<bool> = leaves.iter().map(|(_, done)| *done).collect();
        self.status.progress = Some(fraction(&all));
    }
}

fn is_leaf(node: &Node) -> bool {
    matches!(node.kind.as_str(), "Pod" | "Container")
}

/// Whether the path `leaf` leads through `node`.
fn is_below(leaf: &str, node: &str) -> bool {
    leaf.strip_prefix(node)
        .is_some_and(|rest| rest.starts_with(['.', '[', '(']))
}

fn fraction(done: &[bool]) -> String {
    format!("{}/{}", done.iter().filter(|done| **done).count(), done.len())
}
