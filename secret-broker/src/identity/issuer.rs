//! One configured issuer: which tokens are its own, and what a good one says.

use jsonwebtoken::{Algorithm, Validation};

use super::config::{IssuerConfig, KubernetesConfig, OidcConfig};
use super::keyset::KeySet;
use super::token::{Claims, TokenError, Unverified, Verified};
use super::{Purpose, ServiceAccount, Subject};

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
    Kubernetes(KubernetesConfig),
}

impl Issuer {
    /// Sets up an issuer; fetches nothing.
    #[must_use]
    pub fn new(config: &IssuerConfig) -> Self {
        let (algorithms, leeway_seconds, kind) = match config {
            IssuerConfig::Oidc(c) => (c.algorithms.clone(), c.leeway_seconds, Kind::Oidc(c.clone())),
            IssuerConfig::Kubernetes(c) => (
                c.algorithms.clone(),
                c.leeway_seconds,
                Kind::Kubernetes(c.clone()),
            ),
        };
        Self {
            name: config.name().to_owned(),
            keys: KeySet::new(config),
            algorithms,
            leeway_seconds,
            kind,
        }
    }

    /// Whether a token that names this `iss` is this issuer's to judge; `None` while its own name has yet to be learnt.
    pub async fn issues(&self, iss: &str) -> Option<bool> {
        if self.keys.issuer().is_none() {
            self.keys.refresh_if_due().await;
        }
        self.keys.issuer().map(|own| own == iss)
    }

    fn audience(&self, purpose: Purpose) -> Option<&str> {
        match (&self.kind, purpose) {
            (Kind::Oidc(c), Purpose::People) => Some(&c.audience),
            (Kind::Oidc(_), Purpose::Machines) => None,
            (Kind::Kubernetes(c), Purpose::People) => Some(&c.people_audience),
            (Kind::Kubernetes(c), Purpose::Machines) => Some(&c.machines_audience),
        }
    }

    /// Verifies signature and claims of one of this issuer's tokens.
    ///
    /// # Errors
    /// [`TokenError`].
    pub async fn verify(
        &self,
        token: &str,
        unverified: &Unverified,
        purpose: Purpose,
    ) -> Result<Verified, TokenError> {
        let audience = self.audience(purpose).ok_or(TokenError::Audience)?;
        let algorithm = unverified.algorithm;
        if !self.algorithms.contains(&algorithm) {
            return Err(TokenError::Algorithm);
        }
        let Some(key) = self.keys.key(&unverified.key_id).await else {
            return Err(if self.keys.loaded() {
                TokenError::UnknownKey
            } else {
                TokenError::KeysUnavailable
            });
        };
        if !key.algorithms.contains(&algorithm) {
            return Err(TokenError::Algorithm);
        }
        let mut validation = Validation::new(algorithm);
        validation.leeway = self.leeway_seconds;
        validation.validate_nbf = true;
        validation.set_audience(&[audience]);
        validation.set_issuer(&[&unverified.issuer]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        let claims = jsonwebtoken::decode::<Claims>(token, &key.key, &validation)
            .map_err(|error| TokenError::from_jwt(error.kind()))?
            .claims;
        claims.check_issued_at(self.leeway_seconds)?;
        self.verified(claims, audience)
    }

    fn verified(&self, claims: Claims, audience: &str) -> Result<Verified, TokenError> {
        let subject = Subject {
            issuer: self.name.clone(),
            sub: claims.sub.clone(),
        };
        if subject.sub.is_empty() || subject.sub.len() > 512 {
            return Err(TokenError::Claims);
        }
        match &self.kind {
            Kind::Oidc(c) => {
                let username = c.username_claim.as_ref().and_then(|name| claims.text(name));
                Ok(Verified {
                    subject,
                    username,
                    account: None,
                    researcher: c.researchers,
                })
            }
            Kind::Kubernetes(_) => {
                // A token for several audiences is good elsewhere too, so that others may hold it.
                if claims.audiences() != [audience] {
                    return Err(TokenError::Audience);
                }
                let account = claims.service_account().ok_or(TokenError::Claims)?;
                let ServiceAccount { namespace, name, .. } = &account;
                if subject.sub != format!("system:serviceaccount:{namespace}:{name}") {
                    return Err(TokenError::Claims);
                }
                Ok(Verified {
                    subject,
                    username: None,
                    account: Some(account),
                    researcher: false,
                })
            }
        }
    }
}
