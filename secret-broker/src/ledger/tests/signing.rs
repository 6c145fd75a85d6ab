//! Who signs a ledger, how that changes, and how one that was not signed becomes one that is.

use super::*;
use sqlx::{AssertSqlSafe, Connection, Row, SqliteConnection};
use std::os::unix::fs::PermissionsExt;
use storage::blocks;

async fn connect(bench: &Bench) -> SqliteConnection {
    storage::sqlite::connect(&bench.path()).await.unwrap()
}

#[tokio::test]
async fn a_ledger_makes_its_key_once_and_only_for_its_owner() {
    let mut bench = Bench::new().await;
    let path = bench.options().key;
    let key = LedgerKey::load(&path).unwrap().id();
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    bench.accepted("one", register("texts")).await;
    bench.reopen().await;
    bench.accepted("two", take("texts", &person("a1"))).await;
    let verified = bench.ledger.verify().await.unwrap();
    assert_eq!(
        (verified.key_id, verified.unvouched_keys),
        (Some(key), Vec::new())
    );
    assert_eq!(LedgerKey::load(&path).unwrap().id(), key);
}

#[tokio::test]
async fn a_ledger_opens_with_its_own_key_only() {
    let bench = Bench::new().await;
    bench.ledger.close().await;
    let own = LedgerKey::load(&bench.options().key).unwrap().id();
    let mut options = bench.options();
    options.key = bench.directory.path().join("other.key");
    let missing = Ledger::open(options.clone()).await.map(drop).unwrap_err();
    assert!(
        matches!(missing, OpenError::Key(LedgerKeyError::Read { .. })),
        "{missing}"
    );
    let other = LedgerKey::load_or_create(&options.key).unwrap().id();
    match Ledger::open(options.clone()).await.map(drop).unwrap_err() {
        OpenError::OtherKey { found, expected, .. } => assert_eq!((found, expected), (other, own)),
        error => panic!("{error}"),
    }
    std::fs::write(&options.key, "no key").unwrap();
    let form = Ledger::open(options).await.map(drop).unwrap_err();
    assert!(matches!(form, OpenError::Key(LedgerKeyError::Form(_))), "{form}");
    Ledger::open(bench.options()).await.unwrap().close().await;
}

#[tokio::test]
async fn a_key_that_openssl_made_signs() {
    // RFC 8410, section 10.3: private key without its public half.
    let pem = "-----BEGIN PRIVATE KEY-----\n\
               MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
               -----END PRIVATE KEY-----\n";
    let directory = TempDir::new().unwrap();
    let mut options = options_at(&directory, &Arc::new(AtomicI64::new(START_MS)));
    options.key = directory.path().join("given.pem");
    std::fs::write(&options.key, pem).unwrap();
    let ledger = Ledger::open(options).await.unwrap();
    let key = ledger.verify().await.unwrap().key_id.unwrap();
    assert_eq!(
        key.to_string(),
        "19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1"
    );
}

#[tokio::test]
async fn another_key_takes_over_in_a_block_that_the_former_one_signs() {
    let mut bench = Bench::new().await;
    bench.accepted("one", register("texts")).await;
    bench.ledger.close().await;
    let (old, next) = (bench.options().key, bench.directory.path().join("next.key"));
    let change = rotate(&bench.options(), &next, false).await.unwrap();
    assert_eq!(
        (change.height, change.key_id),
        (3, LedgerKey::load(&next).unwrap().id())
    );
    let refused = Ledger::open(bench.options()).await.map(drop).unwrap_err();
    assert!(matches!(refused, OpenError::OtherKey { .. }), "{refused}");
    std::fs::rename(&next, &old).unwrap();
    bench.reopen().await;
    bench.accepted("two", take("texts", &person("a1"))).await;
    let verified = bench.ledger.verify().await.unwrap();
    assert_eq!((verified.height, verified.key_id), (4, Some(change.key_id)));
    assert!(verified.unvouched_keys.is_empty());
    let mut follower = bench.ledger.follow(2);
    let block = soon("block", follower.next()).await.unwrap().unwrap();
    assert_eq!((block.height, block.transactions.len()), (3, 0));
}

#[tokio::test]
async fn a_lost_key_is_replaced_by_one_for_which_only_its_operator_vouches() {
    let mut bench = Bench::new().await;
    bench.accepted("one", register("texts")).await;
    let receipt = bench.ledger.receipt().await.unwrap();
    bench.ledger.close().await;
    let key = bench.options().key;
    std::fs::remove_file(&key).unwrap();
    let without = rotate(&bench.options(), &key, false).await.unwrap_err();
    assert!(without.to_string().contains("--lost"), "{without}");
    rotate(&bench.options(), &key, true).await.unwrap();
    bench.reopen().await;
    bench.accepted("two", take("texts", &person("a1"))).await;
    let (old, new) = (receipt.key_id, LedgerKey::load(&key).unwrap().id());
    let later = bench.ledger.receipt().await.unwrap();
    bench.ledger.close().await;
    let file = LedgerFile::open(&bench.path()).await.unwrap();
    let receipts = [receipt, later];
    let verified = file.verify(Depth::Whole, &receipts).await.unwrap();
    assert_eq!(verified.unvouched_keys, [3]);
    assert_eq!(verified.signers, [(old, 2), (new, 4)]);
    // Who vouches for the new key: nobody, whoever knows it, or what it signed elsewhere. The key before does not, nor a stranger's.
    let [receipt, later] = receipts.map(|receipt| [receipt]);
    let unvouched = Err(VerifyError::Unvouched {
        block: 3,
        key_id: new,
    });
    let stranger = Bytes([7; 32]);
    for (trusted, receipts, expected) in [
        (&[][..], &[][..], unvouched.clone()),
        (&[], &receipt, unvouched.clone()),
        (&[old], &receipt, unvouched),
        (&[new], &[], Ok(verified.clone())),
        (&[old, new], &receipt, Ok(verified.clone())),
        (&[], &later, Ok(verified.clone())),
        (&[stranger], &later, Err(VerifyError::NoSigner(stranger))),
    ] {
        assert_eq!(
            verified.clone().vouched_for(trusted, receipts),
            expected,
            "{trusted:?}"
        );
    }
    // Nor is it imported without.
    let mut stream = Vec::new();
    file.export(&mut stream).await.unwrap();
    let copy = LedgerAddress::from(bench.directory.path().join("copy.db"));
    let refused = import(&mut stream.as_slice(), &copy, &[], &[]).await.unwrap_err();
    assert!(refused.to_string().contains("nothing was imported"), "{refused}");
    import(&mut stream.as_slice(), &copy, &[], &[new]).await.unwrap();
}

/// Brings a ledger back to what version 1 wrote: the same transactions, not signed.
async fn as_version_1_wrote_it(bench: &Bench) {
    bench.ledger.close().await;
    std::fs::remove_file(bench.options().key).unwrap();
    let mut connection = connect(bench).await;
    let blocks = blocks::from(&mut session(&mut connection).await, 0, 1_000)
        .await
        .unwrap();
    let mut statements = vec![
        "DROP TRIGGER blocks_never_change".to_owned(),
        "DROP TRIGGER blocks_never_go".to_owned(),
        "ALTER TABLE blocks DROP COLUMN signer".to_owned(),
        "ALTER TABLE blocks DROP COLUMN signature".to_owned(),
        "DELETE FROM _sqlx_migrations WHERE version = 2".to_owned(),
    ];
    let mut previous = [0; 32];
    for block in blocks {
        let body = match serde_json::from_str(&block.body).unwrap() {
            block::Body::Genesis(genesis) => block::Body::Genesis(block::Genesis {
                schema: 1,
                key_id: None,
                ..genesis
            }),
            body => body,
        };
        let body = serde_json::to_string(&body).unwrap();
        let body_hash = block::hash_body(&body);
        let hash = block::hash_header_of_version_1(&previous, block.height, block.timestamp_ms, &body_hash);
        let [previous_hash, body_hash, own] = [previous, body_hash, hash].map(hex::encode);
        statements.push(format!(
            "UPDATE blocks SET previous_hash = x'{previous_hash}', body = '{body}', \
             body_hash = x'{body_hash}', hash = x'{own}' WHERE height = {}",
            block.height
        ));
        previous = hash;
    }
    for guard in sqlx::query("SELECT sql FROM sqlite_schema WHERE type = 'trigger' ORDER BY name")
        .fetch_all(&mut connection)
        .await
        .unwrap()
    {
        statements.push(guard.get(0));
    }
    for statement in statements {
        sqlx::query(AssertSqlSafe(statement))
            .execute(&mut connection)
            .await
            .unwrap();
    }
    connection.close().await.unwrap();
}

#[tokio::test]
async fn a_ledger_that_was_not_signed_is_signed_when_its_operator_says_so_and_loses_nothing() {
    let mut bench = Bench::new().await;
    bench.accepted("one", register("texts")).await;
    let lease = bench.accepted("two", take("texts", &person("a1"))).await;
    as_version_1_wrote_it(&bench).await;
    let before = LedgerFile::open(&bench.path()).await.map(drop).unwrap_err();
    assert!(before.to_string().contains("--adopt-unsigned-ledger"), "{before}");
    let unasked = Ledger::open(bench.options()).await.map(drop).unwrap_err();
    assert!(matches!(unasked, OpenError::NotSigned(_)), "{unasked}");
    let mut options = bench.options();
    options.adopt_unsigned = true;
    bench.ledger = Ledger::open(options).await.unwrap();
    let verified = bench.ledger.verify().await.unwrap();
    assert_eq!((verified.height, verified.transactions), (4, Some(4)));
    assert_eq!(
        verified.key_id,
        Some(LedgerKey::load(&bench.options().key).unwrap().id())
    );
    let found = bench.ledger.transaction(&lease.tx_id).await.unwrap();
    assert_eq!(found, Some(lease));
    bench.ledger.receipt().await.unwrap().check().unwrap();
    bench.reopen().await;
    bench.accepted("three", register("scans")).await;
    assert_eq!(bench.ledger.verify().await.unwrap().height, 5, "signed once");
}

/// Whoever can write the file can change the past, take the signatures out, and wait for the broker to sign all of it anew.
#[tokio::test]
async fn a_ledger_whose_signatures_were_taken_out_is_neither_opened_nor_verified() {
    let bench = Bench::new().await;
    bench.accepted("one", register("texts")).await;
    let key = std::fs::read(bench.options().key).unwrap();
    as_version_1_wrote_it(&bench).await;
    std::fs::write(bench.options().key, key).unwrap();
    let mut connection = connect(&bench).await;
    storage::schema::migrate(&mut storage::Connection::Sqlite(connection))
        .await
        .unwrap();
    let refused = Ledger::open(bench.options()).await.map(drop).unwrap_err();
    assert!(matches!(refused, OpenError::NotSigned(_)), "{refused}");
    let file = LedgerFile::open(&bench.path()).await.unwrap();
    for depth in [Depth::Chain, Depth::Whole] {
        assert_eq!(file.verify(depth, &[]).await, Err(VerifyError::Unsigned));
        let allowed = file.verify_even_unsigned(depth, &[]).await.unwrap();
        assert_eq!((allowed.height, allowed.key_id), (2, None));
    }
    connection = connect(&bench).await;
    let last = blocks::last(&mut session(&mut connection).await).await.unwrap();
    assert_eq!(last.unwrap().seal, None, "nothing was signed");
}

#[tokio::test]
async fn a_ledger_that_was_changed_is_not_signed() {
    let bench = Bench::new().await;
    bench.accepted("one", register("texts")).await;
    as_version_1_wrote_it(&bench).await;
    let mut connection = connect(&bench).await;
    for statement in [
        "DROP TRIGGER blocks_never_change",
        "UPDATE blocks SET body = replace(body, 'Texts', 'Tests') WHERE height = 2",
    ] {
        sqlx::query(statement).execute(&mut connection).await.unwrap();
    }
    connection.close().await.unwrap();
    let mut options = bench.options();
    options.adopt_unsigned = true;
    match Ledger::open(options).await.map(drop).unwrap_err() {
        OpenError::Damaged { error, .. } => assert!(error.to_string().contains("block 2, body"), "{error}"),
        error => panic!("{error}"),
    }
}
