//! The configuration file: issuers, stewards, machines. Everything is checked once, at start, and all errors are told together.

use std::collections::HashSet;

use serde::Deserialize;

mod kinds;
mod mistakes;

pub use kinds::{AlbConfig, HubConfig, KubernetesConfig, OidcConfig, RoleRule};

/// The whole file, as `config.example.yaml` shows it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityConfig {
    /// Issuers of tokens.
    pub issuers: Vec<IssuerConfig>,
    /// Name of the issuer of people for whom the hub vouches.
    #[serde(default = "default_hub_issuer")]
    pub hub_issuer: String,
    /// Data stewards of this broker's organisation.
    #[serde(default)]
    pub stewards: Vec<Steward>,
    /// The cluster's machines.
    #[serde(default)]
    pub machines: Machines,
}

/// One issuer.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum IssuerConfig {
    /// An OpenID Connect provider, found by discovery.
    Oidc(OidcConfig),
    /// ServiceAccount tokens of a cluster.
    Kubernetes(KubernetesConfig),
    /// Tokens of a JupyterHub, which is asked whose they are.
    Jupyterhub(HubConfig),
    /// Identities that an AWS Application Load Balancer adds to requests.
    Alb(AlbConfig),
}

/// A data steward.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Steward {
    /// Name of the issuer.
    pub issuer: String,
    /// The issuer's name of the person, or a ServiceAccount's full name.
    pub subject: String,
}

/// Full ServiceAccount names (`system:serviceaccount:<namespace>:<name>`) by what they may ask.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machines {
    /// Name of their issuer; the only Kubernetes issuer where absent.
    pub issuer: Option<String>,
    /// Admission webhooks.
    #[serde(default)]
    pub webhook: Vec<String>,
    /// Provisioners.
    #[serde(default)]
    pub provisioner: Vec<String>,
    /// Spawner-hooks.
    #[serde(default)]
    pub spawner_hook: Vec<String>,
}

fn default_hub_issuer() -> String {
    "jupyterhub".to_owned()
}

impl IssuerConfig {
    /// The issuer's name within Leasehold.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Oidc(c) => &c.name,
            Self::Kubernetes(c) => &c.name,
            Self::Jupyterhub(c) => &c.name,
            Self::Alb(c) => &c.name,
        }
    }

    /// Whether each of its people may lease.
    #[must_use]
    pub fn has_researchers(&self) -> bool {
        match self {
            Self::Oidc(c) => c.researchers,
            Self::Jupyterhub(c) => c.researchers,
            Self::Alb(c) => c.researchers,
            Self::Kubernetes(_) => false,
        }
    }
}

impl IdentityConfig {
    /// Reads the YAML (or JSON) text of the file.
    ///
    /// # Errors
    /// Everything that is wrong with it, one sentence each.
    pub fn parse(text: &str) -> Result<Self, Vec<String>> {
        let mut config: Self = serde_yaml::from_str(text)
            .map_err(|error| vec![format!("the configuration file is not valid: {error}")])?;
        let errors = config.errors();
        if !errors.is_empty() {
            return Err(errors);
        }
        if config.machines.issuer.is_none() {
            let only = config.kubernetes_names().next().map(str::to_owned);
            config.machines.issuer = only;
        }
        Ok(config)
    }

    fn kubernetes_names(&self) -> impl Iterator<Item = &str> {
        self.issuers
            .iter()
            .filter(|i| matches!(i, IssuerConfig::Kubernetes(_)))
            .map(IssuerConfig::name)
    }

    fn errors(&self) -> Vec<String> {
        let mut errors = Vec::new();
        let mut seen = HashSet::new();
        let mut urls = HashSet::new();
        for issuer in &self.issuers {
            let name = issuer.name();
            if name.is_empty() || !seen.insert(name) {
                errors.push(format!(
                    "issuer name `{name}` is empty or there twice; give each issuer its own name"
                ));
            }
            // The hub's own tokens are of whom it vouches for.
            if name == self.hub_issuer && !matches!(issuer, IssuerConfig::Jupyterhub(_)) {
                errors.push(format!("issuer `{name}` has the name of hub_issuer; rename one, or the hub could vouch for its people"));
            }
            errors.extend(issuer.mistakes());
            if let Some(url) = issuer.fixed_issuer()
                && !urls.insert(url)
            {
                errors.push(format!(
                    "issuer `{name}` has the issuer URL of another one; keep one of them"
                ));
            }
        }
        let count = |of: fn(&IssuerConfig) -> bool| self.issuers.iter().filter(|i| of(i)).count();
        if count(|i| matches!(i, IssuerConfig::Jupyterhub(_))) > 1 {
            errors.push(
                "there are several issuers of kind jupyterhub, and a token does not say which to show it to; keep one"
                    .to_owned(),
            );
        }
        if count(|i| matches!(i, IssuerConfig::Alb(_))) > 1 {
            errors.push(
                "there are several issuers of kind alb; keep that of the balancer in front of this broker"
                    .to_owned(),
            );
        }
        for steward in &self.stewards {
            if steward.issuer != self.hub_issuer && !seen.contains(steward.issuer.as_str()) {
                errors.push(format!(
                    "steward `{}` names the issuer `{}`, which is not configured",
                    steward.subject, steward.issuer
                ));
            }
        }
        errors.extend(self.machine_errors());
        errors
    }

    fn machine_errors(&self) -> Vec<String> {
        let mut errors = Vec::new();
        let all = || {
            self.machines
                .webhook
                .iter()
                .chain(&self.machines.provisioner)
                .chain(&self.machines.spawner_hook)
        };
        for sub in all() {
            if sub
                .strip_prefix("system:serviceaccount:")
                .is_none_or(|rest| rest.split(':').count() != 2)
            {
                errors.push(format!(
                    "machine `{sub}` is no ServiceAccount; write system:serviceaccount:<namespace>:<name>"
                ));
            }
        }
        match &self.machines.issuer {
            Some(name) if !self.kubernetes_names().any(|n| n == name) => {
                errors.push(format!(
                    "machines.issuer `{name}` is no configured issuer of kind kubernetes"
                ));
            }
            None if all().next().is_some() && self.kubernetes_names().count() != 1 => {
                errors.push(
                    "machines.issuer is needed where there is not exactly one issuer of kind kubernetes"
                        .to_owned(),
                );
            }
            _ => {}
        }
        errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_file_is_valid() {
        let config = IdentityConfig::parse(include_str!("../../config.example.yaml")).unwrap();
        assert_eq!(config.issuers.len(), 4);
        assert_eq!(config.stewards.len(), 3);
        assert_eq!(config.machines.issuer.as_deref(), Some("cluster"));
    }

    #[test]
    fn all_errors_are_told_at_once() {
        let errors = IdentityConfig::parse(
            r#"
issuers:
  - { name: jupyterhub, kind: oidc, issuer: "http://idp.example.org", algorithms: [HS256] }
  - { name: k, kind: kubernetes, people_audience: x, machines_audience: x, algorithms: [] }
  - { name: h, kind: jupyterhub, api_url: "http://hub:8081/hub/api", required_scopes: [], cache_seconds: 3600 }
  - { name: g, kind: jupyterhub, api_url: "https://hub.example.org/hub/api", groups_claim: "" }
  - { name: b, kind: alb, region: "eu north", signer: "arn:other", issuer: "", client: c, keys_url: "http://keys.example.org" }
stewards: [{ issuer: nobody, subject: x }]
machines: { webhook: ["webhook"], issuer: jupyterhub }
"#,
        )
        .unwrap_err();
        for part in [
            "hub_issuer",
            "HMAC",
            "https",
            "two different audiences",
            "pins no algorithm",
            "not configured",
            "is no ServiceAccount",
            "machines.issuer",
            "plain_http",
            "required_scopes",
            "cache_seconds",
            "a claim has no name",
            "several issuers of kind jupyterhub",
            "is no region",
            "ARN",
            "client and issuer",
        ] {
            assert!(
                errors.iter().any(|e| e.contains(part)),
                "{part} is missing in {errors:#?}"
            );
        }
    }

    #[test]
    fn an_address_inside_is_refused_unless_its_network_is_named() {
        let with = |issuer: &str, networks: &str| {
            IdentityConfig::parse(&format!(
                "issuers: [{{ name: a, kind: oidc, issuer: '{issuer}', algorithms: [RS256], private_networks: {networks} }}]"
            ))
        };
        for issuer in [
            "https://169.254.169.254",
            "https://10.0.0.7",
            "https://[fd00::1]",
            "https://[::ffff:10.0.0.7]",
        ] {
            let errors = with(issuer, "[]").unwrap_err();
            assert!(
                errors.iter().any(|e| e.contains("private_networks")),
                "{errors:?}"
            );
        }
        assert!(with("https://10.0.0.7", "[10.0.0.0/24]").is_ok());
        assert!(with("https://10.0.1.7", "[10.0.0.0/24]").is_err());
        assert!(with("https://login.example.org", "[]").is_ok());
        assert!(with("https://login.example.org", "[inside]").is_err());
    }

    #[test]
    fn unknown_keys_algorithms_and_kinds_are_refused() {
        for text in [
            "issuers: []\nsurprise: 1",
            "issuers: [{ name: a, kind: saml, issuer: 'https://x' }]",
            "issuers: [{ name: a, kind: oidc, issuer: 'https://x', algorithms: [none] }]",
            "issuers: [{ name: a, kind: oidc, issuer: 'https://x', algorithms: [RS256], trust: all }]",
        ] {
            assert!(IdentityConfig::parse(text).is_err(), "{text}");
        }
    }
}
