//! What a ring promises where its keys are in the file; a hardware module's are tested with one, in `tests/hsm`.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;

async fn ring() -> (tempfile::TempDir, KeyRing) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ring");
    rotation::create(&path, None).await.unwrap();
    let ring = KeyRing::load(&path, None).await.unwrap();
    (directory, ring)
}

fn of<'a>(organisation: &'a str, dataset: &'a str, version: u32) -> DataKeyOf<'a> {
    DataKeyOf {
        organisation,
        dataset,
        version,
    }
}

fn subject(issuer: &str, sub: &str) -> Subject {
    Subject {
        issuer: issuer.to_owned(),
        sub: sub.to_owned(),
    }
}

#[tokio::test]
async fn a_new_ring_is_its_owners_alone_and_is_never_overwritten() {
    let (directory, _) = ring().await;
    let path = directory.path().join("ring");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let before = fs::read(&path).unwrap();
    let again = rotation::create(&path, None).await;
    assert!(matches!(again, Err(KeyRingError::Write { .. })));
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_wrapped_data_key_unwraps_as_itself_only() {
    let (_directory, ring) = ring().await;
    let key = Key::generate().unwrap();
    for version in [1, 2] {
        let (kek_version, wrapped) = ring.wrap(of("UiSMSP", "d1", version), &key).await.unwrap();
        assert_eq!(kek_version, 1);
        let unwrapped = ring.unwrap(of("UiSMSP", "d1", version), &wrapped).await.unwrap();
        assert_eq!(unwrapped.expose(), key.expose());
        for other in [
            of("UiSMSP", "d2", version),
            of("UiOMSP", "d1", version),
            of("UiSMSP", "d1", 3 - version),
        ] {
            assert!(ring.unwrap(other, &wrapped).await.is_err(), "{other:?}");
        }
    }
}

#[tokio::test]
async fn a_running_ring_takes_a_new_version_and_still_opens_what_an_older_one_wrapped() {
    let (directory, ring) = ring().await;
    let path = directory.path().join("ring");
    let key = Key::generate().unwrap();
    let (_, old) = ring.wrap(of("o", "d", 1), &key).await.unwrap();
    let pseudonym = ring.pseudonym(&subject("a", "b"));
    assert_eq!(ring.reload("o", &[], &[]).await.unwrap(), None);
    assert_eq!(rotation::rotate(&path, None).await.unwrap(), 2);
    assert!(ring.reload("o", &[], &[]).await.unwrap().is_some());
    assert_eq!(ring.current(), 2);
    let unwrapped = ring.unwrap(of("o", "d", 1), &old).await.unwrap();
    assert_eq!(unwrapped.expose(), key.expose());
    let (version, new) = ring.wrap(of("o", "d", 1), &key).await.unwrap();
    assert_eq!(version, 2);
    rotation::remove(&path, 1, None, false).await.unwrap();
    rotation::remove(&path, 1, None, false).await.unwrap();
    assert!(ring.reload("o", &[], &[]).await.unwrap().is_some());
    assert!(matches!(
        ring.unwrap(of("o", "d", 1), &old).await,
        Err(KeyError::NoSuchVersion(1))
    ));
    assert!(ring.unwrap(of("o", "d", 1), &new).await.is_ok());
    assert_eq!(ring.pseudonym(&subject("a", "b")), pseudonym);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_ring_that_no_longer_opens_what_the_key_store_holds_is_not_taken() {
    let (directory, ring) = ring().await;
    let path = directory.path().join("ring");
    let first = fs::read_to_string(&path).unwrap();
    rotation::rotate(&path, None).await.unwrap();
    assert!(ring.reload("o", &[], &[]).await.unwrap().is_some());
    let key = Key::generate().unwrap();
    let (kek_version, wrapped) = ring.wrap(of("o", "d", 1), &key).await.unwrap();
    let held = DataKey {
        dataset_id: "d".to_owned(),
        version: 1,
        kek_version,
        wrapped,
    };
    let damaged = DataKey {
        wrapped: vec![1; 80],
        ..held.clone()
    };
    // Somebody else's second version, made from a copy of the first ring; and the first ring itself.
    let other = format!("kek:2:{}\n{first}", STANDARD.encode([7; 64]));
    for text in [other.as_str(), first.as_str()] {
        fs::write(&path, text).unwrap();
        let refused = ring.reload("o", std::slice::from_ref(&held), &[]).await;
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("version 2"), "{refused}");
        assert!(ring.unwrap(of("o", "d", 1), &held.wrapped).await.is_ok());
        let started = KeyRing::load(&path, None).await.unwrap();
        assert!(
            started
                .opens("o", &[damaged.clone(), held.clone()])
                .await
                .is_err()
        );
    }
    assert!(
        ring.opens("o", &[damaged, held]).await.is_ok(),
        "one damaged row stops nobody"
    );
}

#[tokio::test]
async fn the_newest_version_does_not_go() {
    let (directory, _) = ring().await;
    let path = directory.path().join("ring");
    let before = fs::read(&path).unwrap();
    let refused = rotation::remove(&path, 1, None, false)
        .await
        .unwrap_err()
        .to_string();
    assert!(refused.contains("keys rotate"), "{refused}");
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn a_ring_that_became_another_is_not_taken() {
    let (directory, ring) = ring().await;
    let path = directory.path().join("ring");
    let pseudonym = ring.pseudonym(&subject("a", "b"));
    let other = format!(
        "kek:1:{}\npseudonym:1:{}\n",
        STANDARD.encode([1; 64]),
        STANDARD.encode([2; 32])
    );
    for text in ["", "kek:1:***", other.as_str()] {
        fs::write(&path, text).unwrap();
        let refused = ring.reload("o", &[], &[]).await.unwrap_err().to_string();
        assert!(!refused.contains(&other[8..30]), "{refused}");
        assert_eq!(ring.pseudonym(&subject("a", "b")), pseudonym);
    }
}

#[tokio::test]
async fn pseudonyms_tell_issuers_and_boundaries_apart() {
    let (_directory, ring) = ring().await;
    let all = [
        subject("a", "bc"),
        subject("ab", "c"),
        subject("hub", "alice"),
        subject("idp", "alice"),
    ]
    .map(|s| ring.pseudonym(&s));
    for (i, one) in all.iter().enumerate() {
        assert_eq!(one.len(), 64);
        assert!(all.iter().skip(i + 1).all(|other| other != one));
    }
    assert_eq!(ring.pseudonym(&subject("a", "bc")), all[0]);
}

#[tokio::test]
async fn a_version_that_no_known_one_vouches_for_is_not_taken() {
    let (directory, ring) = ring().await;
    let path = directory.path().join("ring");
    let first = fs::read_to_string(&path).unwrap();
    // As it is found, once.
    let mut known = ring.accept(&[]).await.unwrap();
    assert_eq!(known.len(), 1);
    assert!(ring.accept(&known).await.unwrap().is_empty());
    let stranger = format!("kek:2:{}\n", STANDARD.encode([7; 64]));
    let refused = async |text: &str, known: &[KnownKek], told: &str| {
        fs::write(&path, text).unwrap();
        let running = ring.reload("o", &[], known).await.unwrap_err().to_string();
        assert!(running.contains(told), "{running}");
        let started = KeyRing::load(&path, None).await.unwrap();
        let started = started.accept(known).await.unwrap_err().to_string();
        assert!(started.contains(told), "{started}");
    };
    refused(
        &format!("{first}{stranger}"),
        &known,
        "version 2 of the key ring is not endorsed",
    )
    .await;

    fs::write(&path, &first).unwrap();
    rotation::rotate(&path, None).await.unwrap();
    rotation::rotate(&path, None).await.unwrap();
    let rotated = fs::read_to_string(&path).unwrap();
    // Another key under an endorsement that was made for the right one.
    let right = rotated.lines().find(|line| line.starts_with("kek:2:")).unwrap();
    refused(
        &rotated.replace(right, stranger.trim()),
        &known,
        "version 2 of the key ring",
    )
    .await;
    // An endorsement that was made for another version.
    let endorsed = |version: u32| {
        let start = format!("endorsed:{version}:");
        rotated
            .lines()
            .find_map(|line| line.strip_prefix(&start))
            .unwrap()
    };
    let exchanged = rotated.replace(endorsed(2), endorsed(3));
    refused(&exchanged, &known, "version 2 of the key ring").await;

    fs::write(&path, &rotated).unwrap();
    let new = ring.reload("o", &[], &known).await.unwrap().unwrap();
    assert_eq!(new.iter().map(|kek| kek.version).collect::<Vec<_>>(), [2, 3]);
    known.extend(new);
    // Known ones need nobody any longer.
    rotation::remove(&path, 1, None, false).await.unwrap();
    assert_eq!(ring.reload("o", &[], &known).await.unwrap(), Some(Vec::new()));
    let now = fs::read_to_string(&path).unwrap();
    refused(
        &now.replace(right, stranger.trim()),
        &known,
        "is another key than it was",
    )
    .await;
    // What somebody wrote into the key store who has not the ring counts for nothing.
    fs::write(&path, &now).unwrap();
    let forged = known.iter().cloned().map(|kek| KnownKek {
        seal: vec![0; 32],
        ..kek
    });
    let forged: Vec<_> = forged.collect();
    let started = KeyRing::load(&path, None).await.unwrap();
    assert!(started.accept(&forged).await.is_err());
}

#[tokio::test]
async fn only_the_newest_version_vouches_for_a_newer_one_and_no_retired_one_comes_back() {
    let (directory, ring) = ring().await;
    let path = directory.path().join("ring");
    let mut known = ring.accept(&[]).await.unwrap();
    rotation::rotate(&path, None).await.unwrap();
    let second = fs::read_to_string(&path).unwrap();
    known.extend(ring.reload("o", &[], &known).await.unwrap().unwrap());
    // What somebody can make who has the first version's key, from an old copy of the ring.
    let services = Services::default();
    let file = RingFile::parse(&second).unwrap();
    let (one, place) = (
        &file.keks[&1],
        ring_file::Place::Ring(Key::from_bytes(&[7; 64]).unwrap()),
    );
    let endorsed = endorsement::endorse(&services, (1, one), (3, &place))
        .await
        .unwrap();
    let added = format!(
        "kek:3:{}\nendorsed:3:{}\n",
        STANDARD.encode([7; 64]),
        STANDARD.encode(endorsed)
    );
    let without = |text: &str, version: u32| {
        let lines = text
            .lines()
            .filter(|line| !line.starts_with(&format!("kek:{version}:")));
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    // Beside the newest, and with the newest taken out.
    for text in [
        format!("{second}{added}"),
        format!("{}{added}", without(&second, 2)),
    ] {
        fs::write(&path, &text).unwrap();
        let refused = ring.reload("o", &[], &known).await.unwrap_err().to_string();
        assert!(
            refused.contains("version 3 of the key ring is not endorsed"),
            "{refused}"
        );
        let started = KeyRing::load(&path, None).await.unwrap();
        assert!(started.accept(&known).await.is_err());
    }

    // The first was retired.
    known[0].is_retired = true;
    let retired = without(&second, 1);
    fs::write(&path, &retired).unwrap();
    ring.reload("o", &[], &known).await.unwrap().unwrap();
    fs::write(&path, &second).unwrap();
    let refused = ring.reload("o", &[], &known).await.unwrap_err().to_string();
    assert!(refused.contains("version 1 was retired"), "{refused}");
    // A start cannot tell that from a retirement that was cut off; but nothing new comes in beside it.
    let started = KeyRing::load(&path, None).await.unwrap();
    assert_eq!(started.accept(&known).await.unwrap(), []);
    rotation::rotate(&path, None).await.unwrap();
    let started = KeyRing::load(&path, None).await.unwrap();
    let refused = started.accept(&known).await.unwrap_err().to_string();
    assert!(refused.contains("`keys retire 1`"), "{refused}");
    rotation::remove(&path, 1, None, false).await.unwrap();
    assert_eq!(ring.reload("o", &[], &known).await.unwrap().unwrap().len(), 1);
}

#[tokio::test]
async fn one_command_at_a_time_changes_the_ring() {
    let (directory, _) = ring().await;
    let path = directory.path().join("ring");
    let before = fs::read(&path).unwrap();
    let other = fs::File::open(directory.path()).unwrap();
    other.lock().unwrap();
    for refused in [
        rotation::rotate(&path, None).await.err().unwrap(),
        rotation::remove(&path, 1, None, false).await.err().unwrap(),
    ] {
        assert!(refused.to_string().contains("another command"), "{refused}");
    }
    assert_eq!(fs::read(&path).unwrap(), before);
    drop(other);
    assert_eq!(rotation::rotate(&path, None).await.unwrap(), 2);
}
