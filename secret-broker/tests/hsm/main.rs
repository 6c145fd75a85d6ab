//! Key-encryption keys in a hardware module: SoftHSM 2, which speaks PKCS#11 as hardware does, with a token of the tests' own in a temporary
//! directory.
//!
//! Not a test of the usual harness: what is skipped must not be counted as passed, and the module reads its configuration from the
//! environment, so that the tests run in a process that was started with it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout
)]

#[allow(dead_code, reason = "shared with the other tests")]
#[path = "../broker/fixture.rs"]
mod fixture;
#[allow(dead_code, reason = "shared with the other tests")]
#[path = "../broker/issuer.rs"]
mod issuer;
mod outside;
mod token;

use std::path::Path;
use std::process::{Command, ExitCode};

use cryptoki::context::Pkcs11;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType};
use fixture::{Fixture, Setting, eventually};
use leasehold_broker_wire::machines as wire;
use leasehold_secret_broker::crypto::{CryptoError, Key};
use leasehold_secret_broker::identity::Subject;
use leasehold_secret_broker::keys::pkcs11::{Pkcs11Error, Pkcs11Settings, Token as Module};
use leasehold_secret_broker::keys::service::KeyError;
use leasehold_secret_broker::keys::{DataKeyOf, KeyRing, KeyRingError, rotation};
use outside::*;
use serde_json::json;
use token::{PIN, Token};

/// Says to a test's own process which configuration is its own.
const CONFIGURATION: &str = "SOFTHSM2_CONF";

macro_rules! tests {
    ($($test:ident),* $(,)?) => {
        const TESTS: &[&str] = &[$(stringify!($test)),*];

        async fn run(test: &str, library: &Path) {
            match test {
                $(stringify!($test) => $test(library).await,)*
                other => panic!("there is no test {other}"),
            }
        }
    };
}

tests!(
    a_key_in_the_module_wraps_what_opens_as_itself_only,
    a_key_that_could_leave_the_module_is_refused,
    a_key_that_came_into_the_module_from_outside_is_refused,
    a_pin_that_was_refused_is_not_tried_again_until_its_file_changes,
    a_key_that_the_token_has_not_is_not_said_to_be_destroyed,
    a_version_of_the_module_vouches_for_the_next_and_no_stranger_does,
    what_is_wrong_with_module_token_pin_or_label_is_said,
    a_module_that_was_restarted_and_a_token_that_was_away_are_opened_anew,
    a_ring_moves_into_the_module_and_pseudonyms_stay_what_they_are,
    a_broker_opens_volumes_with_a_key_that_never_leaves_the_module,
);

/// Each test has a process of its own: the module is one for the whole process.
fn main() -> ExitCode {
    let Some(library) = token::library() else {
        println!("SKIPPED: a hardware module: SoftHSM 2 is not installed (Debian package softhsm2)");
        return ExitCode::SUCCESS;
    };
    let wanted = std::env::args()
        .nth(1)
        .filter(|argument| !argument.starts_with('-'));
    if std::env::var_os(CONFIGURATION).is_some() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(run(&wanted.unwrap(), &library));
        return ExitCode::SUCCESS;
    }
    let (mut passed, mut failed) = (0, 0);
    for test in TESTS
        .iter()
        .filter(|test| wanted.as_ref().is_none_or(|part| test.contains(part)))
    {
        let directory = tempfile::tempdir().unwrap();
        let status = Command::new(std::env::current_exe().unwrap())
            .arg(test)
            .env(CONFIGURATION, token::configuration(directory.path()))
            .status()
            .unwrap();
        let (count, verdict) = match status.success() {
            true => (&mut passed, "ok"),
            false => (&mut failed, "FAILED"),
        };
        *count += 1;
        println!("test {test} ... {verdict}");
    }
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "test result: {verdict}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out"
    );
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

const OF: DataKeyOf<'static> = DataKeyOf {
    organisation: "UiSMSP",
    dataset: "d1",
    version: 1,
};

async fn ring(token: &Token) -> (tempfile::TempDir, KeyRing) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ring");
    rotation::create(&path, Some(&token.settings)).await.unwrap();
    let ring = KeyRing::load(&path, Some(&token.settings)).await.unwrap();
    (directory, ring)
}

fn label_in(ring: &tempfile::TempDir) -> String {
    let text = std::fs::read_to_string(ring.path().join("ring")).unwrap();
    let line = text.lines().find(|line| line.contains(":pkcs11:")).unwrap();
    line.rsplit(':').next().unwrap().to_owned()
}

async fn a_key_in_the_module_wraps_what_opens_as_itself_only(library: &Path) {
    let token = Token::new(library);
    let (directory, ring) = ring(&token).await;
    let key = Key::generate().unwrap();
    let (version, wrapped) = ring.wrap(OF, &key).await.unwrap();
    assert_eq!(version, 1);
    assert_eq!(ring.unwrap(OF, &wrapped).await.unwrap().expose(), key.expose());
    for other in [
        DataKeyOf {
            organisation: "UiOMSP",
            ..OF
        },
        DataKeyOf { dataset: "d2", ..OF },
        DataKeyOf { version: 2, ..OF },
    ] {
        let refused = ring.unwrap(other, &wrapped).await.unwrap_err();
        let is_not_authentic = matches!(
            refused,
            KeyError::Pkcs11(Pkcs11Error::Crypto(CryptoError::NotAuthentic))
        );
        assert!(is_not_authentic, "{other:?}: {refused}");
    }
    for position in 0..wrapped.len() {
        let mut changed = wrapped.clone();
        changed[position] ^= 1;
        assert!(ring.unwrap(OF, &changed).await.is_err(), "byte {position}");
    }
    // The file names the key and holds none.
    let text = std::fs::read_to_string(directory.path().join("ring")).unwrap();
    assert!(
        text.contains("kek:1:pkcs11:leasehold-kek-1-") && text.contains("pseudonym:1:wrapped:"),
        "{text}"
    );
    // Many at once take turns.
    let calls = (0..32).map(|_| ring.unwrap(OF, &wrapped));
    let opened = futures::future::join_all(calls).await;
    assert!(opened.iter().all(|key| key.is_ok()));

    // The module itself gives the key to nobody.
    let label = label_in(&directory);
    let session = token.session();
    for label in [label.clone(), format!("{label}-mac")] {
        let [object] = token::objects(&session, &label).try_into().unwrap();
        let types = [
            AttributeType::Sensitive,
            AttributeType::Extractable,
            AttributeType::AlwaysSensitive,
            AttributeType::NeverExtractable,
            AttributeType::Value,
        ];
        let attributes = session.get_attributes(object, &types).unwrap();
        assert_eq!(
            attributes,
            [
                Attribute::Sensitive(true),
                Attribute::Extractable(false),
                Attribute::AlwaysSensitive(true),
                Attribute::NeverExtractable(true),
            ]
        );
    }
}

async fn a_key_that_could_leave_the_module_is_refused(library: &Path) {
    for (sensitive, extractable, part) in [
        (true, true, "cipher"),
        (false, false, "cipher"),
        (true, true, "mac"),
    ] {
        let token = Token::new(library);
        let (directory, _) = ring(&token).await;
        let label = label_in(&directory);
        let (label, bytes, mechanism) = match part {
            "cipher" => (label, 32, Mechanism::AesKeyGen),
            _ => (format!("{label}-mac"), 32, Mechanism::GenericSecretKeyGen),
        };
        let session = token.session();
        for object in token::objects(&session, &label) {
            session.destroy_object(object).unwrap();
        }
        let template = [
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(sensitive),
            Attribute::Extractable(extractable),
            Attribute::Label(label.clone().into_bytes()),
            Attribute::ValueLen(bytes.into()),
        ];
        session.generate_key(&mechanism, &template).unwrap();
        let path = directory.path().join("ring");
        let refused = KeyRing::load(&path, Some(&token.settings)).await.err().unwrap();
        let text = refused.to_string();
        assert!(
            text.contains("could leave the module") && text.contains(&label),
            "{text}"
        );
    }
}

async fn what_is_wrong_with_module_token_pin_or_label_is_said(library: &Path) {
    let token = Token::new(library);
    let (directory, _) = ring(&token).await;
    let path = directory.path().join("ring");
    let pin_file = directory.path().join("pin");
    std::fs::write(&pin_file, "0000\n").unwrap();
    let right = &token.settings;
    let with = |change: &dyn Fn(&mut Pkcs11Settings)| {
        let mut settings = right.clone();
        change(&mut settings);
        settings
    };
    for (settings, told) in [
        (
            with(&|s| s.module = "/no/such/module.so".into()),
            "could not load the PKCS#11 module",
        ),
        (
            with(&|s| s.token = "another".to_owned()),
            "no token with label `another`",
        ),
        (with(&|s| s.pin_file = pin_file.clone()), "refuses the PIN"),
        (
            with(&|s| s.pin_file = "/no/such/pin".into()),
            "could not read the PIN",
        ),
    ] {
        let text = KeyRing::load(&path, Some(&settings))
            .await
            .err()
            .unwrap()
            .to_string();
        assert!(text.contains(told), "{text}");
        assert!(!text.contains("0000") && !text.contains(PIN), "{text}");
    }
    let without = KeyRing::load(&path, None).await.err().unwrap().to_string();
    assert!(without.contains("--pkcs11-module"), "{without}");
    let label = label_in(&directory);
    let ring = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, ring.replace(&label, "leasehold-kek-other")).unwrap();
    let refused = KeyRing::load(&path, Some(right)).await.err().unwrap();
    assert!(matches!(refused, KeyRingError::Key { version: 1, .. }));
    assert!(
        refused.to_string().contains("no key `leasehold-kek-other`"),
        "{refused}"
    );
}

async fn a_module_that_was_restarted_and_a_token_that_was_away_are_opened_anew(library: &Path) {
    let token = Token::new(library);
    let (_directory, ring) = ring(&token).await;
    let key = Key::generate().unwrap();
    let (_, wrapped) = ring.wrap(OF, &key).await.unwrap();
    for _ in 0..3 {
        // Every session in this process ends with it.
        Pkcs11::new(library).unwrap().finalize().unwrap();
        let unwrapped = ring.unwrap(OF, &wrapped).await.unwrap();
        assert_eq!(unwrapped.expose(), key.expose());
    }
    token.take_away();
    Pkcs11::new(library).unwrap().finalize().unwrap();
    let refused = ring.unwrap(OF, &wrapped).await.unwrap_err();
    assert!(
        refused.may_pass() && refused.to_string().contains("no token with label"),
        "{refused}"
    );
    assert!(ring.check().await.is_err());
    token.bring_back();
    let unwrapped = ring.unwrap(OF, &wrapped).await.unwrap();
    assert_eq!(unwrapped.expose(), key.expose());
}

async fn a_ring_moves_into_the_module_and_pseudonyms_stay_what_they_are(library: &Path) {
    let token = Token::new(library);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ring");
    rotation::create(&path, None).await.unwrap();
    let ring = KeyRing::load(&path, Some(&token.settings)).await.unwrap();
    let person = Subject {
        issuer: "idp".to_owned(),
        sub: "alice".to_owned(),
    };
    let (pseudonym, fingerprint) = (ring.pseudonym(&person), ring.fingerprint(&[b"a"]));
    let key = Key::generate().unwrap();
    let (_, old) = ring.wrap(OF, &key).await.unwrap();
    assert_eq!(rotation::rotate(&path, Some(&token.settings)).await.unwrap(), 2);
    assert!(ring.reload("UiSMSP", &[], &[]).await.unwrap().is_some());
    assert_eq!(ring.unwrap(OF, &old).await.unwrap().expose(), key.expose());
    let (version, new) = ring.wrap(OF, &key).await.unwrap();
    assert_eq!(version, 2);
    rotation::remove(&path, 1, Some(&token.settings), false)
        .await
        .unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with("endorsed:"));
    let longest = lines
        .flat_map(|line| line.split(':'))
        .map(str::len)
        .max()
        .unwrap();
    assert!(
        text.contains("wrapped") && longest < 160,
        "no key is left in the file: {text}"
    );
    // And within the module, where the version before is destroyed.
    let first = label_in(&directory);
    rotation::rotate(&path, Some(&token.settings)).await.unwrap();
    rotation::remove(&path, 2, Some(&token.settings), false)
        .await
        .unwrap();
    assert!(token::objects(&token.session(), &first).is_empty());
    assert!(ring.reload("UiSMSP", &[], &[]).await.unwrap().is_some());
    assert!(matches!(
        ring.unwrap(OF, &new).await,
        Err(KeyError::NoSuchVersion(2))
    ));
    assert_eq!(
        (ring.pseudonym(&person), ring.fingerprint(&[b"a"])),
        (pseudonym, fingerprint)
    );
    // What `make` left is found by nobody else.
    assert!(Module::new(token.settings.clone()).check(&first).await.is_err());
}

async fn a_broker_opens_volumes_with_a_key_that_never_leaves_the_module(library: &Path) {
    let token = Token::new(library);
    let configuration = std::env::var(CONFIGURATION).unwrap();
    let environment = [
        (CONFIGURATION, configuration.as_str()),
        ("LEASEHOLD_PKCS11_MODULE", library.to_str().unwrap()),
        ("LEASEHOLD_PKCS11_TOKEN", token.settings.token.as_str()),
        (
            "LEASEHOLD_PKCS11_PIN_FILE",
            token.settings.pin_file.to_str().unwrap(),
        ),
    ];
    let fixture = Fixture::start_with(Setting {
        environment: environment
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
        ..Setting::default()
    })
    .await;
    fixture.register("texts").await;
    let lease = fixture.lease("texts", &fixture.person("alice")).await;
    let open = async || {
        let mut provisioner = fixture.machine("leasehold-provisioner").await;
        let lease_id = lease.clone();
        let opened = provisioner
            .open_volume(wire::OpenVolumeRequest { lease_id })
            .await?;
        Ok::<_, tonic::Status>(opened.into_inner().volume)
    };
    let before = open().await.unwrap();
    fixture.keys_done(&["rotate"]);
    eventually("the data key to be wrapped anew", async || {
        (fixture.wrapped_by() == [(1, 0), (2, 1)]).then_some(())
    })
    .await;
    fixture.keys_done(&["retire", "1", "--without-backup"]);
    assert_eq!(open().await.unwrap(), before);
    let status = &fixture.keys_done(&["status"])[0];
    assert_eq!(
        status["versions"],
        json!([{"version": 2, "place": "pkcs11", "data_keys": 1}])
    );
    fixture.kill();
    token.take_away();
    let refused = fixture.refused();
    assert!(refused.contains("no token with label"), "{refused}");
    token.bring_back();
    fixture.run().await;
    assert_eq!(open().await.unwrap(), before);
    assert!(!fixture.log().contains(PIN), "the PIN is in the log");
}
