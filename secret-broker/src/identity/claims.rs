//! The claims of a token whose signature was verified: whose it is, for whom it was made, from when until when.

use serde_json::{Map, Value};

use super::ServiceAccount;
use super::refusal::TokenError;

/// The end of the year 9999. What expires later was not meant as seconds.
const LATEST_SECONDS: u64 = 253_402_300_799;
const LONGEST_SUBJECT: usize = 512;
const LONGEST_TEXT: usize = 256;

/// Claims of the right form; [`Claims::check`] says whether they hold now and here.
#[derive(Debug)]
pub struct Claims {
    /// Immutable name of the person or account.
    pub sub: String,
    audiences: Vec<String>,
    expires: u64,
    not_before: Option<u64>,
    issued: Option<u64>,
    members: Map<String, Value>,
}

impl Claims {
    /// Reads the claims of somebody's token.
    ///
    /// # Errors
    /// [`TokenError`]: a claim is missing or not what it must be, or the token is no identity.
    pub fn read(members: Map<String, Value>) -> Result<Self, TokenError> {
        if members.contains_key("events") {
            return Err(TokenError::Event);
        }
        if members.contains_key("cnf") {
            return Err(TokenError::SenderConstrained);
        }
        let expires = members.get("exp").ok_or(TokenError::ExpiryMissing)?;
        let time = |claim: &str| {
            let value = members.get(claim);
            value
                .map(|v| seconds(v).ok_or(TokenError::TimeMalformed))
                .transpose()
        };
        Ok(Self {
            sub: subject(&members)?,
            audiences: audiences(&members)?,
            expires: seconds(expires).ok_or(TokenError::ExpiryMalformed)?,
            not_before: time("nbf")?,
            issued: time("iat")?,
            members,
        })
    }

    /// Whether they hold at a time, for an audience.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn check(&self, now: u64, leeway_seconds: u64, audience: &str) -> Result<(), TokenError> {
        let latest = now.saturating_add(leeway_seconds);
        if !self.audiences.iter().any(|a| a == audience) {
            return Err(TokenError::Audience);
        }
        self.check_expiry(now, leeway_seconds)?;
        if self.not_before.is_some_and(|from| from > latest) {
            return Err(TokenError::NotYetValid);
        }
        if self.issued.is_some_and(|at| at > latest) {
            return Err(TokenError::IssuedInTheFuture);
        }
        Ok(())
    }

    fn check_expiry(&self, now: u64, leeway_seconds: u64) -> Result<(), TokenError> {
        if self.expires.saturating_add(leeway_seconds) <= now {
            return Err(TokenError::Expired);
        }
        Ok(())
    }

    /// Whether it was made for one audience alone. A token for several is good elsewhere too, so that others may hold it.
    #[must_use]
    pub fn is_for_one_audience(&self) -> bool {
        self.audiences.len() == 1
    }

    /// A claim that people are shown.
    #[must_use]
    pub fn text(&self, claim: &str) -> Option<String> {
        shown(self.members.get(claim)?)
    }

    /// All of them.
    #[must_use]
    pub const fn members(&self) -> &Map<String, Value> {
        &self.members
    }

    /// The bound account: `kubernetes.io: {namespace, serviceaccount: {name, uid}}`.
    ///
    /// # Errors
    /// [`TokenError`]: it is not there, or not the subject.
    pub fn service_account(&self) -> Result<ServiceAccount, TokenError> {
        let account = self.bound_account().ok_or(TokenError::BoundObjectMissing)?;
        let ServiceAccount { namespace, name, .. } = &account;
        if self.sub != format!("system:serviceaccount:{namespace}:{name}") {
            return Err(TokenError::BoundObjectMismatch);
        }
        Ok(account)
    }

    fn bound_account(&self) -> Option<ServiceAccount> {
        let bound = self.members.get("kubernetes.io")?;
        let text = |value: Option<&Value>| value?.as_str().filter(|t| !t.is_empty()).map(str::to_owned);
        let account = bound.get("serviceaccount")?;
        Some(ServiceAccount {
            namespace: text(bound.get("namespace"))?,
            name: text(account.get("name"))?,
            uid: text(account.get("uid"))?,
        })
    }
}

/// A name to show: short, and without what could pass for something else on a terminal.
pub fn shown(value: &Value) -> Option<String> {
    let text = value.as_str()?;
    let acceptable = !text.is_empty() && text.len() <= LONGEST_TEXT && !text.chars().any(char::is_control);
    acceptable.then(|| text.to_owned())
}

/// Whether a text can be somebody's immutable name.
#[must_use]
pub fn is_subject(text: &str) -> bool {
    !text.is_empty() && text.len() <= LONGEST_SUBJECT && !text.chars().any(char::is_control)
}

/// The subject of any token.
///
/// # Errors
/// [`TokenError`].
pub fn subject(members: &Map<String, Value>) -> Result<String, TokenError> {
    match members.get("sub") {
        None => Err(TokenError::SubjectMissing),
        Some(Value::String(text)) if is_subject(text) => Ok(text.clone()),
        Some(_) => Err(TokenError::SubjectMalformed),
    }
}

fn audiences(members: &Map<String, Value>) -> Result<Vec<String>, TokenError> {
    let found = match members.get("aud") {
        None => return Err(TokenError::AudienceMissing),
        Some(Value::String(one)) => Some(vec![one.clone()]),
        Some(Value::Array(several)) if !several.is_empty() => several
            .iter()
            .map(|one| one.as_str().map(str::to_owned))
            .collect(),
        Some(_) => None,
    };
    found.ok_or(TokenError::AudienceMalformed)
}

/// A whole number of seconds. RFC 7519 lets issuers write fractions; none here does, and two readers may round them differently.
#[must_use]
pub fn seconds(value: &Value) -> Option<u64> {
    value.as_u64().filter(|seconds| *seconds <= LATEST_SECONDS)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn judged(changes: Value) -> Result<(), TokenError> {
        let mut members = json!({"sub": "s", "aud": "a", "exp": NOW + 60, "nbf": NOW, "iat": NOW});
        for (key, value) in changes.as_object().unwrap() {
            members[key] = value.clone();
        }
        let Value::Object(members) = members else {
            unreachable!()
        };
        Claims::read(members)?.check(NOW, 10, "a")
    }

    #[test]
    fn claims_hold_within_the_skew_and_not_a_second_beyond_it() {
        for (changes, expected) in [
            (json!({}), Ok(())),
            (json!({"exp": NOW - 9}), Ok(())),
            (json!({"exp": NOW - 10}), Err(TokenError::Expired)),
            (json!({"nbf": NOW + 10}), Ok(())),
            (json!({"nbf": NOW + 11}), Err(TokenError::NotYetValid)),
            (json!({"iat": NOW + 10}), Ok(())),
            (json!({"iat": NOW + 11}), Err(TokenError::IssuedInTheFuture)),
            (json!({"aud": ["b", "a"]}), Ok(())),
            (json!({"aud": ["b"]}), Err(TokenError::Audience)),
            (json!({"aud": []}), Err(TokenError::AudienceMalformed)),
            (json!({"aud": ["a", 1]}), Err(TokenError::AudienceMalformed)),
            (json!({"exp": -1}), Err(TokenError::ExpiryMalformed)),
            (
                json!({"exp": LATEST_SECONDS + 1}),
                Err(TokenError::ExpiryMalformed),
            ),
            (json!({"nbf": null}), Err(TokenError::TimeMalformed)),
            (json!({"iat": 1.5}), Err(TokenError::TimeMalformed)),
            (json!({"sub": "a\u{0}"}), Err(TokenError::SubjectMalformed)),
            (json!({"sub": "s".repeat(513)}), Err(TokenError::SubjectMalformed)),
        ] {
            assert_eq!(judged(changes.clone()), expected, "{changes}");
        }
    }
}
