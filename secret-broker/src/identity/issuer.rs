//! One configured issuer of signed tokens: which are its own, and what a good one says.

use jsonwebtoken::Algorithm;

use super::claims::Claims;
use super::config::{KubernetesConfig, OidcConfig};
use super::keyset::KeySet;
use super::refusal::TokenError;
use super::review::Reviewer;
use super::roles::Standing;
use super::token::Unverified;
use super::{Purpose, Subject, Verified};

/// One issuer.
pub struct Issuer {
    /// Its configured name.
    pub name: String,
    /// Its public keys.
    pub keys: KeySet,
    algorithms: Vec<Algorithm>,
    leeway_seconds: u64,
    kind: Kind,
}

enum Kind {
    Oidc(OidcConfig),
    Kubernetes {
        config: KubernetesConfig,
        /// Asks whether what a person's token is bound to is still there.
        reviewer: Option<Box<Reviewer>>,
    },
}

impl Issuer {
    /// An OpenID Connect provider; fetches nothing.
    #[must_use]
    pub fn oidc(config: &OidcConfig) -> Self {
        Self {
            name: config.name.clone(),
            keys: KeySet::of_provider(config),
            algorithms: config.algorithms.clone(),
            leeway_seconds: config.leeway_seconds,
            kind: Kind::Oidc(config.clone()),
        }
    }

    /// A cluster; fetches nothing.
    #[must_use]
    pub fn kubernetes(config: &KubernetesConfig) -> Self {
        Self {
            name: config.name.clone(),
            keys: KeySet::of_cluster(config),
            algorithms: config.algorithms.clone(),
            leeway_seconds: config.leeway_seconds,
            kind: Kind::Kubernetes {
                reviewer: config.review_tokens.then(|| Box::new(Reviewer::new(config))),
                config: config.clone(),
            },
        }
    }

    /// Whether a token that names this `iss` is this issuer's to judge; `None` while its own name has yet to be learnt. Never waits.
    #[must_use]
    pub fn issues(&self, iss: &str) -> Option<bool> {
        self.keys.issuer().map(|own| own == iss)
    }

    fn audience(&self, purpose: Purpose) -> Option<&str> {
        match (&self.kind, purpose) {
            (Kind::Oidc(c), Purpose::People) => Some(&c.audience),
            (Kind::Oidc(_), Purpose::Machines) => None,
            (Kind::Kubernetes { config, .. }, Purpose::People) => Some(&config.people_audience),
            (Kind::Kubernetes { config, .. }, Purpose::Machines) => Some(&config.machines_audience),
        }
    }

    /// Verifies signature and claims of one of this issuer's tokens.
    ///
    /// # Errors
    /// [`TokenError`].
    pub async fn verify(&self, token: Unverified<'_>, purpose: Purpose) -> Result<Verified, TokenError> {
        let audience = self.audience(purpose).ok_or(TokenError::Audience)?;
        let algorithm = token.algorithm;
        if !self.algorithms.contains(&algorithm) {
            return Err(TokenError::AlgorithmNotPinned);
        }
        let Some(key) = self.keys.key(&token.key_id).await else {
            return Err(if self.keys.loaded() {
                TokenError::UnknownKey
            } else {
                TokenError::KeysUnavailable
            });
        };
        if !key.algorithms.contains(&algorithm) {
            return Err(TokenError::AlgorithmNotTheKeys);
        }
        token.check_signature(&key.key)?;
        let claims = Claims::read(token.claims)?;
        claims.check(
            jsonwebtoken::get_current_timestamp(),
            self.leeway_seconds,
            audience,
        )?;
        let verified = self.verified(&claims)?;
        // Machines are not asked after: they call all the time, also while the API server is away.
        if let (Purpose::People, Kind::Kubernetes { reviewer, .. }) = (purpose, &self.kind)
            && let (Some(reviewer), Some(account)) = (reviewer, &verified.account)
        {
            reviewer.check(token.text, audience, account).await?;
        }
        Ok(verified)
    }

    fn verified(&self, claims: &Claims) -> Result<Verified, TokenError> {
        let subject = Subject {
            issuer: self.name.clone(),
            sub: claims.sub.clone(),
        };
        match &self.kind {
            Kind::Oidc(c) => Ok(Verified {
                subject,
                username: c.username_claim.as_ref().and_then(|name| claims.text(name)),
                account: None,
                standing: Standing::of(claims.members(), &c.roles, c.groups_claim.as_ref()),
            }),
            Kind::Kubernetes { .. } => {
                if !claims.is_for_one_audience() {
                    return Err(TokenError::AudienceNotAlone);
                }
                Ok(Verified {
                    subject,
                    username: None,
                    account: Some(claims.service_account()?),
                    standing: Standing::default(),
                })
            }
        }
    }
}
