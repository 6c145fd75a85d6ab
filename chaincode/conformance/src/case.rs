//! A case: an id, a promise, and the steps that show it.
//!
//! Steps are written in JSON with placeholders (see [`crate::placeholder`]), so that a case reads like what is sent and answered.

use leasehold_chaincode::Role;
use serde_json::Value;

/// A promise and the steps that show it.
#[derive(Debug, Clone)]
pub struct Case {
    /// Short and for ever: letters, digits.
    pub id: &'static str,
    /// What must hold, as a sentence.
    pub promise: &'static str,
    /// One after the other.
    pub steps: Vec<Step>,
    /// Whether it changes what every case stands on, so that nothing may run beside it.
    pub alone: bool,
}

/// A step of a case.
#[derive(Debug, Clone)]
pub enum Step {
    /// From here on it is so late.
    At(&'static str),
    /// Somebody submits a command.
    Submit(Box<Submit>),
    /// A question has an answer that contains this.
    Ask(Value, Value),
    /// A list, walked in pages of so many, has exactly these entries of the case in this order, each containing what is given.
    Walk(Value, usize, Vec<Value>),
}

/// A command with who submits it and what must come of it.
#[derive(Debug, Clone)]
pub struct Submit {
    pub(crate) who: Who,
    pub(crate) command: Value,
    pub(crate) transaction: Option<&'static str>,
    pub(crate) name: Option<&'static str>,
    pub(crate) expected: Expected,
}

/// What must come of a command.
#[derive(Debug, Clone)]
pub enum Expected {
    /// It is committed, and followers are told this, if it is said.
    Accepted(Option<Vec<Value>>),
    /// It is refused with something that contains this.
    Refused(Value),
}

/// An organisation of the bench, by number, in a role.
#[derive(Debug, Clone, Copy)]
pub struct Who {
    pub(crate) organisation: usize,
    pub(crate) role: Role,
}

/// The first organisation; owns the datasets of most cases.
pub(crate) const A: Who = Who::administrator(0);
/// The second.
pub(crate) const B: Who = Who::administrator(1);
/// The third.
pub(crate) const C: Who = Who::administrator(2);

impl Who {
    const fn administrator(organisation: usize) -> Self {
        Self {
            organisation,
            role: Role::Administrator,
        }
    }

    /// The same in another role.
    pub(crate) fn with(self, role: Role) -> Self {
        Self { role, ..self }
    }

    /// Submits a command that is accepted.
    pub(crate) fn does(self, command: Value) -> Submit {
        Submit {
            who: self,
            command,
            transaction: None,
            name: None,
            expected: Expected::Accepted(None),
        }
    }

    /// Submits a command that is refused with this code, or with something that contains this.
    pub(crate) fn may_not(self, command: Value, refusal: impl IntoRefusal) -> Submit {
        Submit {
            expected: Expected::Refused(refusal.into_refusal()),
            ..self.does(command)
        }
    }
}

/// A refusal's code, or more of it.
pub(crate) trait IntoRefusal {
    fn into_refusal(self) -> Value;
}

impl IntoRefusal for &str {
    fn into_refusal(self) -> Value {
        serde_json::json!({ "code": self })
    }
}

impl IntoRefusal for Value {
    fn into_refusal(self) -> Value {
        self
    }
}

impl Submit {
    /// The command, with placeholders.
    #[must_use]
    pub fn command(&self) -> &Value {
        &self.command
    }

    /// What must come of it.
    #[must_use]
    pub fn expected(&self) -> &Expected {
        &self.expected
    }

    /// What it made is called so from here on: `$name` is the lease's id.
    pub(crate) fn named(mut self, name: &'static str) -> Self {
        self.name = Some(name);
        self
    }

    /// Under an id that other steps use too.
    pub(crate) fn under(mut self, transaction: &'static str) -> Self {
        self.transaction = Some(transaction);
        self
    }

    /// Followers are told exactly this, in short: `kind`, `kind:cause`, and the name of the lease where it is about one.
    pub(crate) fn tells(mut self, events: &[&str]) -> Self {
        let events = events.iter().map(|event| crate::placeholder::event(event));
        self.expected = Expected::Accepted(Some(events.collect()));
        self
    }

    /// The same, each containing what is given.
    pub(crate) fn tells_that(mut self, events: Vec<Value>) -> Self {
        self.expected = Expected::Accepted(Some(events));
        self
    }
}

impl From<Submit> for Step {
    fn from(submit: Submit) -> Self {
        Self::Submit(Box::new(submit))
    }
}

impl Case {
    pub(crate) fn new(id: &'static str, promise: &'static str) -> Self {
        Self {
            id,
            promise,
            steps: Vec::new(),
            alone: false,
        }
    }

    /// Nothing may run beside it.
    pub(crate) fn alone(self) -> Self {
        Self { alone: true, ..self }
    }

    /// Somebody does something.
    pub(crate) fn then(mut self, submit: Submit) -> Self {
        self.steps.push(submit.into());
        self
    }

    /// It is so late from here on, as in `+60s` after the case's begin; see [`crate::placeholder`].
    pub(crate) fn at(mut self, moment: &'static str) -> Self {
        self.steps.push(Step::At(moment));
        self
    }

    /// A question has an answer that contains this.
    pub(crate) fn asks(mut self, question: Value, answer: Value) -> Self {
        self.steps.push(Step::Ask(question, answer));
        self
    }

    /// A list has exactly these entries of the case, in this order.
    pub(crate) fn walks(mut self, question: Value, limit: usize, entries: Vec<Value>) -> Self {
        self.steps.push(Step::Walk(question, limit, entries));
        self
    }
}
