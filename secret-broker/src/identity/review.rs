//! Asking the API server whether what a ServiceAccount's token is bound to is still there.
//!
//! Signature and expiry say nothing of a pod or an account that was deleted since; the API server knows. Its answer is kept for ten seconds,
//! so that a copied token of a notebook that was stopped is good for ten seconds more.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use url::Url;

use super::ServiceAccount;
use super::config::KubernetesConfig;
use super::fetch::{Fetcher, Question, bearer_of};
use super::reach::Reach;
use super::refusal::TokenError;
use super::remembered::{Fingerprint, Remembered};

const KEEP: Duration = Duration::from_secs(10);
const MOST_KEPT: usize = 4_096;
const PATH: &str = "/apis/authentication.k8s.io/v1/tokenreviews";

/// A cluster's API server as a judge of tokens.
pub struct Reviewer {
    name: String,
    fetcher: Fetcher,
    url: Option<Url>,
    token_file: Option<PathBuf>,
    kept: Remembered<bool>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    authenticated: bool,
    audiences: Vec<String>,
    user: User,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct User {
    username: String,
    uid: String,
}

impl Reviewer {
    /// Of a cluster; asks nothing.
    #[must_use]
    pub fn new(config: &KubernetesConfig) -> Self {
        let base = config.api_server.as_str().trim_end_matches('/');
        Self {
            name: config.name.clone(),
            fetcher: Fetcher::new(config.ca_file.clone(), Reach::Own),
            url: Url::parse(&format!("{base}{PATH}")).ok(),
            token_file: config.token_file.clone(),
            kept: Remembered::new(KEEP, MOST_KEPT),
        }
    }

    /// Refuses a token whose account, pod or secret is gone. Its signature was verified before.
    ///
    /// # Errors
    /// [`TokenError::BoundObjectGone`], [`TokenError::ReviewUnavailable`].
    pub async fn check(
        &self,
        token: &str,
        audience: &str,
        account: &ServiceAccount,
    ) -> Result<(), TokenError> {
        let key = Fingerprint::of(token);
        let is_there = match self.kept.get(&key) {
            Some(is_there) => is_there,
            None => {
                let is_there = self.ask(token, audience, account).await?;
                self.kept.put(key, is_there);
                is_there
            }
        };
        is_there.then_some(()).ok_or(TokenError::BoundObjectGone)
    }

    async fn ask(&self, token: &str, audience: &str, account: &ServiceAccount) -> Result<bool, TokenError> {
        let unavailable = |reason: &str| {
            tracing::warn!(issuer = %self.name, reason, "the API server does not review tokens; the broker needs the right to create tokenreviews");
            TokenError::ReviewUnavailable
        };
        let url = self.url.as_ref().ok_or(TokenError::ReviewUnavailable)?;
        let authorization = match &self.token_file {
            Some(path) => Some(bearer_of(path).await.map_err(|e| unavailable(&e.to_string()))?),
            None => None,
        };
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "spec": {"token": token, "audiences": [audience]},
        });
        let question = Question {
            url,
            authorization,
            post: Some(review.to_string().into_bytes()),
        };
        let (status, body) = self
            .fetcher
            .ask(question)
            .await
            .map_err(|e| unavailable(&e.to_string()))?;
        if !status.is_success() {
            return Err(unavailable(&format!("it answered {status}")));
        }
        let answer: Answer =
            serde_json::from_slice(&body).map_err(|_| unavailable("its answer is no TokenReview"))?;
        let Status {
            authenticated,
            audiences,
            user,
        } = answer.status;
        let ServiceAccount { namespace, name, uid } = account;
        Ok(authenticated
            && audiences.iter().any(|a| a == audience)
            && user.uid == *uid
            && user.username == format!("system:serviceaccount:{namespace}:{name}"))
    }
}
