//! What is wrong with the bytes, the header or the signature.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use serde_json::json;

use super::{Case, Forge};
use crate::issuer::Signer;
use crate::tokens::with;

impl Forge<'_> {
    pub(super) fn bytes(&self) -> Vec<Case> {
        let token = self.signer.sign(&self.good);
        let parts: Vec<&str> = token.split('.').collect();
        let [header, payload, signature] = parts[..] else {
            unreachable!()
        };
        let padded = |text: &str| URL_SAFE.encode(URL_SAFE_NO_PAD.decode(text).unwrap());
        // 64 bytes end in a character of which four bits count.
        let ambiguous = {
            let (rest, last) = signature.split_at(signature.len() - 1);
            let next = char::from(last.as_bytes()[0] + 1);
            format!("{header}.{payload}.{rest}{next}")
        };
        let signed = |payload: &[u8]| {
            self.signer
                .sign_bytes(self.header(json!({})).to_string().as_bytes(), payload)
        };
        let depth = 80;
        let deep = format!("\"x\":{}{}", "[".repeat(depth), "]".repeat(depth));
        vec![
            ("no token at all", "not_three_parts", "hello".to_owned()),
            ("two parts", "not_three_parts", format!("{header}.{payload}")),
            ("four parts", "not_three_parts", format!("{token}.x")),
            ("six parts", "not_three_parts", format!("{token}.x.y.z")),
            ("five parts, as a JWE", "encrypted_token", format!("{token}.x.y")),
            (
                "a JWE's header",
                "encrypted_token",
                self.headed(json!({"enc": "A256GCM"})),
            ),
            ("only dots", "not_json", "..".to_owned()),
            (
                "huge",
                "token_too_long",
                self.claims(json!({"padding": "x".repeat(30_000)})),
            ),
            (
                "a huge header",
                "header_too_long",
                self.headed(json!({"padding": "x".repeat(5_000)})),
            ),
            (
                "standard base64",
                "not_base64url",
                format!(
                    "{header}.{}.{signature}",
                    STANDARD.encode("{\"?>\":\"~~~\"}  ").replace('=', "")
                ),
            ),
            ("a space in front", "not_base64url", format!(" {token}")),
            (
                "a tab inside",
                "not_base64url",
                format!("{header}.\t{payload}.{signature}"),
            ),
            (
                "padded base64",
                "padded_base64",
                format!("{header}.{payload}.{}", padded(signature)),
            ),
            ("a padded payload", "padded_base64", {
                let claims = with(self.good.clone(), json!({"pad": "x"})).to_string();
                let claims = if claims.len().is_multiple_of(3) {
                    format!("{claims} ")
                } else {
                    claims
                };
                format!("{header}.{}.{signature}", URL_SAFE.encode(claims))
            }),
            (
                "a second spelling of the signature",
                "ambiguous_base64",
                ambiguous,
            ),
            (
                "payload is no UTF-8",
                "not_utf8",
                signed(b"{\"iss\":\"\xff\xfe\"}"),
            ),
            ("payload is a list", "not_an_object", signed(b"[1,2]")),
            ("payload is a text", "not_an_object", signed(b"\"steward\"")),
            (
                "payload is no JSON",
                "not_json",
                signed(b"iss=provider&sub=steward"),
            ),
            ("payload is another token", "not_json", signed(token.as_bytes())),
            (
                "two documents",
                "not_json",
                signed(format!("{0} {0}", self.good).as_bytes()),
            ),
            ("nested deep", "nested_too_deep", self.prefixed(&deep)),
            (
                "nested without end",
                "nested_too_deep",
                signed("[".repeat(8_000).as_bytes()),
            ),
            (
                "sub twice",
                "duplicate_member",
                self.prefixed(r#""sub":"steward""#),
            ),
            (
                "aud twice",
                "duplicate_member",
                self.prefixed(r#""aud":"leasehold""#),
            ),
            ("exp twice", "duplicate_member", self.prefixed(r#""exp":1"#)),
            (
                "sub twice, once escaped",
                "duplicate_member",
                self.prefixed(r#""\u0073ub":"steward""#),
            ),
            (
                "a member twice, far inside",
                "duplicate_member",
                self.prefixed(r#""realm_access":{"roles":[],"roles":["steward"]}"#),
            ),
            (
                "alg twice",
                "duplicate_member",
                self.signer.sign_text(
                    r#"{"alg":"ES256","kid":"provider-1","\u0061lg":"none"}"#,
                    &self.good.to_string(),
                ),
            ),
        ]
    }

    pub(super) fn headers(&self) -> Vec<Case> {
        vec![
            (
                "a critical extension",
                "critical_header",
                self.headed(json!({"crit": ["exp"]})),
            ),
            (
                "an empty list of critical extensions",
                "critical_header",
                self.headed(json!({"crit": []})),
            ),
            (
                "an unencoded payload",
                "unencoded_payload",
                self.headed(json!({"b64": false})),
            ),
            (
                "an unencoded payload that must be understood",
                "critical_header",
                self.headed(json!({"b64": false, "crit": ["b64"]})),
            ),
            (
                "a compressed payload",
                "compressed_payload",
                self.headed(json!({"zip": "DEF"})),
            ),
            (
                "a nested token",
                "nested_token",
                self.headed(json!({"cty": "JWT"})),
            ),
            (
                "a proof of possession",
                "token_type",
                self.headed(json!({"typ": "dpop+jwt"})),
            ),
            (
                "a logout token",
                "token_type",
                self.headed(json!({"typ": "logout+jwt"})),
            ),
            (
                "a type that is no text",
                "token_type",
                self.headed(json!({"typ": 1})),
            ),
        ]
    }

    pub(super) fn signatures(&self) -> Vec<Case> {
        let good = self.signer.sign(&self.good);
        let (_, signature) = good.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let (r, s) = signature.split_at(32);
        // The order of P-256: a number that is zero there.
        let order = hex::decode("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551").unwrap();
        let rs256 = Signer::rs256("provider-rsa");
        let mut flipped = signature.clone();
        flipped[40] ^= 1;
        let payload = URL_SAFE_NO_PAD.encode(self.fixture.provider.person("somebody-else").to_string());
        let parts: Vec<&str> = good.split('.').collect();
        vec![
            ("no signature", "signature_missing", self.unsigned("ES256", "")),
            ("r and s are zero", "signature_malformed", self.resigned(&[0; 64])),
            (
                "r is zero",
                "signature_malformed",
                self.resigned(&[&[0; 32], s].concat()),
            ),
            (
                "s is zero",
                "signature_malformed",
                self.resigned(&[r, &[0; 32]].concat()),
            ),
            (
                "r and s are the order",
                "bad_signature",
                self.resigned(&[order.clone(), order].concat()),
            ),
            (
                "cut short",
                "signature_malformed",
                self.resigned(&signature[..60]),
            ),
            (
                "as DER, which other formats use",
                "signature_malformed",
                self.resigned(&[&[0x30, 0x44, 2, 32], r, &[2, 32], s].concat()),
            ),
            ("one bit changed", "bad_signature", self.resigned(&flipped)),
            (
                "somebody else's payload",
                "bad_signature",
                format!("{}.{payload}.{}", parts[0], parts[2]),
            ),
            (
                "signed by a stranger under our kid",
                "bad_signature",
                self.stranger.sign(&self.good),
            ),
            ("an RSA signature cut short", "bad_signature", {
                let token = rs256.sign(&self.good);
                let (message, signature) = token.rsplit_once('.').unwrap();
                let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
                format!("{message}.{}", URL_SAFE_NO_PAD.encode(&signature[..128]))
            }),
        ]
    }
}
