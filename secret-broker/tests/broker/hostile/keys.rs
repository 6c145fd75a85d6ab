//! Which algorithm, and with which key.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{Case, Forge};
use crate::issuer::Signer;

impl Forge<'_> {
    pub(super) fn algorithms(&self) -> Vec<Case> {
        let der = rsa_public_key();
        let pem = format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
            STANDARD
                .encode(&der)
                .as_bytes()
                .chunks(64)
                .map(|line| std::str::from_utf8(line).unwrap())
                .collect::<Vec<_>>()
                .join("\n")
        );
        let of_rsa = || json!({"alg": "HS256", "kid": "provider-rsa"});
        let coordinate = |name: &str| {
            URL_SAFE_NO_PAD
                .decode(self.signer.jwk[name].as_str().unwrap())
                .unwrap()
        };
        let point = [vec![4], coordinate("x"), coordinate("y")].concat();
        let rs256 = Signer::rs256("provider-rsa");
        vec![
            ("alg none", "algorithm_none", self.unsigned("none", "")),
            ("alg None", "algorithm_none", self.unsigned("None", "")),
            ("alg nOnE", "algorithm_none", self.unsigned("nOnE", "")),
            (
                "alg NONE with a signature",
                "algorithm_none",
                self.headed(json!({"alg": "NONE"})),
            ),
            (
                "HS256 with the RSA public key, PEM",
                "algorithm_symmetric",
                self.hmac(pem.as_bytes(), of_rsa()),
            ),
            (
                "HS256 with the RSA public key, PEM without its last newline",
                "algorithm_symmetric",
                self.hmac(pem.trim_end().as_bytes(), of_rsa()),
            ),
            (
                "HS256 with the RSA public key, DER",
                "algorithm_symmetric",
                self.hmac(&der, of_rsa()),
            ),
            (
                "HS256 with the EC point",
                "algorithm_symmetric",
                self.hmac(&point, json!({"alg": "HS256"})),
            ),
            (
                "HS256 with the JWK",
                "algorithm_symmetric",
                self.hmac(self.signer.jwk.to_string().as_bytes(), json!({"alg": "HS256"})),
            ),
            (
                "HS256 with nothing",
                "algorithm_symmetric",
                self.hmac(b"", json!({"alg": "HS256"})),
            ),
            (
                "hs256, lower case",
                "algorithm_symmetric",
                self.hmac(b"", json!({"alg": "hs256"})),
            ),
            (
                "es256, lower case",
                "algorithm_unknown",
                self.headed(json!({"alg": "es256"})),
            ),
            (
                "an algorithm with a space",
                "algorithm_unknown",
                self.headed(json!({"alg": "ES256 "})),
            ),
            (
                "an algorithm of another curve",
                "algorithm_unknown",
                self.headed(json!({"alg": "ES256K"})),
            ),
            (
                "no algorithm",
                "algorithm_missing",
                self.headed(json!({"alg": null})),
            ),
            (
                "a list of algorithms",
                "algorithm_missing",
                self.headed(json!({"alg": ["ES256"]})),
            ),
            (
                "RS256 says the header, the key is EC",
                "algorithm_not_the_keys",
                self.headed(json!({"alg": "RS256"})),
            ),
            (
                "ES256 says the header, the key is RSA",
                "algorithm_not_the_keys",
                self.signer
                    .sign_as(&self.header(json!({"kid": "provider-rsa"})), &self.good),
            ),
            (
                "RS256 of an RSA key that is for RS256, said to be PS256",
                "algorithm_not_pinned",
                { rs256.sign_as(&json!({"alg": "PS256", "kid": "provider-rsa"}), &self.good) },
            ),
            (
                "an algorithm that this issuer does not use",
                "algorithm_not_pinned",
                self.headed(json!({"alg": "EdDSA"})),
            ),
        ]
    }

    pub(super) fn keys(&self) -> Vec<Case> {
        let jwk = &self.stranger.jwk;
        let canary = |path: &str| format!("{}/{path}", self.canary);
        let strange = |changes: Value| self.stranger.sign_as(&self.header(changes), &self.good);
        vec![
            ("no kid", "key_id_missing", self.headed(json!({"kid": null}))),
            (
                "an unknown kid",
                "unknown_key",
                self.headed(json!({"kid": "provider-2"})),
            ),
            (
                "kid is a path",
                "unknown_key",
                self.headed(json!({"kid": "../../../../dev/null"})),
            ),
            (
                "kid is an address",
                "unknown_key",
                self.headed(json!({"kid": canary("key.pem")})),
            ),
            (
                "kid is SQL",
                "key_id_malformed",
                self.headed(json!({"kid": "x' UNION SELECT 'key';--"})),
            ),
            (
                "kid is a command",
                "key_id_malformed",
                self.headed(json!({"kid": "| curl evil.example"})),
            ),
            (
                "kid is empty",
                "key_id_malformed",
                self.headed(json!({"kid": ""})),
            ),
            (
                "kid is very long",
                "key_id_malformed",
                self.headed(json!({"kid": "k".repeat(1_000)})),
            ),
            (
                "kid with a null byte",
                "key_id_malformed",
                self.headed(json!({"kid": "provider-1\u{0}"})),
            ),
            (
                "kid is an object",
                "key_id_malformed",
                self.headed(json!({"kid": {"$ne": null}})),
            ),
            (
                "brings its key as jwk",
                "key_in_token",
                strange(json!({"jwk": jwk})),
            ),
            (
                "brings its key as jwk, in place of a kid",
                "key_in_token",
                strange(json!({"jwk": jwk, "kid": null})),
            ),
            (
                "brings its key as x5c",
                "key_in_token",
                strange(json!({"x5c": ["MIIB"]})),
            ),
            (
                "says where its key is, jku",
                "key_address_in_token",
                strange(json!({"jku": canary("jwks")})),
            ),
            (
                "says where its key is, x5u",
                "key_address_in_token",
                strange(json!({"x5u": canary("chain.pem")})),
            ),
            (
                "jku of the issuer's own host",
                "key_address_in_token",
                self.headed(json!({"jku": format!("{}/openid/v1/jwks", self.fixture.provider.url)})),
            ),
        ]
    }
}

/// The RSA issuer's public key as a DER SubjectPublicKeyInfo, which is what libraries hand to an HMAC by mistake.
fn rsa_public_key() -> Vec<u8> {
    let jwk = Signer::rs256("any").jwk;
    let number = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap()).unwrap();
    let tagged = |tag: u8, content: &[u8]| {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        let head = match content.len() {
            0..128 => vec![tag, length[1]],
            128..256 => vec![tag, 0x81, length[1]],
            _ => vec![tag, 0x82, length[0], length[1]],
        };
        [head.as_slice(), content].concat()
    };
    let unsigned = |name: &str| tagged(2, &[&[0], number(name).as_slice()].concat());
    let key = tagged(0x30, &[unsigned("n"), unsigned("e")].concat());
    let algorithm = hex::decode("300d06092a864886f70d0101010500").unwrap();
    let bits = tagged(3, &[&[0], key.as_slice()].concat());
    tagged(0x30, &[algorithm, bits].concat())
}
