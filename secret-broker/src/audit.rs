//! One event for each decision about data or keys: who, what, on what, how it was decided and why. Never a secret, a token or a name.

/// How a decision went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It was done, or accepted to be done.
    Allowed,
    /// It was refused.
    Denied,
}

/// Writes the event, target `audit`. `who` is a pseudonym or a machine's ServiceAccount, `object` an id.
pub fn record(who: &str, verb: &'static str, object: &str, decision: Decision, reason: &str) {
    let decision = match decision {
        Decision::Allowed => "allowed",
        Decision::Denied => "denied",
    };
    tracing::info!(target: "audit", who, verb, object, decision, reason);
}
