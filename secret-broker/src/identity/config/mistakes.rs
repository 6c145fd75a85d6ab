//! What is wrong with one issuer's configuration.

use jsonwebtoken::Algorithm;
use url::Url;

use super::{AlbConfig, HubConfig, IssuerConfig, KubernetesConfig, RoleRule};
use crate::identity::claim_path::ClaimPath;
use crate::identity::reach::{Network, is_safe_target, literal};

const LONGEST_CACHE_SECONDS: u64 = 300;

impl IssuerConfig {
    /// The `iss` that only this issuer's tokens have, where it is known.
    pub(super) fn fixed_issuer(&self) -> Option<&str> {
        match self {
            Self::Oidc(c) => Some(&c.issuer),
            Self::Kubernetes(c) => c.issuer.as_deref(),
            // Its tokens come by another way; the same provider may give others by the usual one.
            Self::Jupyterhub(_) | Self::Alb(_) => None,
        }
    }

    /// One sentence for each mistake.
    pub(super) fn mistakes(&self) -> Vec<String> {
        let name = self.name();
        let mut wrong = match self {
            Self::Oidc(c) => {
                let mut wrong = pinned(&c.algorithms);
                match Url::parse(&c.issuer) {
                    Ok(url) => wrong.extend(public(&url, &c.private_networks)),
                    Err(error) => wrong.push(format!("`{}` is no URL: {error}", c.issuer)),
                }
                wrong.extend(c.jwks_url.iter().flat_map(|url| public(url, &c.private_networks)));
                if c.audience.is_empty() {
                    wrong.push("an audience is needed".to_owned());
                }
                wrong.extend(claims(&c.roles, c.groups_claim.as_ref()));
                wrong
            }
            Self::Kubernetes(c) => cluster(c),
            Self::Jupyterhub(c) => hub(c),
            Self::Alb(c) => balancer(c),
        };
        for sentence in &mut wrong {
            *sentence = format!("issuer `{name}`: {sentence}");
        }
        wrong
    }
}

fn cluster(c: &KubernetesConfig) -> Vec<String> {
    let mut wrong = pinned(&c.algorithms);
    for url in std::iter::once(&c.api_server).chain(&c.jwks_url) {
        wrong.extend(encrypted(url));
    }
    if c.people_audience.is_empty()
        || c.machines_audience.is_empty()
        || c.people_audience == c.machines_audience
    {
        wrong.push("two different audiences are needed, for people and for machines".to_owned());
    }
    wrong
}

fn hub(c: &HubConfig) -> Vec<String> {
    let mut wrong = claims(&c.roles, Some(&c.groups_claim));
    if !(is_safe_target(&c.api_url) || c.plain_http && c.api_url.scheme() == "http") {
        wrong.push(format!(
            "{} is not https, so that tokens would be sent unencrypted; say plain_http: true if the network is yours",
            c.api_url
        ));
    }
    if c.required_scopes.is_empty() || c.required_scopes.iter().any(String::is_empty) {
        wrong.push(
            "required_scopes is empty, so that tokens for anything would do; name one that is for Leasehold"
                .to_owned(),
        );
    }
    if c.cache_seconds > LONGEST_CACHE_SECONDS {
        wrong.push(format!(
            "cache_seconds is above {LONGEST_CACHE_SECONDS}, and a revoked token is good for that long"
        ));
    }
    wrong
}

fn balancer(c: &AlbConfig) -> Vec<String> {
    let mut wrong = claims(&c.roles, c.groups_claim.as_ref());
    let region = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if c.region.is_empty() || !c.region.bytes().all(region) {
        wrong.push(format!("`{}` is no region; write it as eu-north-1", c.region));
    }
    if !c.signer.starts_with("arn:aws") || !c.signer.contains(":loadbalancer/") {
        wrong.push(format!(
            "signer `{}` is no load balancer's ARN; without it every balancer of the region would be believed",
            c.signer
        ));
    }
    if c.client.is_empty() || c.issuer.is_empty() {
        wrong.push("client and issuer are needed, as the balancer is configured with them".to_owned());
    }
    wrong.extend(c.keys_url.iter().flat_map(|url| public(url, &c.private_networks)));
    wrong
}

fn pinned(algorithms: &[Algorithm]) -> Vec<String> {
    let mut wrong = Vec::new();
    if algorithms.is_empty() {
        wrong.push("it pins no algorithm; list those that it signs with, such as RS256".to_owned());
    }
    if algorithms
        .iter()
        .any(|a| matches!(a, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512))
    {
        wrong.push("it allows an HMAC algorithm; whoever verifies such a token could make one".to_owned());
    }
    wrong
}

fn encrypted(url: &Url) -> Option<String> {
    (!is_safe_target(url)).then(|| format!("{url} must be https (plain http only for this very host)"))
}

fn public(url: &Url, networks: &[Network]) -> Vec<String> {
    let mut wrong: Vec<_> = encrypted(url).into_iter().collect();
    if let Some(address) = literal(url)
        && !address.is_loopback()
        && !Network::permit(networks, address)
    {
        wrong.push(format!(
            "{address} is no public address; list its network in private_networks if that is right"
        ));
    }
    wrong
}

fn claims(rules: &[RoleRule], groups: Option<&ClaimPath>) -> Vec<String> {
    let mut wrong = Vec::new();
    let paths = rules.iter().map(|rule| &rule.claim).chain(groups);
    if !paths.into_iter().all(ClaimPath::is_valid) {
        wrong.push("a claim has no name; write names with dots between them, or a list of names".to_owned());
    }
    wrong
}
