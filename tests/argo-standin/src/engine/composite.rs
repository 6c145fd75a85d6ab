//! `dag` and `steps`: templates that call others.

use std::collections::BTreeSet;

use super::{Outcome, Place, Run};
use crate::status::{NodeFlag, Phase};
use crate::workflow::{Call, Dag, Template};

impl<'a> Run<'a> {
    pub(super) fn dag(&mut self, name: &str, template: &'a Template, dag: &'a Dag, place: &Place) -> Outcome {
        let id = self.start(name, "DAG", &template.name, place);
        self.set_phase(name, Phase::Running);
        if let Some(reason) = ill_formed(dag) {
            self.finish(name, Phase::Error, Some(reason.clone()));
            return Err(reason);
        }
        let inside = Place {
            boundary: Some(id),
            caller: Some(template.name.clone()),
            flag: None,
            ..*place
        };
        let targets: Vec<&Call> = dag
            .tasks
            .iter()
            .filter(|task| {
                !dag.tasks
                    .iter()
                    .any(|other| other.dependencies.contains(&task.name))
            })
            .collect();
        for target in &targets {
            self.task(name, dag, target, &inside);
        }
        let unfinished = |run: &Self, task: &Call| {
            run.node(&path(name, &task.name))
                .is_some_and(|node| !node.phase.is_final())
        };
        if dag.tasks.iter().any(|task| unfinished(self, task)) {
            return Ok(Phase::Running);
        }
        let mut result = Phase::Succeeded;
        for target in &targets {
            match self.branch(name, dag, target) {
                None => result = Phase::Running,
                Some(phase) if phase.is_bad() => {
                    result = phase;
                    if dag.fail_fast.unwrap_or(true) {
                        break;
                    }
                }
                Some(_) => {}
            }
        }
        if result == Phase::Running {
            return Ok(result);
        }
        let outbound = targets
            .iter()
            .flat_map(|task| self.outbound(&path(name, &task.name)))
            .collect();
        self.change(name, |node| node.outbound_nodes = outbound);
        Ok(self.finish(name, result, None))
    }

    /// Brings a task forward, its dependencies first.
    fn task(&mut self, dag_name: &str, dag: &'a Dag, task: &'a Call, place: &Place) {
        let name = path(dag_name, &task.name);
        if self.node(&name).is_some_and(|node| node.phase.is_final()) {
            return;
        }
        for dependency in dependencies(dag, task) {
            self.task(dag_name, dag, dependency, place);
        }
        let phases: Option<Vec<Phase>> = dependencies(dag, task)
            .map(|it| {
                self.node(&path(dag_name, &it.name))
                    .map(|node| node.phase)
                    .filter(|it| it.is_final())
            })
            .collect();
        let Some(phases) = phases else { return };
        let parents: Vec<String> = match task.dependencies.is_empty() {
            true => vec![self.id(dag_name)],
            false => task
                .dependencies
                .iter()
                .flat_map(|it| self.outbound(&path(dag_name, it)))
                .collect(),
        };
        if phases
            .iter()
            .all(|phase| matches!(phase, Phase::Succeeded | Phase::Skipped))
        {
            if let Err(reason) = self.call(&name, &task.template, place) {
                self.finish(
                    &name,
                    Phase::Error,
                    Some(format!("task '{name}' errored: {reason}")),
                );
            }
        } else {
            self.start(
                &name,
                "Skipped",
                &task.template,
                &Place {
                    flag: Some(NodeFlag::default()),
                    ..place.clone()
                },
            );
            self.finish(
                &name,
                Phase::Omitted,
                Some("omitted: depends condition not met".to_owned()),
            );
        }
        let id = self.id(&name);
        for parent in parents {
            if let Some(node) = self
                .status
                .nodes
                .get_mut(&parent)
                .filter(|node| !node.children.contains(&id))
            {
                node.children.push(id.clone());
            }
        }
    }

    /// How the branch that ends in `task` went: an omitted task is as bad as the worst it depends on.
    fn branch(&self, dag_name: &str, dag: &Dag, task: &Call) -> Option<Phase> {
        let phase = self.node(&path(dag_name, &task.name))?.phase;
        if !matches!(phase, Phase::Omitted | Phase::Skipped) {
            return Some(phase);
        }
        let inherited = dependencies(dag, task).filter_map(|it| self.branch(dag_name, dag, it));
        Some(inherited.fold(
            Phase::Succeeded,
            |worst, phase| if worst.is_bad() { worst } else { phase },
        ))
    }

    pub(super) fn steps(
        &mut self,
        name: &str,
        template: &'a Template,
        groups: &'a [Vec<Call>],
        place: &Place,
    ) -> Outcome {
        let id = self.start(name, "Steps", &template.name, place);
        self.set_phase(name, Phase::Running);
        let inside = Place {
            boundary: Some(id),
            caller: Some(template.name.clone()),
            flag: None,
            ..*place
        };
        let mut before = vec![self.id(name)];
        for (index, group) in groups.iter().enumerate() {
            let group_name = format!("{name}[{index}]");
            let flagged = Place {
                flag: Some(NodeFlag::default()),
                ..inside.clone()
            };
            let group_id = self.start(&group_name, "StepGroup", "", &flagged);
            for parent in &before {
                if let Some(node) = self
                    .status
                    .nodes
                    .get_mut(parent)
                    .filter(|it| !it.children.contains(&group_id))
                {
                    node.children.push(group_id.clone());
                }
            }
            let phase = self.group(&group_name, group, &inside);
            if !phase.is_final() {
                return Ok(Phase::Running);
            }
            before = group
                .iter()
                .flat_map(|step| self.outbound(&path(&group_name, &step.name)))
                .collect();
            if phase.is_bad() {
                let message = self.node(&group_name).and_then(|node| node.message.clone());
                self.change(name, |node| node.outbound_nodes = before);
                return Ok(self.finish(name, Phase::Failed, message));
            }
        }
        self.change(name, |node| node.outbound_nodes = before);
        Ok(self.finish(name, Phase::Succeeded, None))
    }

    fn group(&mut self, name: &str, steps: &'a [Call], place: &Place) -> Phase {
        if let Some(node) = self.node(name).filter(|node| node.phase.is_final()) {
            return node.phase;
        }
        self.set_phase(name, Phase::Running);
        for step in steps {
            let step_name = path(name, &step.name);
            let outcome = self.call(&step_name, &step.template, place);
            self.add_child(name, &step_name);
            if let Err(reason) = outcome {
                let message = format!("step group deemed errored due to child {step_name} error: {reason}");
                return self.finish(name, Phase::Error, Some(message));
            }
        }
        let ends: Vec<_> = steps
            .iter()
            .filter_map(|step| self.node(&path(name, &step.name)))
            .collect();
        if ends.iter().any(|node| !node.phase.is_final()) {
            return Phase::Running;
        }
        match ends
            .iter()
            .find(|node| node.phase.is_bad())
            .map(|node| format!("child '{}' failed", node.id))
        {
            Some(message) => self.finish(name, Phase::Failed, Some(message)),
            None => self.finish(name, Phase::Succeeded, None),
        }
    }

    /// Ids of the nodes that whatever follows the node `name` follows.
    fn outbound(&self, name: &str) -> Vec<String> {
        let Some(node) = self.node(name) else {
            return Vec::new();
        };
        match node.kind.as_str() {
            "DAG" | "Steps" => node.outbound_nodes.clone(),
            "Retry" => {
                let mut children = node.children.iter().filter_map(|id| self.status.nodes.get(id));
                children
                    .rfind(|child| child.node_flag.is_some_and(|flag| flag.retried))
                    .map_or_else(|| vec![node.id.clone()], |child| self.outbound(&child.name))
            }
            _ => {
                let template = node
                    .template_name
                    .as_ref()
                    .and_then(|name| self.workflow.template(name));
                let Some(set) = template.and_then(|template| template.container_set.as_ref()) else {
                    return vec![node.id.clone()];
                };
                let members = &set.containers;
                let last = members.iter().map(|member| &member.container.name);
                let last = last.filter(|name| !members.iter().any(|it| it.dependencies.contains(name)));
                last.map(|member| self.id(&path(name, member))).collect()
            }
        }
    }
}

fn path(parent: &str, child: &str) -> String {
    format!("{parent}.{child}")
}

fn dependencies<'a>(dag: &'a Dag, task: &'a Call) -> impl Iterator<Item = &'a Call> {
    task.dependencies
        .iter()
        .filter_map(|name| dag.tasks.iter().find(|task| task.name == *name))
}

/// What is wrong with the graph: a dependency on nothing, or a circle.
fn ill_formed(dag: &Dag) -> Option<String> {
    for task in &dag.tasks {
        let unknown = task
            .dependencies
            .iter()
            .find(|name| dag.tasks.iter().all(|task| task.name != **name));
        if let Some(unknown) = unknown {
            return Some(format!(
                "task '{}' depends on '{unknown}', which is no task",
                task.name
            ));
        }
    }
    let mut done: BTreeSet<&str> = BTreeSet::new();
    while done.len() < dag.tasks.len() {
        let ready = dag.tasks.iter().find(|task| {
            !done.contains(task.name.as_str())
                && task.dependencies.iter().all(|it| done.contains(it.as_str()))
        });
        match ready {
            Some(task) => done.insert(&task.name),
            None => {
                return Some("the tasks depend on each other in a circle, or two have one name".to_owned());
            }
        };
    }
    None
}
