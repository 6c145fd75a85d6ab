//! What may lie in the key store, on the ledger or in the ring's file where the broker reads ciphertexts: envelopes that were changed, moved to
//! another dataset, organisation, purpose or version, or made up; rings of any lines; volumes of any members.
//!
//! An envelope opens as what was put into it, exactly where it belongs, and nowhere else.
#![no_main]

use std::collections::BTreeMap;
use std::sync::OnceLock;

use arbitrary::Arbitrary;
use leasehold_secret_broker::crypto::{Context, KEY_LENGTH, Key, decrypt, encrypt, key_version};
use leasehold_secret_broker::keys::ring_file::RingFile;
use leasehold_secret_broker::{strict_json, volume};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

#[derive(Debug, Arbitrary)]
enum Input {
    Raw(Vec<u8>),
    Changed {
        plaintext: Vec<u8>,
        version: u32,
        edits: Vec<(u16, u8)>,
        cut: Option<u16>,
        more: Vec<u8>,
        elsewhere: u8,
    },
    Ring(Vec<Line>),
    Volume(String),
}

#[derive(Debug, Arbitrary)]
enum Line {
    Kek(u32, bool),
    Module(u32, String),
    Endorsed(u32, Vec<u8>),
    Pseudonym(bool, Vec<u8>),
    Free(String),
}

fn keys() -> &'static [Key; 2] {
    static KEYS: OnceLock<[Key; 2]> = OnceLock::new();
    KEYS.get_or_init(|| [1, 2].map(|byte| Key::from_bytes(&[byte; KEY_LENGTH]).expect("a key")))
}

const HERE: Context<'static> = Context {
    purpose: "volume",
    organisation: "OneMSP",
    dataset: "texts",
    key_version: 1,
};

fn changed(
    plaintext: &[u8],
    version: u32,
    edits: &[(u16, u8)],
    cut: Option<u16>,
    more: &[u8],
    elsewhere: u8,
) {
    let [key, other] = keys();
    let home = Context {
        key_version: version,
        ..HERE
    };
    let whole = encrypt(key, &home, plaintext).expect("it is encrypted");
    assert_eq!(key_version(&whole), Ok(version));
    let mut envelope = whole.clone();
    for (place, byte) in edits.iter().take(8) {
        let place = usize::from(*place) % envelope.len();
        envelope[place] ^= byte;
    }
    if let Some(cut) = cut {
        envelope.truncate(usize::from(cut) % (envelope.len() + 1));
    }
    envelope.extend_from_slice(more);
    let opened = decrypt(key, &home, &envelope);
    if envelope == whole {
        assert_eq!(opened.expect("what was not changed opens").expose(), plaintext);
    } else {
        assert!(opened.is_err(), "a changed envelope was opened");
    }
    let away = match elsewhere % 6 {
        // The same letters with their border elsewhere.
        0 => Context {
            organisation: "OneMSPt",
            dataset: "exts",
            ..home
        },
        1 => Context {
            purpose: "data-key",
            ..home
        },
        2 => Context {
            organisation: "TwoMSP",
            ..home
        },
        3 => Context { dataset: "", ..home },
        4 => Context {
            key_version: version.wrapping_add(1),
            ..home
        },
        _ => {
            assert!(decrypt(other, &home, &whole).is_err(), "another key opened it");
            return;
        }
    };
    assert!(decrypt(key, &away, &whole).is_err(), "it opened at another place");
}

fn ring(lines: &[Line]) {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let text: String = lines
        .iter()
        .take(16)
        .map(|line| match line {
            Line::Kek(version, whole) => {
                let key = vec![9; if *whole { KEY_LENGTH } else { 32 }];
                format!("kek:{}:{}\n", version % 8, STANDARD.encode(key))
            }
            Line::Module(version, label) => format!("kek:{}:pkcs11:{label}\n", version % 8),
            Line::Endorsed(version, bytes) => {
                format!("endorsed:{}:{}\n", version % 8, STANDARD.encode(bytes))
            }
            Line::Pseudonym(true, _) => format!("pseudonym:1:{}\n", STANDARD.encode([5; 32])),
            Line::Pseudonym(false, bytes) => format!("pseudonym:1:wrapped:{}\n", STANDARD.encode(bytes)),
            Line::Free(text) => format!("{text}\n"),
        })
        .collect();
    match RingFile::parse(&text) {
        Ok(ring) => {
            assert_eq!(
                ring.keks.last_key_value().map(|(version, _)| *version),
                Some(ring.current())
            );
            let written = ring.render();
            let again = RingFile::parse(&written).expect("what was written is read");
            assert_eq!(*written, *again.render(), "and means the same");
        }
        Err(error) => {
            let said = error.to_string();
            assert!(
                !said.contains(&STANDARD.encode([9; KEY_LENGTH])),
                "an error shows a key"
            );
            assert!(!said.contains(&STANDARD.encode([5; 32])), "an error shows a key");
        }
    }
}

fn read_volume(text: &str) {
    if strict_json::check(text.as_bytes()).is_err() {
        return;
    }
    let value: Value = serde_json::from_str(text).expect("what passed the check is read");
    let roots = BTreeMap::from([("OneMSP".to_owned(), vec!["/data/one".into()])]);
    if volume::check(&value, "OneMSP", &roots).is_ok() {
        let path = value.get("path").and_then(Value::as_str).expect("a path");
        assert!(
            path.starts_with("/data/one") && !path.split('/').any(|part| part == ".."),
            "{path}"
        );
    }
    assert!(
        volume::check(&value, "TwoMSP", &roots).is_err(),
        "one without directories registers none"
    );
}

fuzz_target!(|input: Input| {
    match &input {
        Input::Raw(bytes) => assert!(
            decrypt(&keys()[0], &HERE, bytes).is_err(),
            "a made-up envelope was opened"
        ),
        Input::Changed {
            plaintext,
            version,
            edits,
            cut,
            more,
            elsewhere,
        } => {
            changed(plaintext, *version, edits, *cut, more, *elsewhere);
        }
        Input::Ring(lines) => ring(lines),
        Input::Volume(text) => read_volume(text),
    }
});
