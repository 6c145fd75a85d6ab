//! What comes from outside the module: keys, PINs, lines of the ring's file, and what is said of a key that is elsewhere.

use std::path::Path;

use cryptoki::context::Pkcs11;
use cryptoki::object::{Attribute, KeyType, ObjectClass};
use leasehold_secret_broker::keys::pkcs11::Pkcs11Settings;
use leasehold_secret_broker::keys::{KeyRing, rotation};

use super::token::{self, PIN, Token};
use super::{label_in, ring};

pub async fn a_key_that_came_into_the_module_from_outside_is_refused(library: &Path) {
    let token = Token::new(library);
    let (directory, _) = ring(&token).await;
    let label = label_in(&directory);
    let session = token.session();
    for object in token::objects(&session, &label) {
        session.destroy_object(object).unwrap();
    }
    // As confined as one that was made in it, but for its past.
    let template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Encrypt(true),
        Attribute::Decrypt(true),
        Attribute::Label(label.clone().into_bytes()),
        Attribute::Value(vec![7; 32]),
    ];
    session.create_object(&template).unwrap();
    let path = directory.path().join("ring");
    let refused = KeyRing::load(&path, Some(&token.settings)).await.err().unwrap();
    let text = refused.to_string();
    assert!(
        text.contains("came into it from outside") && text.contains(&label),
        "{text}"
    );
}

pub async fn a_pin_that_was_refused_is_not_tried_again_until_its_file_changes(library: &Path) {
    const OTHER: &str = "87654321";
    let token = Token::new(library);
    let (directory, _) = ring(&token).await;
    let path = directory.path().join("ring");
    let pin_file = directory.path().join("pin");
    std::fs::write(&pin_file, PIN).unwrap();
    let settings = Pkcs11Settings {
        pin_file: pin_file.clone(),
        ..token.settings.clone()
    };
    let ring = KeyRing::load(&path, Some(&settings)).await.unwrap();
    let restart = || Pkcs11::new(library).unwrap().finalize().unwrap();
    std::fs::write(&pin_file, OTHER).unwrap();
    restart();
    let refused = async || {
        let refused = ring.check().await.err().unwrap().to_string();
        assert!(
            refused.contains("refuses the PIN") && !refused.contains(OTHER),
            "{refused}"
        );
    };
    refused().await;
    // The token would take it now: that it is still refused shows that it is not tried.
    token
        .session()
        .set_pin(&PIN.to_owned().into(), &OTHER.to_owned().into())
        .unwrap();
    restart();
    for _ in 0..5 {
        refused().await;
    }
    std::fs::write(&pin_file, OTHER).unwrap();
    ring.check().await.unwrap();
}

pub async fn a_key_that_the_token_has_not_is_not_said_to_be_destroyed(library: &Path) {
    let token = Token::new(library);
    let (directory, _) = ring(&token).await;
    let path = directory.path().join("ring");
    let first = label_in(&directory);
    rotation::rotate(&path, Some(&token.settings)).await.unwrap();
    let session = token.session();
    for label in [first.clone(), format!("{first}-mac")] {
        for object in token::objects(&session, &label) {
            session.destroy_object(object).unwrap();
        }
    }
    let refused = rotation::remove(&path, 1, Some(&token.settings), false).await;
    let refused = refused.err().unwrap().to_string();
    assert!(
        refused.contains("nothing was destroyed") && refused.contains("--key-is-gone"),
        "{refused}"
    );
    assert!(
        std::fs::read_to_string(&path).unwrap().contains(&first),
        "its line is there"
    );
    rotation::remove(&path, 1, Some(&token.settings), true)
        .await
        .unwrap();
    assert!(!std::fs::read_to_string(&path).unwrap().contains(&first));
}

pub async fn a_version_of_the_module_vouches_for_the_next_and_no_stranger_does(library: &Path) {
    let token = Token::new(library);
    let (directory, ring) = ring(&token).await;
    let path = directory.path().join("ring");
    let known = ring.accept(&[]).await.unwrap();
    let before = std::fs::read_to_string(&path).unwrap();
    // Whoever can write the file and not use the token.
    let own = format!("{before}kek:2:{}\n", "A".repeat(84) + "AA==");
    std::fs::write(&path, own).unwrap();
    let refused = ring
        .reload("UiSMSP", &[], &known)
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(refused.contains("not endorsed by the newest"), "{refused}");
    std::fs::write(&path, &before).unwrap();
    rotation::rotate(&path, Some(&token.settings)).await.unwrap();
    let new = ring.reload("UiSMSP", &[], &known).await.unwrap().unwrap();
    assert_eq!(new.len(), 1);
}
