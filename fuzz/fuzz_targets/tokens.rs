//! What a caller may send as a token: header and claims of any members, with edits of the text that they make; read as an issuer's keys and
//! rules would read it.
//!
//! What is accepted is read a second time here, leniently and by other code, and has to be what the rules ask for.
#![no_main]

use std::fmt::Write as _;
use std::sync::OnceLock;

use arbitrary::Arbitrary;
use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey};
use leasehold_secret_broker::identity::claim_path::ClaimPath;
use leasehold_secret_broker::identity::claims::Claims;
use leasehold_secret_broker::identity::config::RoleRule;
use leasehold_secret_broker::identity::roles::Standing;
use leasehold_secret_broker::identity::token::{Encoding, Unverified};
use libfuzzer_sys::fuzz_target;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use serde_json::{Map, Value, json};

/// When the tokens are judged, Unix seconds.
const NOW: u64 = 1_800_000_000;
const LEEWAY: u64 = 10;
const AUDIENCE: &str = "leasehold";
/// Members of a header by which a token would bring a key, or mean something else than it says.
const NEVER: [&str; 9] = ["jwk", "jku", "x5c", "x5u", "crit", "b64", "zip", "enc", "cty"];

#[derive(Debug, Arbitrary)]
struct Token {
    padded: bool,
    header: Vec<Member>,
    claims: Vec<Member>,
    signature: Ending,
    edits: Vec<(u16, Edit)>,
}

#[derive(Debug, Arbitrary)]
struct Member {
    name: Name,
    value: Piece,
    /// Beside one of that name, rather than in its place.
    again: bool,
}

#[derive(Debug, Arbitrary)]
enum Name {
    Usual(u8),
    Free(String),
}

#[derive(Debug, Arbitrary)]
enum Piece {
    Word(u8),
    Words(Vec<u8>),
    Time(i16),
    Number(i64),
    Fraction(f64),
    Text(String),
    Flag(bool),
    Nothing,
    Account(u8, u8, u8),
    Roles(Vec<u8>),
    Deep(u8),
    Raw(String),
}

#[derive(Debug, Arbitrary)]
enum Ending {
    /// By the right key; rarely, as it takes longer than everything else.
    Signed(u16),
    Bytes(Vec<u8>),
    Filled(u8),
}

#[derive(Debug, Arbitrary)]
enum Edit {
    Put(u8),
    Insert(u8),
    Remove,
}

const USUAL: [&str; 31] = [
    "alg",
    "kid",
    "typ",
    "jwk",
    "jku",
    "x5c",
    "x5u",
    "crit",
    "b64",
    "zip",
    "enc",
    "cty",
    "iss",
    "sub",
    "aud",
    "exp",
    "nbf",
    "iat",
    "jti",
    "groups",
    "realm_access",
    "kubernetes.io",
    "events",
    "cnf",
    "azp",
    "scope",
    "email",
    "act",
    "nonce",
    "signer",
    "client",
];
const WORDS: [&str; 24] = [
    "ES256",
    "ES384",
    "EdDSA",
    "RS256",
    "PS256",
    "HS256",
    "none",
    "NONE",
    "JWT",
    "at+jwt",
    "logout+jwt",
    "dpop+jwt",
    "k",
    "../../k",
    "leasehold",
    "other",
    "https://issuer",
    "steward",
    "researcher",
    "system:serviceaccount:jhub:hook",
    "jhub",
    "hook",
    "",
    "a\\u0000b",
];

fn word(number: u8) -> &'static str {
    WORDS
        .get(usize::from(number) % WORDS.len())
        .copied()
        .unwrap_or_default()
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn list(words: &[u8]) -> String {
    let words: Vec<_> = words
        .iter()
        .take(8)
        .map(|one| format!("\"{}\"", word(*one)))
        .collect();
    format!("[{}]", words.join(","))
}

impl Piece {
    fn text(&self) -> String {
        match self {
            Self::Word(number) => format!("\"{}\"", word(*number)),
            Self::Words(words) => list(words),
            Self::Time(offset) => (i64::try_from(NOW).unwrap_or_default() + i64::from(*offset)).to_string(),
            Self::Number(number) => number.to_string(),
            Self::Fraction(number) => json!(number).to_string(),
            Self::Text(text) => quoted(text),
            Self::Flag(flag) => flag.to_string(),
            Self::Nothing => "null".to_owned(),
            Self::Account(namespace, name, uid) => format!(
                r#"{{"namespace":"{}","serviceaccount":{{"name":"{}","uid":"{}"}}}}"#,
                word(*namespace),
                word(*name),
                word(*uid)
            ),
            Self::Roles(words) => format!(r#"{{"roles":{}}}"#, list(words)),
            Self::Deep(depth) => format!(
                "{}{}",
                "[".repeat(usize::from(*depth)),
                "]".repeat(usize::from(*depth))
            ),
            Self::Raw(text) => text.clone(),
        }
    }
}

/// A document with the members of a good one first, so that most that are made are nearly good.
fn document(good: &[(&str, String)], members: &[Member]) -> String {
    let mut all: Vec<(String, String)> = good
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect();
    for member in members.iter().take(12) {
        let name = match &member.name {
            Name::Usual(number) => USUAL
                .get(usize::from(*number) % USUAL.len())
                .copied()
                .unwrap_or_default()
                .to_owned(),
            Name::Free(text) => text.clone(),
        };
        let value = member.value.text();
        match all.iter_mut().find(|(known, _)| *known == name && !member.again) {
            Some(known) => known.1 = value,
            None => all.push((name, value)),
        }
    }
    let mut text = String::from("{");
    for (place, (name, value)) in all.iter().enumerate() {
        let comma = if place == 0 { "" } else { "," };
        write!(text, "{comma}{}:{value}", quoted(name)).expect("into a text");
    }
    text.push('}');
    text
}

fn key() -> &'static (SigningKey, DecodingKey) {
    static KEY: OnceLock<(SigningKey, DecodingKey)> = OnceLock::new();
    KEY.get_or_init(|| {
        let key = SigningKey::from_slice(&[7; 32]).expect("a key");
        let point = key.verifying_key().to_encoded_point(false);
        let public = DecodingKey::from_ec_der(point.as_bytes());
        (key, public)
    })
}

fn rules() -> &'static (Vec<RoleRule>, ClaimPath) {
    static RULES: OnceLock<(Vec<RoleRule>, ClaimPath)> = OnceLock::new();
    RULES.get_or_init(|| {
        let rule = json!({ "claim": "realm_access.roles", "values": { "steward": "steward", "researcher": "researcher" } });
        let rule = serde_json::from_value(rule).expect("a rule");
        (vec![rule], ClaimPath::member("groups"))
    })
}

/// The claims of a token, read by other code than the broker's.
fn read_again(part: &str) -> Value {
    let bytes = URL_SAFE_NO_PAD
        .decode(part.trim_end_matches('='))
        .expect("base64");
    serde_json::from_slice(&bytes).expect("JSON")
}

fn check_accepted(token: &Unverified<'_>, padded: bool) {
    let parts: Vec<&str> = token.text.split('.').collect();
    let [header, claims, signature] = parts[..] else {
        panic!("a token of {} parts was accepted", parts.len())
    };
    for part in [header, claims, signature] {
        let bytes = URL_SAFE_NO_PAD
            .decode(part.trim_end_matches('='))
            .expect("base64");
        let again = if padded {
            URL_SAFE.encode(&bytes)
        } else {
            URL_SAFE_NO_PAD.encode(&bytes)
        };
        assert_eq!(again, part, "the same bytes have one text");
    }
    let header = read_again(header);
    for member in NEVER {
        assert!(header.get(member).is_none(), "{member} was accepted");
    }
    let algorithm = header.get("alg").and_then(Value::as_str).expect("an algorithm");
    assert!(!algorithm.starts_with("HS") && !algorithm.eq_ignore_ascii_case("none"));
    assert_eq!(
        header.get("kid").and_then(Value::as_str),
        Some(token.key_id.as_str())
    );
    assert_eq!(&read_again(claims), &Value::Object(token.claims.clone()));
}

fn check_claims(members: &Map<String, Value>) {
    let Ok(claims) = Claims::read(members.clone()) else {
        return;
    };
    if let Ok(account) = claims.service_account() {
        let expected = format!("system:serviceaccount:{}:{}", account.namespace, account.name);
        assert_eq!(members.get("sub"), Some(&json!(expected)));
        assert!(!account.uid.is_empty());
    }
    let (rules, groups) = rules();
    let standing = Standing::of(claims.members(), rules, Some(groups));
    let roles = members.get("realm_access").and_then(|access| access.get("roles"));
    for role in &standing.roles {
        let named = json!(role.name());
        let has = match roles {
            Some(Value::Array(several)) => several.contains(&named),
            Some(one) => *one == named,
            None => false,
        };
        assert!(has, "a role came from nowhere");
    }
    if claims.check(NOW, LEEWAY, AUDIENCE).is_err() {
        return;
    }
    let time = |name: &str| {
        members
            .get(name)
            .map(|value| value.as_u64().expect("whole seconds"))
    };
    assert!(time("exp").expect("it expires") + LEEWAY > NOW);
    assert!(time("nbf").is_none_or(|from| from <= NOW + LEEWAY));
    assert!(time("iat").is_none_or(|at| at <= NOW + LEEWAY));
    let audience = json!(AUDIENCE);
    let for_us = match members.get("aud") {
        Some(Value::Array(several)) => several.contains(&audience),
        Some(one) => *one == audience,
        None => false,
    };
    assert!(for_us, "it was made for somebody else");
    let subject = members.get("sub").and_then(Value::as_str).expect("somebody");
    assert!(!subject.is_empty() && !subject.contains('\0'));
    assert!(!members.contains_key("events") && !members.contains_key("cnf"));
}

fuzz_target!(|input: Token| {
    let good = [("alg", "\"ES256\"".to_owned()), ("kid", "\"k\"".to_owned())];
    let header = document(&good, &input.header);
    let good = [
        ("iss", "\"https://issuer\"".to_owned()),
        ("sub", "\"somebody\"".to_owned()),
        ("aud", format!("\"{AUDIENCE}\"")),
        ("exp", (NOW + 60).to_string()),
    ];
    let claims = document(&good, &input.claims);
    let encode = |bytes: &[u8]| {
        if input.padded {
            URL_SAFE.encode(bytes)
        } else {
            URL_SAFE_NO_PAD.encode(bytes)
        }
    };
    let signed = format!("{}.{}", encode(header.as_bytes()), encode(claims.as_bytes()));
    let (really, signature) = match &input.signature {
        Ending::Signed(number) if number % 1024 == 1 => {
            let signature: Signature = key().0.sign(signed.as_bytes());
            (true, signature.to_bytes().to_vec())
        }
        Ending::Signed(_) => (false, vec![1; 64]),
        Ending::Bytes(bytes) => (false, bytes.clone()),
        Ending::Filled(byte) => (false, vec![*byte; 64]),
    };
    let original = format!("{signed}.{}", encode(&signature));
    let mut bytes = original.clone().into_bytes();
    for (place, edit) in input.edits.iter().take(4) {
        let place = usize::from(*place) % bytes.len().max(1);
        match edit {
            Edit::Put(byte) => bytes[place] = *byte,
            Edit::Insert(byte) => bytes.insert(place, *byte),
            Edit::Remove if bytes.len() > 1 => {
                bytes.remove(place);
            }
            Edit::Remove => {}
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    let encoding = if input.padded {
        Encoding::Padded
    } else {
        Encoding::Plain
    };
    let Ok(token) = Unverified::parse(&text, encoding) else {
        return;
    };
    check_accepted(&token, input.padded);
    let issuer = token.issuer().ok().map(str::to_owned);
    assert_eq!(issuer.as_deref(), token.claims.get("iss").and_then(Value::as_str));
    if really {
        let verified = token.check_signature(&key().1).is_ok();
        let ours = token.algorithm == Algorithm::ES256 && *text == original;
        assert_eq!(verified, ours, "exactly what was signed is verified");
    }
    check_claims(&token.claims);
});
