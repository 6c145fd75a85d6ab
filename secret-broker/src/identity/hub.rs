//! Tokens of a JupyterHub. They say nothing by themselves: the hub is asked whose they are.
//!
//! A token is sent to the one configured hub and to nobody else. What the hub said is kept for a short time, so that a token which was revoked
//! there is refused here after it; that the hub does not answer is never kept, and is no refusal.

use std::time::Duration;

use serde_json::{Map, Value};
use tokio::sync::Semaphore;
use url::Url;

use super::claims::is_subject;
use super::config::HubConfig;
use super::fetch::{Fetcher, Question};
use super::reach::Reach;
use super::refusal::TokenError;
use super::remembered::{Fingerprint, Remembered};
use super::roles::Standing;
use super::{Subject, Verified};

/// Questions to the hub at the same time; others wait for a place.
const MOST_QUESTIONS: usize = 16;
const LONGEST_WAIT: Duration = Duration::from_secs(5);
const MOST_KEPT: usize = 4_096;

/// The hub.
pub struct Hub {
    config: HubConfig,
    fetcher: Fetcher,
    question: Option<Url>,
    kept: Remembered<Result<Verified, TokenError>>,
    places: Semaphore,
}

impl Hub {
    /// Sets it up; asks nothing.
    #[must_use]
    pub fn new(config: &HubConfig) -> Self {
        let base = config.api_url.as_str().trim_end_matches('/');
        Self {
            fetcher: Fetcher::new(config.ca_file.clone(), Reach::Own),
            question: Url::parse(&format!("{base}/user")).ok(),
            kept: Remembered::new(Duration::from_secs(config.cache_seconds), MOST_KEPT),
            places: Semaphore::new(MOST_QUESTIONS),
            config: config.clone(),
        }
    }

    /// Whose a token is.
    ///
    /// # Errors
    /// [`TokenError`].
    pub async fn verify(&self, token: &str) -> Result<Verified, TokenError> {
        if !could_be_a_token(token) {
            return Err(TokenError::NotAToken);
        }
        let key = Fingerprint::of(token);
        if let Some(answer) = self.kept.get(&key) {
            return answer;
        }
        let waited = tokio::time::timeout(LONGEST_WAIT, self.places.acquire()).await;
        let Ok(Ok(_place)) = waited else {
            return Err(TokenError::HubUnavailable);
        };
        // Whoever waited here with the same token has its answer now.
        if let Some(answer) = self.kept.get(&key) {
            return answer;
        }
        let answer = self.ask(token).await;
        if !answer.as_ref().is_err_and(|reason| reason.is_no_verdict()) {
            self.kept.put(key, answer.clone());
        }
        answer
    }

    async fn ask(&self, token: &str) -> Result<Verified, TokenError> {
        let url = self.question.as_ref().ok_or(TokenError::HubUnavailable)?;
        let asked = self.fetcher.ask(Question {
            url,
            authorization: Some(format!("token {token}")),
            post: None,
        });
        let (status, body) = asked.await.map_err(|error| {
            tracing::warn!(issuer = %self.config.name, %error, "the hub does not say whose a token is");
            TokenError::HubUnavailable
        })?;
        match status.as_u16() {
            200 => match serde_json::from_slice(&body) {
                Ok(Value::Object(model)) => self.judge(&model),
                _ => Err(self.strange("something else than a user")),
            },
            401 | 403 => Err(TokenError::UnknownToHub),
            other => Err(self.strange(&other.to_string())),
        }
    }

    fn strange(&self, answer: &str) -> TokenError {
        tracing::warn!(issuer = %self.config.name, answer, "the hub does not say whose a token is; check api_url");
        TokenError::HubUnavailable
    }

    fn judge(&self, model: &Map<String, Value>) -> Result<Verified, TokenError> {
        let text = |member: &str| model.get(member).and_then(Value::as_str);
        if text("kind") != Some("user") {
            return Err(TokenError::HubService);
        }
        let name = text("name").filter(|name| is_subject(name));
        let name = name.ok_or(TokenError::SubjectMalformed)?;
        let scopes: Vec<&str> = match model.get("scopes") {
            Some(Value::Array(scopes)) => scopes.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        if !self.config.required_scopes.iter().all(|s| covers(&scopes, s)) {
            return Err(TokenError::ScopeMissing);
        }
        Ok(Verified {
            subject: Subject {
                issuer: self.config.name.clone(),
                sub: name.to_owned(),
            },
            username: Some(name.to_owned()),
            account: None,
            standing: Standing::of(model, &self.config.roles, Some(&self.config.groups_claim)),
        })
    }
}

/// What a hub makes: letters, digits, `-` and `_`.
fn could_be_a_token(text: &str) -> bool {
    (16..=256).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
}

/// Whether scopes hold one, itself or without its filter (`access:services` holds `access:services!service=leasehold`).
fn covers(scopes: &[&str], wanted: &str) -> bool {
    let whole = wanted.split_once('!').map(|(scope, _)| scope);
    scopes
        .iter()
        .any(|scope| *scope == wanted || Some(*scope) == whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_held_by_itself_or_by_the_one_without_a_filter() {
        let wanted = "access:services!service=leasehold";
        for (scopes, held) in [
            (vec![wanted], true),
            (vec!["access:services"], true),
            (vec!["self", "access:services!service=other"], false),
            (vec!["access:services!service=leasehold2"], false),
            (vec!["access"], false),
            (vec![], false),
        ] {
            assert_eq!(covers(&scopes, wanted), held, "{scopes:?}");
        }
        assert!(covers(&["self"], "self") && !covers(&[], "self"));
    }

    #[test]
    fn only_what_a_hub_could_have_made_is_sent_to_it() {
        assert!(could_be_a_token("0123456789abcdef0123456789abcdef"));
        for text in [
            "",
            "short",
            "a".repeat(300).as_str(),
            "0123456789abcdef\r\nx: y",
            "0123456789abcdef/../",
        ] {
            assert!(!could_be_a_token(text), "{text:?}");
        }
    }
}
