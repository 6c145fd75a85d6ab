//! Decides a review. Pure: from a request, the views and the answers to earlier questions to a verdict, or to one more
//! question. No I/O, no clock of its own, no side effect, so `dryRun` needs no care.
//!
//! One file per kind. What cannot be decided is denied; what is missing from a view is asked for ([`Question`]) and decided
//! when the answer is there.

pub mod claim;
pub mod connect;
pub mod cron_workflow;
pub mod envelope;
pub mod parse;
pub mod patch;
pub mod pod;
pub mod reason;
pub mod stamp;
pub mod strict;
pub mod task_result;
pub mod text;
pub mod volume;
pub mod workflow;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::leases::{Binding, Lease, LeaseIndex};
use crate::stamps::{AccountIndex, Owner, StampIndex};
use envelope::{Operation, Request};
use patch::Patch;
pub use reason::{Denial, Reason};

/// A lease view older than this decides nothing.
pub const FRESH: Duration = Duration::from_secs(2);

/// Which of the two webhooks asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// May patch.
    Mutating,
    /// Sees the final object; recomputes and compares.
    Validating,
}

/// Who is who, by configuration.
#[derive(Debug, Clone)]
pub struct Identities {
    /// Argo's workflow-controller, such as `system:serviceaccount:argo:argo`.
    pub controller: String,
    /// Our provisioner: the only one that makes, changes or deletes claims.
    pub provisioner: String,
}

/// A verdict on one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Yes, with these changes.
    Allow(Patch),
    /// No.
    Deny(Denial),
}

/// What the views didn't know. Asked of the API server or the broker within the review's deadline.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Question {
    /// A Workflow or CronWorkflow by name, as it is now.
    Owner {
        /// Which of the two.
        kind: OwnerKind,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// The uid of a ServiceAccount, as it is now.
    Account {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// Binding and leases of a notebook ServiceAccount, from the broker.
    Person {
        /// Its uid.
        uid: String,
    },
    /// Whether a pod mounts a claim of ours, as it is now.
    Pod {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

/// What may own a pod or a Workflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OwnerKind {
    /// `argoproj.io/v1alpha1` Workflow.
    Workflow,
    /// `argoproj.io/v1alpha1` CronWorkflow.
    CronWorkflow,
}

/// An answer to a [`Question`].
#[derive(Debug, Clone)]
pub enum Fact {
    /// The owner, or that there is none.
    Owner(Option<Arc<Owner>>),
    /// The ServiceAccount's uid, or that there is none.
    Account(Option<String>),
    /// The person with the broker's time, or that the broker knows none.
    Person(Option<Person>),
    /// True: mounts a claim. False: does not. None: there is no such pod.
    Pod(Option<bool>),
    /// There was no answer; the text says why, without secrets.
    Unanswered(String),
}

/// A person as leases are decided by.
#[derive(Debug, Clone)]
pub struct Person {
    /// Their accounts and home.
    pub binding: Arc<Binding>,
    /// Their leases that have not ended, by dataset name.
    pub leases: Vec<Arc<Lease>>,
    /// The broker's clock.
    pub broker_now_ms: i64,
}

/// What a decision is made from.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// Leases and bindings.
    pub leases: &'a LeaseIndex,
    /// Workflows by uid.
    pub workflows: &'a StampIndex,
    /// CronWorkflows by uid.
    pub cron_workflows: &'a StampIndex,
    /// ServiceAccounts by name.
    pub accounts: &'a AccountIndex,
    /// Answers so far.
    pub facts: &'a [(Question, Fact)],
    /// When the review is decided.
    pub now: Instant,
    /// Who is who.
    pub identities: &'a Identities,
}

/// Why there is no yes yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// It is a no.
    Deny(Denial),
    /// Ask this and decide again.
    Ask(Question),
}

impl From<Denial> for Stop {
    fn from(denial: Denial) -> Self {
        Self::Deny(denial)
    }
}

pub(crate) fn deny<T>(reason: Reason, message: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Deny(Denial::new(reason, message)))
}

impl View<'_> {
    /// The answer to a question, or the need to ask it.
    fn fact(&self, question: Question) -> Result<&Fact, Stop> {
        match self.facts.iter().find(|(asked, _)| *asked == question) {
            Some((_, Fact::Unanswered(why))) => Err(Stop::Deny(match question {
                Question::Person { .. } => Denial::new(
                    Reason::BrokerUnreachable,
                    format!(
                        "the secret broker cannot say what is leased now: {why}; this is tried again by itself"
                    ),
                ),
                _ => Denial::new(
                    Reason::LookupFailed,
                    format!("the API server did not answer a look-up: {why}; this is tried again by itself"),
                ),
            })),
            Some((_, fact)) => Ok(fact),
            None => Err(Stop::Ask(question)),
        }
    }

    /// Binding and leases of a notebook's ServiceAccount: from memory while the view is fresh, else from the broker.
    /// A person the view doesn't know is asked for too: they may be younger than the view.
    fn person(&self, uid: &str) -> Result<Person, Stop> {
        if self.leases.age(self.now) <= FRESH
            && !self.was_asked(uid)
            && let Some((binding, leases)) = self.leases.person(uid)
            && let Some(broker_now_ms) = self.leases.broker_now_ms(self.now)
        {
            return Ok(Person {
                binding,
                leases,
                broker_now_ms,
            });
        }
        self.person_now(uid)
    }

    /// The same, from the broker in any case.
    fn person_now(&self, uid: &str) -> Result<Person, Stop> {
        match self.fact(Question::Person { uid: uid.to_owned() })? {
            Fact::Person(Some(person)) => Ok(person.clone()),
            _ => deny(
                Reason::NotBound,
                "this notebook's ServiceAccount belongs to nobody the secret broker knows; stop and start your server from the hub",
            ),
        }
    }

    fn was_asked(&self, uid: &str) -> bool {
        self.facts
            .iter()
            .any(|(question, _)| matches!(question, Question::Person { uid: asked } if asked == uid))
    }

    /// A Workflow or CronWorkflow by uid: a hit in the view is final, since a stamp never changes; a miss is read live.
    fn owner(&self, kind: OwnerKind, namespace: &str, name: &str, uid: &str) -> Result<Arc<Owner>, Stop> {
        let index = match kind {
            OwnerKind::Workflow => self.workflows,
            OwnerKind::CronWorkflow => self.cron_workflows,
        };
        let seen = match index.get(uid) {
            Some(owner) => Some(owner),
            None => {
                match self.fact(Question::Owner {
                    kind,
                    namespace: namespace.to_owned(),
                    name: name.to_owned(),
                })? {
                    Fact::Owner(owner) => owner.clone(),
                    _ => None,
                }
            }
        };
        match seen {
            Some(owner)
                if &*owner.uid == uid
                    && &*owner.name == name
                    && &*owner.namespace == namespace
                    && !owner.deleting =>
            {
                Ok(owner)
            }
            _ => deny(
                Reason::OwnerUnresolved,
                format!(
                    "{kind:?} {name} with the uid that owns this object does not exist in {namespace}, or is being deleted"
                ),
            ),
        }
    }

    /// Requires that a ServiceAccount of this name has this uid now.
    fn account_is(&self, namespace: &str, name: &str, uid: &str) -> Result<(), Stop> {
        if self.accounts.uid(namespace, name).as_deref() == Some(uid) {
            return Ok(());
        }
        // Recreated or not seen yet: the API server knows.
        match self.fact(Question::Account {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })? {
            Fact::Account(Some(live)) if live == uid => Ok(()),
            _ => deny(
                Reason::ServiceAccount,
                format!(
                    "ServiceAccount {name} is not the one that was bound to this person; stop and start your server from the hub"
                ),
            ),
        }
    }
}

/// Decides one request.
///
/// # Errors
/// A denial, or the one question whose answer is needed next.
pub fn review(stage: Stage, request: &Request<'_>, view: &View<'_>) -> Result<Patch, Stop> {
    let resource = (
        &*request.resource.group,
        &*request.resource.resource,
        request.sub_resource.as_deref(),
    );
    match resource {
        ("argoproj.io", "workflows" | "workflowtemplates", None) => workflow::review(stage, request, view),
        ("argoproj.io", "cronworkflows", None) => cron_workflow::review(stage, request, view),
        ("argoproj.io", "workflowtaskresults", None) => task_result::review(request, view),
        ("", "pods", None) => pod::review(stage, request, view),
        ("", "pods", Some("ephemeralcontainers")) => pod::update::review_ephemeral(request),
        ("", "pods", Some("exec" | "attach" | "portforward" | "proxy"))
            if request.operation == Operation::Connect =>
        {
            connect::review(request, view)
        }
        ("", "persistentvolumeclaims" | "persistentvolumes", None) => claim::review(request, view),
        (group, resource, sub_resource) => deny(
            Reason::Unsupported,
            format!(
                "this webhook does not review {resource}{}{} of {:?}; correct the rules of its webhook configuration",
                if sub_resource.is_some() { "/" } else { "" },
                sub_resource.unwrap_or_default(),
                group,
            ),
        ),
    }
}

/// The object of a request that must have one.
pub(crate) fn object<'a>(request: &Request<'a>) -> Result<&'a str, Stop> {
    present(request.object)
}

/// The former object of a request that must have one.
pub(crate) fn old_object<'a>(request: &Request<'a>) -> Result<&'a str, Stop> {
    present(request.old_object)
}

fn present(object: Option<&serde_json::value::RawValue>) -> Result<&str, Stop> {
    match object {
        Some(raw) => Ok(raw.get()),
        None => deny(
            Reason::WrongType,
            "the request carries no object, which its operation must have",
        ),
    }
}

/// Whether this user is a person's ServiceAccount, of either kind, in any namespace.
pub(crate) fn is_persons_account(user: &envelope::UserInfo<'_>) -> bool {
    use leasehold_broker_wire::names::{EXECUTOR_PREFIX, NOTEBOOK_PREFIX};
    user.service_account()
        .is_some_and(|(_, name)| name.starts_with(NOTEBOOK_PREFIX) || name.starts_with(EXECUTOR_PREFIX))
}
