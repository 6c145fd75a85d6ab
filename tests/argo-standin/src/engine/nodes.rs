//! The tree of nodes in a status: finding, starting, changing and ending them.

use super::{Place, Run};
use crate::names;
use crate::status::{Condition, Node, Phase};

impl Run<'_> {
    pub(super) fn id(&self, name: &str) -> String {
        names::node_id(&self.workflow.name, name)
    }

    pub(super) fn node(&self, name: &str) -> Option<&Node> {
        self.status.nodes.get(&self.id(name))
    }

    /// Adds the node if it is not there yet; gives its id.
    pub(super) fn start(&mut self, name: &str, kind: &str, template: &str, place: &Place) -> String {
        let id = self.id(name);
        if !self.status.nodes.contains_key(&id) {
            let caller = place.boundary.as_ref().and_then(|id| self.status.nodes.get(id));
            let node = Node {
                id: id.clone(),
                name: name.to_owned(),
                display_name: display_name(name, caller.map(|node| node.name.as_str())),
                kind: kind.to_owned(),
                template_name: (!template.is_empty()).then(|| template.to_owned()),
                template_scope: Some(format!("local/{}", self.workflow.name)),
                boundary_id: place.boundary.clone(),
                started_at: Some(self.now.clone()),
                task_result_synced: (kind == "Pod").then_some(true),
                node_flag: place.flag,
                ..Node::default()
            };
            self.status.nodes.insert(id.clone(), node);
        }
        id
    }

    pub(super) fn change(&mut self, name: &str, change: impl FnOnce(&mut Node)) {
        let id = self.id(name);
        if let Some(node) = self.status.nodes.get_mut(&id) {
            change(node);
        }
    }

    pub(super) fn set_phase(&mut self, name: &str, phase: Phase) {
        self.change(name, |node| node.phase = phase);
    }

    pub(super) fn set_message(&mut self, name: &str, message: Option<String>) {
        self.change(name, |node| node.message = message);
    }

    /// Ends a node.
    pub(super) fn finish(&mut self, name: &str, phase: Phase, message: Option<String>) -> Phase {
        let now = self.now.clone();
        self.change(name, |node| {
            node.phase = phase;
            node.message = message;
            node.finished_at.get_or_insert(now);
        });
        phase
    }

    pub(super) fn add_child(&mut self, name: &str, child: &str) {
        let child = self.id(child);
        self.change(name, |node| {
            if !node.children.contains(&child) {
                node.children.push(child);
            }
        });
    }

    pub(super) fn set_condition(&mut self, condition: Condition) {
        match self
            .status
            .conditions
            .iter_mut()
            .find(|it| it.kind == condition.kind)
        {
            Some(existing) => *existing = condition,
            None => self.status.conditions.push(condition),
        }
    }
}

/// The last part of a path, as people see it: without the caller's path and the number of the step group.
fn display_name(name: &str, caller: Option<&str>) -> String {
    let own = caller
        .and_then(|caller| name.strip_prefix(caller))
        .unwrap_or(name);
    let own = own
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("]."))
        .map_or(own, |(_, step)| step);
    own.trim_start_matches('.').to_owned()
}
