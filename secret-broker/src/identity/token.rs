//! The bytes of a token: read strictly before anything is verified, refused with a reason that only the log sees.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use jsonwebtoken::errors::ErrorKind;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{ServiceAccount, Subject};
use crate::strict_json;

const LONGEST_TOKEN: usize = 16 * 1024;

/// A caller whose token was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Who.
    pub subject: Subject,
    /// A name to show; decides nothing.
    pub username: Option<String>,
    /// The ServiceAccount of a Kubernetes token.
    pub account: Option<ServiceAccount>,
    /// Whether the issuer's people may lease.
    pub researcher: bool,
}

/// Why a token was refused. For the log: callers get the same answer for each, but for [`TokenError::KeysUnavailable`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not three base64url parts of JSON, too long, or with duplicate keys.
    #[error("malformed")]
    Malformed,
    /// `alg` is none of the issuer's, or does not fit the key.
    #[error("algorithm_not_allowed")]
    Algorithm,
    /// The header marks an extension as critical.
    #[error("critical_header")]
    Critical,
    /// No configured issuer has this `iss`.
    #[error("unknown_issuer")]
    UnknownIssuer,
    /// The issuer has no such key.
    #[error("unknown_key")]
    UnknownKey,
    /// The issuer's keys could not be fetched yet.
    #[error("keys_unavailable")]
    KeysUnavailable,
    /// The signature is not the key's.
    #[error("bad_signature")]
    Signature,
    /// `exp` is past.
    #[error("expired")]
    Expired,
    /// `nbf` or `iat` is to come.
    #[error("not_yet_valid")]
    NotYetValid,
    /// Made for somebody else.
    #[error("wrong_audience")]
    Audience,
    /// A claim is missing or not what it must be.
    #[error("bad_claims")]
    Claims,
}

impl TokenError {
    pub(super) fn from_jwt(kind: &ErrorKind) -> Self {
        match kind {
            ErrorKind::ExpiredSignature => Self::Expired,
            ErrorKind::ImmatureSignature => Self::NotYetValid,
            ErrorKind::InvalidAudience => Self::Audience,
            ErrorKind::InvalidIssuer => Self::UnknownIssuer,
            ErrorKind::InvalidAlgorithm | ErrorKind::UnsupportedAlgorithm => Self::Algorithm,
            ErrorKind::MissingRequiredClaim(_) | ErrorKind::InvalidClaimFormat(_) | ErrorKind::Json(_) => {
                Self::Claims
            }
            ErrorKind::InvalidToken | ErrorKind::Base64(_) | ErrorKind::Utf8(_) => Self::Malformed,
            _ => Self::Signature,
        }
    }
}

/// What a token says before anything of it is believed: only enough to pick the configured issuer and its key.
#[derive(Debug)]
pub struct Unverified {
    /// `iss`.
    pub issuer: String,
    /// `alg`.
    pub algorithm: Algorithm,
    /// `kid`.
    pub key_id: String,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
}

#[derive(Deserialize)]
struct Issued {
    iss: String,
}

impl Unverified {
    /// Reads a compact JWS.
    ///
    /// # Errors
    /// [`TokenError::Malformed`], [`TokenError::Algorithm`] (which covers `none`) or [`TokenError::Critical`].
    pub fn parse(token: &str) -> Result<Self, TokenError> {
        if token.len() > LONGEST_TOKEN {
            return Err(TokenError::Malformed);
        }
        let mut parts = token.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenError::Malformed);
        };
        let header: Header = part(header)?;
        let issued: Issued = part(payload)?;
        if header.crit.is_some() {
            return Err(TokenError::Critical);
        }
        let algorithm: Algorithm = header.alg.parse().map_err(|_| TokenError::Algorithm)?;
        if signature.is_empty() {
            return Err(TokenError::Signature);
        }
        let key_id = header.kid.ok_or(TokenError::UnknownKey)?;
        Ok(Self {
            issuer: issued.iss,
            algorithm,
            key_id,
        })
    }
}

fn part<T: for<'de> Deserialize<'de>>(encoded: &str) -> Result<T, TokenError> {
    let bytes = URL_SAFE_NO_PAD
        .decode(encoded)
        .map_err(|_| TokenError::Malformed)?;
    strict_json::check(&bytes).map_err(|_| TokenError::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| TokenError::Malformed)
}

/// The claims of a token whose signature was verified.
#[derive(Debug, Deserialize)]
pub struct Claims {
    /// Immutable name of the person or account.
    pub sub: String,
    aud: Value,
    iat: Option<f64>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

impl Claims {
    pub(super) fn check_issued_at(&self, leeway_seconds: u64) -> Result<(), TokenError> {
        #[allow(clippy::cast_precision_loss)] // seconds since 1970 fit
        let latest = jsonwebtoken::get_current_timestamp().saturating_add(leeway_seconds) as f64;
        if self.iat.is_some_and(|iat| iat > latest) {
            Err(TokenError::NotYetValid)
        } else {
            Ok(())
        }
    }

    pub(super) fn audiences(&self) -> Vec<&str> {
        match &self.aud {
            Value::String(one) => vec![one],
            Value::Array(several) => several.iter().map(|a| a.as_str().unwrap_or_default()).collect(),
            _ => Vec::new(),
        }
    }

    pub(super) fn text(&self, claim: &str) -> Option<String> {
        let text = self.others.get(claim)?.as_str()?;
        (!text.is_empty() && text.len() <= 256).then(|| text.to_owned())
    }

    /// The bound account: `kubernetes.io: {namespace, serviceaccount: {name, uid}}`.
    pub(super) fn service_account(&self) -> Option<ServiceAccount> {
        let bound = self.others.get("kubernetes.io")?;
        let text = |value: Option<&Value>| value?.as_str().filter(|t| !t.is_empty()).map(str::to_owned);
        let account = bound.get("serviceaccount")?;
        Some(ServiceAccount {
            namespace: text(bound.get("namespace"))?,
            name: text(account.get("name"))?,
            uid: text(account.get("uid"))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str, payload: &str, signature: &str) -> String {
        format!(
            "{}.{}.{signature}",
            URL_SAFE_NO_PAD.encode(header),
            URL_SAFE_NO_PAD.encode(payload)
        )
    }

    #[test]
    fn only_a_plain_signed_token_is_read() {
        let iss = r#"{"iss":"https://x"}"#;
        let good = Unverified::parse(&token(r#"{"alg":"ES256","kid":"k"}"#, iss, "AA")).unwrap();
        assert_eq!((good.issuer.as_str(), good.key_id.as_str()), ("https://x", "k"));
        for (header, payload, signature, expected) in [
            (r#"{"alg":"none","kid":"k"}"#, iss, "", TokenError::Algorithm),
            (r#"{"alg":"None","kid":"k"}"#, iss, "AA", TokenError::Algorithm),
            (r#"{"alg":"ES256","kid":"k"}"#, iss, "", TokenError::Signature),
            (r#"{"alg":"ES256"}"#, iss, "AA", TokenError::UnknownKey),
            (
                r#"{"alg":"ES256","kid":"k","crit":["b64"]}"#,
                iss,
                "AA",
                TokenError::Critical,
            ),
            (
                r#"{"alg":"ES256","alg":"none","kid":"k"}"#,
                iss,
                "AA",
                TokenError::Malformed,
            ),
            (
                r#"{"alg":"ES256","kid":"k"}"#,
                r#"{"iss":"a","iss":"b"}"#,
                "AA",
                TokenError::Malformed,
            ),
            (
                r#"{"alg":"ES256","kid":"k"}"#,
                r#"{"iss":["https://x"]}"#,
                "AA",
                TokenError::Malformed,
            ),
            (r#"{"alg":"ES256","kid":"k"}"#, "{}", "AA", TokenError::Malformed),
            (r#"{"alg":"ES256","kid":{}}"#, iss, "AA", TokenError::Malformed),
        ] {
            assert_eq!(
                Unverified::parse(&token(header, payload, signature)).unwrap_err(),
                expected,
                "{header}"
            );
        }
        for text in ["", ".", "..", "a.b", "a.b.c.d", "%.%.%", &"a".repeat(20_000)] {
            assert!(Unverified::parse(text).is_err());
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,200}", header in ".{0,80}", payload in ".{0,80}") {
            let _refused = Unverified::parse(&text);
            let _refused = Unverified::parse(&token(&header, &payload, "AA"));
        }
    }
}
