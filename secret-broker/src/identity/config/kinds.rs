//! What each kind of issuer is configured with. A new kind is a struct here, an arm of [`super::IssuerConfig`] and a file beside it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jsonwebtoken::Algorithm;
use leasehold_broker_wire::names;
use serde::Deserialize;
use url::Url;

use crate::identity::claim_path::ClaimPath;
use crate::identity::reach::Network;
use crate::identity::roles::Role;

/// An OpenID Connect provider.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OidcConfig {
    /// Name of the issuer within Leasehold.
    pub name: String,
    /// The provider's issuer URL, byte for byte.
    pub issuer: String,
    /// Key set, where it is not on the issuer's own host.
    pub jwks_url: Option<Url>,
    /// The audience that its tokens must have.
    #[serde(default = "people_audience")]
    pub audience: String,
    /// Pinned signature algorithms.
    pub algorithms: Vec<Algorithm>,
    /// Roots for TLS to the provider; the system's where absent.
    pub ca_file: Option<PathBuf>,
    /// Networks that are no public ones in which the provider may be.
    #[serde(default)]
    pub private_networks: Vec<Network>,
    /// Claim with a name to show.
    pub username_claim: Option<String>,
    /// Whether each of its people may lease.
    #[serde(default)]
    pub researchers: bool,
    /// Which roles its claims give.
    #[serde(default)]
    pub roles: Vec<RoleRule>,
    /// Claim with the groups of the person.
    pub groups_claim: Option<ClaimPath>,
    /// Clock skew allowed.
    #[serde(default = "oidc_leeway")]
    pub leeway_seconds: u64,
}

/// Which roles the values of one claim give.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleRule {
    /// Where the claim is.
    pub claim: ClaimPath,
    /// Its values, byte for byte, and the role that each gives.
    pub values: BTreeMap<String, Role>,
}

/// ServiceAccount tokens of a cluster.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KubernetesConfig {
    /// Name of the issuer within Leasehold.
    pub name: String,
    /// The API server.
    #[serde(default = "api_server")]
    pub api_server: Url,
    /// The issuer that tokens must name; the API server's own answer where absent.
    pub issuer: Option<String>,
    /// Key set, where it is not the API server's.
    pub jwks_url: Option<Url>,
    /// Roots for TLS to the API server.
    #[serde(default = "account_ca")]
    pub ca_file: Option<PathBuf>,
    /// The broker's own token at the API server.
    #[serde(default = "account_token")]
    pub token_file: Option<PathBuf>,
    /// Pinned signature algorithms.
    #[serde(default = "rs256")]
    pub algorithms: Vec<Algorithm>,
    /// Whether the API server is asked if what people's tokens are bound to is still there.
    #[serde(default = "yes")]
    pub review_tokens: bool,
    /// Audience of people's tokens.
    #[serde(default = "people_audience")]
    pub people_audience: String,
    /// Audience of machines' tokens.
    #[serde(default = "machines_audience")]
    pub machines_audience: String,
    /// Clock skew allowed.
    #[serde(default = "kubernetes_leeway")]
    pub leeway_seconds: u64,
}

/// Tokens of a JupyterHub, which is asked whose they are.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HubConfig {
    /// Name of the issuer within Leasehold. With the name of `hub_issuer` its people are those for whom the hub vouches.
    pub name: String,
    /// The hub's API, such as `https://hub.example.org/hub/api`.
    pub api_url: Url,
    /// Whether tokens may be sent to it unencrypted, as inside Zero to JupyterHub (`http://hub:8081/hub/api`).
    #[serde(default)]
    pub plain_http: bool,
    /// Roots for TLS to the hub; the system's where absent.
    pub ca_file: Option<PathBuf>,
    /// Scopes that a token must have, each itself or without its filter: what it was made for.
    #[serde(default = "hub_scopes")]
    pub required_scopes: Vec<String>,
    /// Whether each of its people may lease.
    #[serde(default)]
    pub researchers: bool,
    /// Which roles the hub's model of a user gives; its groups are at `groups`.
    #[serde(default)]
    pub roles: Vec<RoleRule>,
    /// Member of that model with the groups.
    #[serde(default = "hub_groups")]
    pub groups_claim: ClaimPath,
    /// How long the hub's answer is kept, and so a revoked token is still good.
    #[serde(default = "hub_cache")]
    pub cache_seconds: u64,
}

/// Identities that an AWS Application Load Balancer adds to requests.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlbConfig {
    /// Name of the issuer within Leasehold.
    pub name: String,
    /// The balancer's region, whose endpoint has its keys.
    pub region: String,
    /// The balancer's ARN.
    pub signer: String,
    /// The provider's issuer URL, byte for byte, as the balancer is configured with it.
    pub issuer: String,
    /// The balancer's client id at the provider.
    pub client: String,
    /// Where the keys are, where it is not the region's usual endpoint (AWS `GovCloud`, China).
    pub keys_url: Option<Url>,
    /// Roots for TLS to that endpoint; the system's where absent.
    pub ca_file: Option<PathBuf>,
    /// Networks that are no public ones in which the endpoint may be.
    #[serde(default)]
    pub private_networks: Vec<Network>,
    /// Claim with a name to show.
    pub username_claim: Option<String>,
    /// Whether each of its people may lease.
    #[serde(default)]
    pub researchers: bool,
    /// Which roles the claims give.
    #[serde(default)]
    pub roles: Vec<RoleRule>,
    /// Claim with the groups of the person.
    pub groups_claim: Option<ClaimPath>,
    /// Clock skew allowed.
    #[serde(default = "oidc_leeway")]
    pub leeway_seconds: u64,
}

impl AlbConfig {
    /// Below which address the keys are, each under its id.
    #[must_use]
    pub fn keys_base(&self) -> String {
        self.keys_url.as_ref().map_or_else(
            || format!("https://public-keys.auth.elb.{}.amazonaws.com", self.region),
            Url::to_string,
        )
    }
}

const fn yes() -> bool {
    true
}
const fn hub_cache() -> u64 {
    30
}
fn hub_scopes() -> Vec<String> {
    vec!["access:services!service=leasehold".to_owned()]
}
fn hub_groups() -> ClaimPath {
    ClaimPath::member("groups")
}
const fn oidc_leeway() -> u64 {
    30
}
const fn kubernetes_leeway() -> u64 {
    10
}
fn people_audience() -> String {
    names::PEOPLE_AUDIENCE.to_owned()
}
fn machines_audience() -> String {
    names::MACHINES_AUDIENCE.to_owned()
}
fn rs256() -> Vec<Algorithm> {
    vec![Algorithm::RS256]
}
#[allow(clippy::unwrap_used)] // a constant address
fn api_server() -> Url {
    Url::parse("https://kubernetes.default.svc").unwrap()
}
#[allow(clippy::unnecessary_wraps)] // serde wants the field's type
fn account_ca() -> Option<PathBuf> {
    Some("/var/run/secrets/kubernetes.io/serviceaccount/ca.crt".into())
}
#[allow(clippy::unnecessary_wraps)] // serde wants the field's type
fn account_token() -> Option<PathBuf> {
    Some("/var/run/secrets/kubernetes.io/serviceaccount/token".into())
}
