//! Who is asking: verified tokens of configured issuers become typed subjects; nothing else does.
//!
//! A subject is the pair (issuer, sub), never a bare string. What a token says of itself chooses only among what the operator
//! configured: its `iss` picks an issuer, its `kid` a key of that issuer's set. The algorithm must be one of the issuer's pinned ones
//! and fit that key. No address in a token is ever fetched. Callers learn that a token was refused; audit and log learn why. What an issuer
//! says of a person's roles counts only by the claims and values that are configured for it.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

pub mod balancer;
pub mod claim_path;
pub mod claims;
pub mod config;
pub mod fetch;
pub mod hub;
pub mod issuer;
pub mod keyset;
pub mod reach;
pub mod refusal;
pub mod remembered;
pub mod review;
pub mod roles;
pub mod token;

use balancer::Balancer;
use config::IssuerConfig;
use hub::Hub;
use issuer::Issuer;
pub use refusal::TokenError;
pub use roles::{Machine, Role, Standing};
use token::{Encoding, Unverified};

/// A person, as an issuer names them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subject {
    /// Configured name of the issuer.
    pub issuer: String,
    /// The issuer's immutable name of the person.
    pub sub: String,
}

/// What a token was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A person at the REST API.
    People,
    /// A machine of the cluster at the gRPC API.
    Machines,
}

/// The ServiceAccount that a Kubernetes token belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceAccount {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid: an account of the same name that was made anew has another.
    pub uid: String,
}

/// A caller whose token was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Who.
    pub subject: Subject,
    /// A name to show; decides nothing.
    pub username: Option<String>,
    /// The ServiceAccount of a Kubernetes token.
    pub account: Option<ServiceAccount>,
    /// What the issuer says of the person's standing.
    pub standing: Standing,
}

/// All configured issuers.
pub struct Issuers {
    /// Those that sign their tokens.
    issuers: Vec<Arc<Issuer>>,
    /// The one that is asked instead.
    hub: Option<Hub>,
    /// The one that adds its tokens to requests.
    balancer: Option<Balancer>,
}

impl Issuers {
    /// Sets up the issuers. Their key sets are fetched by [`Issuers::keep_fresh`] and on demand, never here.
    #[must_use]
    pub fn new(configured: &[IssuerConfig]) -> Self {
        let mut all = Self {
            issuers: Vec::new(),
            hub: None,
            balancer: None,
        };
        for one in configured {
            match one {
                IssuerConfig::Oidc(c) => all.issuers.push(Arc::new(Issuer::oidc(c))),
                IssuerConfig::Kubernetes(c) => all.issuers.push(Arc::new(Issuer::kubernetes(c))),
                IssuerConfig::Jupyterhub(c) => all.hub = Some(Hub::new(c)),
                IssuerConfig::Alb(c) => all.balancer = Some(Balancer::new(c)),
            }
        }
        all
    }

    /// Verifies a token that was made for a purpose.
    ///
    /// # Errors
    /// [`TokenError`], whose text is for the audit and the log alone.
    pub async fn verify(&self, token: &str, purpose: Purpose) -> Result<Verified, TokenError> {
        // What a hub gives is no signed token and has no dot.
        if let (Some(hub), Purpose::People, false) = (&self.hub, purpose, token.contains('.')) {
            return hub.verify(token).await;
        }
        let unverified = Unverified::parse(token, Encoding::Plain)?;
        let issuer = match self.named(unverified.issuer()?) {
            Some(issuer) => issuer,
            None => self.learn_names(unverified.issuer()?).await?,
        };
        issuer.verify(unverified, purpose).await
    }

    /// The load balancer that adds identities to requests, where there is one.
    #[must_use]
    pub const fn balancer(&self) -> Option<&Balancer> {
        self.balancer.as_ref()
    }

    fn named(&self, iss: &str) -> Option<&Arc<Issuer>> {
        self.issuers
            .iter()
            .find(|issuer| issuer.issues(iss) == Some(true))
    }

    /// Asks issuers that have not told their names yet, all at once: nobody waits for one that is none of theirs.
    async fn learn_names(&self, iss: &str) -> Result<&Arc<Issuer>, TokenError> {
        let unnamed = || self.issuers.iter().filter(|issuer| issuer.issues(iss).is_none());
        futures::future::join_all(unnamed().map(|issuer| issuer.keys.refresh_if_due())).await;
        self.named(iss).ok_or_else(|| {
            if unnamed().next().is_some() {
                TokenError::KeysUnavailable
            } else {
                TokenError::UnknownIssuer
            }
        })
    }

    /// Whether every issuer has a key set.
    #[must_use]
    pub fn without_keys(&self) -> Vec<&str> {
        self.issuers
            .iter()
            .filter(|i| !i.keys.loaded())
            .map(|i| i.name.as_str())
            .collect()
    }

    /// Fetches the key sets now and then every few minutes, each issuer by itself, until shutdown.
    pub async fn keep_fresh(self: Arc<Self>, shutdown: CancellationToken) {
        let refreshers = self.issuers.iter().map(|issuer| refresh_loop(issuer, &shutdown));
        futures::future::join_all(refreshers).await;
    }
}

async fn refresh_loop(issuer: &Issuer, shutdown: &CancellationToken) {
    const FRESH: Duration = Duration::from_secs(300);
    const RETRY: Duration = Duration::from_secs(5);
    loop {
        let pause = match issuer.keys.refresh().await {
            Ok(()) => FRESH,
            Err(error) => {
                tracing::warn!(issuer = %issuer.name, %error, "could not fetch the issuer's key set; tokens of keys seen earlier still verify");
                RETRY
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.cancelled() => return,
        }
    }
}
