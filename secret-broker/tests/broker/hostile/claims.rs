//! Whose it is, for whom and until when.

use serde_json::{Value, json};

use super::{Case, Forge};
use crate::issuer::now;
use crate::tokens::with;

impl Forge<'_> {
    pub(super) fn issuers(&self) -> Vec<Case> {
        let (provider, cluster) = (&self.fixture.provider, &self.fixture.cluster);
        vec![
            ("no issuer", "issuer_missing", self.claims(json!({"iss": null}))),
            (
                "a list of issuers",
                "issuer_malformed",
                self.claims(json!({"iss": [provider.name]})),
            ),
            (
                "an unknown issuer",
                "unknown_issuer",
                self.claims(json!({"iss": self.canary})),
            ),
            (
                "an issuer with a final slash",
                "unknown_issuer",
                self.claims(json!({"iss": format!("{}/", provider.name)})),
            ),
            (
                "an issuer in capitals",
                "unknown_issuer",
                self.claims(json!({"iss": provider.name.to_uppercase()})),
            ),
            (
                "an issuer with a space behind",
                "unknown_issuer",
                self.claims(json!({"iss": format!("{} ", provider.name)})),
            ),
            (
                "an issuer by its configured name",
                "unknown_issuer",
                self.claims(json!({"iss": "provider"})),
            ),
            (
                "another issuer's name, own key",
                "algorithm_not_pinned",
                self.claims(json!({"iss": cluster.name})),
            ),
            (
                "another issuer's key",
                "unknown_key",
                cluster.signer.sign(&self.good),
            ),
            (
                "another issuer's key under the right kid",
                "algorithm_not_the_keys",
                {
                    cluster
                        .signer
                        .sign_as(&json!({"alg": "RS256", "kid": self.signer.kid}), &self.good)
                },
            ),
        ]
    }

    pub(super) fn subjects_and_audiences(&self) -> Vec<Case> {
        vec![
            ("no subject", "subject_missing", self.claims(json!({"sub": null}))),
            (
                "an empty subject",
                "subject_malformed",
                self.claims(json!({"sub": ""})),
            ),
            (
                "an overlong subject",
                "subject_malformed",
                self.claims(json!({"sub": "s".repeat(600)})),
            ),
            (
                "a subject with a null byte",
                "subject_malformed",
                self.claims(json!({"sub": "steward\u{0}"})),
            ),
            (
                "a subject with a line break",
                "subject_malformed",
                self.claims(json!({"sub": "steward\nadmin"})),
            ),
            (
                "a list of subjects",
                "subject_malformed",
                self.claims(json!({"sub": ["steward"]})),
            ),
            (
                "a number as subject",
                "subject_malformed",
                self.claims(json!({"sub": 1})),
            ),
            (
                "no audience",
                "audience_missing",
                self.claims(json!({"aud": null})),
            ),
            (
                "an empty audience",
                "wrong_audience",
                self.claims(json!({"aud": ""})),
            ),
            (
                "an empty list of audiences",
                "audience_malformed",
                self.claims(json!({"aud": []})),
            ),
            (
                "an audience that is an object",
                "audience_malformed",
                self.claims(json!({"aud": {"leasehold": true}})),
            ),
            (
                "an audience beside a number",
                "audience_malformed",
                self.claims(json!({"aud": ["leasehold", 1]})),
            ),
            (
                "another audience",
                "wrong_audience",
                self.claims(json!({"aud": "somebody-else"})),
            ),
            (
                "other audiences",
                "wrong_audience",
                self.claims(json!({"aud": ["account", "leasehold-broker"]})),
            ),
            (
                "an audience in another case",
                "wrong_audience",
                self.claims(json!({"aud": "Leasehold"})),
            ),
            (
                "an audience that begins alike",
                "wrong_audience",
                self.claims(json!({"aud": "leasehold.evil.example"})),
            ),
        ]
    }

    pub(super) fn times(&self) -> Vec<Case> {
        let soon = now() + 600;
        vec![
            ("no expiry", "expiry_missing", self.claims(json!({"exp": null}))),
            ("expired", "expired", self.claims(json!({"exp": now() - 120}))),
            ("expired in 1970", "expired", self.claims(json!({"exp": 0}))),
            (
                "expiry below zero",
                "expiry_malformed",
                self.claims(json!({"exp": -soon})),
            ),
            (
                "expiry with a fraction",
                "expiry_malformed",
                self.claims(json!({"exp": 0.5 + soon as f64})),
            ),
            (
                "expiry is text",
                "expiry_malformed",
                self.claims(json!({"exp": soon.to_string()})),
            ),
            (
                "expiry is a list",
                "expiry_malformed",
                self.claims(json!({"exp": [soon]})),
            ),
            (
                "expiry in milliseconds",
                "expiry_malformed",
                self.claims(json!({"exp": soon * 1_000})),
            ),
            (
                "the largest expiry",
                "expiry_malformed",
                self.claims(json!({"exp": u64::MAX})),
            ),
            (
                "expiry beyond all numbers",
                "not_json",
                self.prefixed(r#""exp":1e999"#),
            ),
            (
                "not before tomorrow",
                "not_yet_valid",
                self.claims(json!({"nbf": now() + 3_600})),
            ),
            (
                "not before text",
                "time_malformed",
                self.claims(json!({"nbf": "never"})),
            ),
            (
                "issued tomorrow",
                "issued_in_the_future",
                self.claims(json!({"iat": now() + 3_600})),
            ),
            (
                "issued below zero",
                "time_malformed",
                self.claims(json!({"iat": -1})),
            ),
        ]
    }

    pub(super) fn purposes(&self) -> Vec<Case> {
        let logout = json!({"events": {"http://schemas.openid.net/event/backchannel-logout": {}}});
        vec![
            (
                "a logout token of an older provider",
                "event_token",
                self.claims(logout),
            ),
            (
                "bound to a key",
                "sender_constrained",
                self.claims(json!({"cnf": {"jkt": "x"}})),
            ),
        ]
    }

    pub(super) fn accounts(&self) -> Vec<Case> {
        let cluster = &self.fixture.cluster;
        let own = cluster.account("hub", "nb-alice", "uid-1", "leasehold");
        let other = |changes: Value| cluster.sign(&with(own.clone(), changes));
        let bound = |namespace: &str, name: &str| json!({"namespace": namespace, "serviceaccount": {"name": name, "uid": "uid-1"}});
        vec![
            (
                "a machine's audience",
                "wrong_audience",
                other(json!({"aud": ["leasehold-broker"]})),
            ),
            (
                "the API server's audience",
                "wrong_audience",
                other(json!({"aud": ["https://kubernetes.default.svc"]})),
            ),
            (
                "an account's token for two audiences",
                "audience_not_alone",
                other(json!({"aud": ["leasehold", "leasehold-broker"]})),
            ),
            (
                "an account without bound object",
                "bound_object_missing",
                other(json!({"kubernetes.io": null})),
            ),
            (
                "an account without uid",
                "bound_object_missing",
                other(json!({"kubernetes.io": {"namespace": "hub", "serviceaccount": {"name": "nb-alice"}}})),
            ),
            (
                "a bound object that is text",
                "bound_object_missing",
                other(json!({"kubernetes.io": "nb-alice"})),
            ),
            (
                "sub is another account's",
                "bound_object_mismatch",
                other(json!({"sub": "system:serviceaccount:hub:nb-bob"})),
            ),
            (
                "an account of another namespace",
                "bound_object_mismatch",
                other(json!({"kubernetes.io": bound("elsewhere", "nb-alice")})),
            ),
            (
                "a namespace that swallows the colon",
                "bound_object_mismatch",
                other(json!({"kubernetes.io": bound("hub:nb", "alice")})),
            ),
            (
                "an account's name signed by the provider",
                "algorithm_not_pinned",
                self.signer.sign(&own),
            ),
        ]
    }
}
