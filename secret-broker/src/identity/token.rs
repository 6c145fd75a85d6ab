//! The bytes of a signed token, read strictly before anything of it is believed.
//!
//! One text means one thing: no second encoding of the same bytes, no member twice, no header that changes what is signed. The header may
//! name an algorithm and a key; everything by which it would bring or fetch one is refused, not ignored.

use base64::DecodeError;
use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Map, Value};

use super::refusal::TokenError;
use crate::strict_json::{self, Fault};

const LONGEST_TOKEN: usize = 16 * 1024;
const LONGEST_HEADER: usize = 4 * 1024;
const LONGEST_KEY_ID: usize = 256;

/// Members of the header that no token of an issuer here has, and what each is.
const REFUSED_MEMBERS: &[(&str, TokenError)] = &[
    ("enc", TokenError::Encrypted),
    ("crit", TokenError::Critical),
    ("b64", TokenError::Unencoded),
    ("zip", TokenError::Compressed),
    ("cty", TokenError::Nested),
    ("jwk", TokenError::KeyInToken),
    ("x5c", TokenError::KeyInToken),
    ("jku", TokenError::KeyAddressInToken),
    ("x5u", TokenError::KeyAddressInToken),
];

/// How the parts are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// As RFC 7515 says.
    Plain,
    /// With padding, as AWS's load balancers do.
    Padded,
}

/// A token's parts, none of which is believed yet.
#[derive(Debug)]
pub struct Unverified<'a> {
    /// All of it.
    pub text: &'a str,
    /// `alg`.
    pub algorithm: Algorithm,
    /// `kid`.
    pub key_id: String,
    /// The header's members.
    pub header: Map<String, Value>,
    /// The claims.
    pub claims: Map<String, Value>,
    signed: &'a str,
    signature: Vec<u8>,
}

impl<'a> Unverified<'a> {
    /// Reads a compact JWS.
    ///
    /// # Errors
    /// [`TokenError`], of its bytes, its header or its signature's form.
    pub fn parse(token: &'a str, encoding: Encoding) -> Result<Self, TokenError> {
        if token.len() > LONGEST_TOKEN {
            return Err(TokenError::TooLong);
        }
        let mut parts = token.split('.');
        let (Some(header_text), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(match token.bytes().filter(|b| *b == b'.').count() {
                4 => TokenError::Encrypted,
                _ => TokenError::Parts,
            });
        };
        if header_text.len() > LONGEST_HEADER {
            return Err(TokenError::HeaderTooLong);
        }
        let header = object(header_text, encoding)?;
        let (algorithm, key_id) = read_header(&header)?;
        let claims = object(payload, encoding)?;
        if signature.is_empty() {
            return Err(TokenError::SignatureMissing);
        }
        let signature = bytes(signature, encoding)?;
        if !is_signature_of(algorithm, &signature) {
            return Err(TokenError::SignatureMalformed);
        }
        let signed = token.rsplit_once('.').map_or(token, |(signed, _)| signed);
        Ok(Self {
            text: token,
            algorithm,
            key_id,
            header,
            claims,
            signed,
            signature,
        })
    }

    /// `iss` of the claims: picks the issuer that judges the token.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn issuer(&self) -> Result<&str, TokenError> {
        match self.claims.get("iss") {
            None => Err(TokenError::IssuerMissing),
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(TokenError::IssuerMalformed),
        }
    }

    /// Checks that the key's holder signed exactly this text.
    ///
    /// # Errors
    /// [`TokenError::Signature`].
    pub fn check_signature(&self, key: &DecodingKey) -> Result<(), TokenError> {
        let signature = URL_SAFE_NO_PAD.encode(&self.signature);
        match jsonwebtoken::crypto::verify(&signature, self.signed.as_bytes(), key, self.algorithm) {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(TokenError::Signature),
        }
    }
}

fn read_header(header: &Map<String, Value>) -> Result<(Algorithm, String), TokenError> {
    let name = header
        .get("alg")
        .and_then(Value::as_str)
        .ok_or(TokenError::AlgorithmMissing)?;
    if name.eq_ignore_ascii_case("none") {
        return Err(TokenError::AlgorithmNone);
    }
    for (member, refused) in REFUSED_MEMBERS {
        if header.contains_key(*member) {
            return Err(*refused);
        }
    }
    if name
        .get(..2)
        .is_some_and(|start| start.eq_ignore_ascii_case("HS"))
    {
        return Err(TokenError::AlgorithmSymmetric);
    }
    let algorithm = name.parse().map_err(|_| TokenError::AlgorithmUnknown)?;
    if !header.get("typ").is_none_or(is_identity_type) {
        return Err(TokenError::Type);
    }
    let key_id = match header.get("kid") {
        None => return Err(TokenError::KeyIdMissing),
        Some(Value::String(id))
            if !id.is_empty() && id.len() <= LONGEST_KEY_ID && id.bytes().all(|b| b.is_ascii_graphic()) =>
        {
            id.clone()
        }
        Some(_) => return Err(TokenError::KeyIdMalformed),
    };
    Ok((algorithm, key_id))
}

/// `JWT`, or an access token of RFC 9068. Others (logout, proofs of possession, security events) are for something else (RFC 8725 §3.11).
fn is_identity_type(kind: &Value) -> bool {
    kind.as_str().is_some_and(|kind| {
        ["JWT", "at+jwt", "application/at+jwt"]
            .iter()
            .any(|known| kind.eq_ignore_ascii_case(known))
    })
}

/// Whether bytes can be a signature: of elliptic curves two numbers of fixed length, neither of them zero. How long RSA's is says the key.
fn is_signature_of(algorithm: Algorithm, signature: &[u8]) -> bool {
    let numbers = match algorithm {
        Algorithm::ES256 => 32,
        Algorithm::ES384 => 48,
        Algorithm::EdDSA => return signature.len() == 64,
        _ => return true,
    };
    signature.len() == 2 * numbers && signature.chunks(numbers).all(|n| n.iter().any(|byte| *byte != 0))
}

fn object(part: &str, encoding: Encoding) -> Result<Map<String, Value>, TokenError> {
    let bytes = bytes(part, encoding)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| TokenError::NotUtf8)?;
    strict_json::check(text.as_bytes()).map_err(|error| match strict_json::fault(&error) {
        Fault::Duplicate => TokenError::Duplicate,
        Fault::TooDeep => TokenError::TooDeep,
        Fault::Syntax => TokenError::NotJson,
    })?;
    match serde_json::from_str(text) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err(TokenError::NotAnObject),
        Err(_) => Err(TokenError::NotJson),
    }
}

fn bytes(part: &str, encoding: Encoding) -> Result<Vec<u8>, TokenError> {
    let decoded = match encoding {
        Encoding::Plain => URL_SAFE_NO_PAD.decode(part),
        Encoding::Padded => URL_SAFE.decode(part),
    };
    decoded.map_err(|error| match error {
        DecodeError::InvalidLastSymbol(..) => TokenError::Ambiguous,
        DecodeError::InvalidPadding | DecodeError::InvalidByte(_, b'=') => TokenError::Padded,
        _ => TokenError::Encoding,
    })
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

    fn refusal(token: &str) -> TokenError {
        Unverified::parse(token, Encoding::Plain).unwrap_err()
    }

    #[test]
    fn only_a_plain_signed_token_is_read() {
        let iss = r#"{"iss":"https://x"}"#;
        let signature = URL_SAFE_NO_PAD.encode([1; 64]);
        let text = token(r#"{"alg":"ES256","kid":"k"}"#, iss, &signature);
        let good = Unverified::parse(&text, Encoding::Plain).unwrap();
        assert_eq!((good.issuer().unwrap(), good.key_id.as_str()), ("https://x", "k"));
        for (header, expected) in [
            (r#"{"alg":"none","kid":"k"}"#, TokenError::AlgorithmNone),
            (r#"{"alg":"hs256","kid":"k"}"#, TokenError::AlgorithmSymmetric),
            (r#"{"alg":"ES256K","kid":"k"}"#, TokenError::AlgorithmUnknown),
            (r#"{"alg":7,"kid":"k"}"#, TokenError::AlgorithmMissing),
            (r#"{"alg":"ES256"}"#, TokenError::KeyIdMissing),
            (r#"{"alg":"ES256","kid":{}}"#, TokenError::KeyIdMalformed),
            (
                r#"{"alg":"ES256","kid":"k","crit":["b64"]}"#,
                TokenError::Critical,
            ),
            (
                r#"{"alg":"ES256","kid":"k","typ":"logout+jwt"}"#,
                TokenError::Type,
            ),
            (r#"{"alg":"ES256","alg":"none","kid":"k"}"#, TokenError::Duplicate),
        ] {
            assert_eq!(refusal(&token(header, iss, &signature)), expected, "{header}");
        }
        for text in ["", ".", "..", "a.b", "a.b.c.d", "%.%.%", &"a".repeat(20_000)] {
            assert!(Unverified::parse(text, Encoding::Plain).is_err());
        }
    }

    #[test]
    fn padding_is_read_where_balancers_write_it_and_nowhere_else() {
        let part = |text: &str| URL_SAFE.encode(text);
        let text = format!(
            "{}.{}.{}",
            part(r#"{"alg":"ES256","kid":"k" }"#),
            part(r#"{"iss":"https://x"}"#),
            URL_SAFE.encode([1; 64])
        );
        assert!(text.contains('='));
        assert_eq!(refusal(&text), TokenError::Padded);
        assert!(Unverified::parse(&text, Encoding::Padded).is_ok());
        assert_eq!(
            Unverified::parse(&text.replace('=', ""), Encoding::Padded).unwrap_err(),
            TokenError::Padded
        );
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,200}", header in ".{0,80}", payload in ".{0,80}") {
            for encoding in [Encoding::Plain, Encoding::Padded] {
                let _refused = Unverified::parse(&text, encoding);
                let _refused = Unverified::parse(&token(&header, &payload, "AA"), encoding);
            }
        }
    }
}
