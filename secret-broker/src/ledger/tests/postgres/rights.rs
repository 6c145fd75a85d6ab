//! With how little a broker's role does, and how it logs in.

use super::*;
use std::fs;

/// As the ledger guide has them.
const GRANTS: &str = "
    CREATE ROLE broker LOGIN;
    GRANT USAGE ON SCHEMA leasehold TO broker;
    GRANT SELECT ON leasehold._sqlx_migrations TO broker;
    GRANT SELECT, INSERT ON leasehold.blocks TO broker;
    GRANT SELECT, INSERT, UPDATE, DELETE ON leasehold.state, leasehold.transactions TO broker;
    CREATE ROLE with_password LOGIN PASSWORD 'open sesame' IN ROLE broker;
";

#[tokio::test]
async fn a_broker_that_may_only_append_serves_and_cannot_take_the_guards_away() {
    let Some(server) = Server::start("rights in PostgreSQL").await else {
        return;
    };
    let database = server.database().await;
    let missing = LedgerFile::open(&database.address()).await.map(drop).unwrap_err();
    assert!(matches!(missing, OpenError::Missing { .. }), "{missing}");
    prepare(&database.address()).await.unwrap();
    server::run(&mut database.connect().await, GRANTS).await;
    let bench = Bench::at(database.of("broker").parse().unwrap(), |_| {}).await;
    bench.accepted("one", register("texts")).await;
    bench.ledger.verify().await.unwrap();
    bench.ledger.rebuild().await.unwrap();
    bench.ledger.close().await;
    let mut broker = <sqlx::PgConnection as sqlx::Connection>::connect(&database.of("broker"))
        .await
        .unwrap();
    for statement in [
        "UPDATE leasehold.blocks SET timestamp_ms = 0",
        "DELETE FROM leasehold.blocks",
        "TRUNCATE leasehold.blocks",
        "ALTER TABLE leasehold.blocks DISABLE TRIGGER blocks_stay",
        "DROP TABLE leasehold.blocks",
    ] {
        let refused = sqlx::raw_sql(statement).execute(&mut broker).await;
        let refused = refused.map(drop).unwrap_err().to_string();
        assert!(
            refused.contains("permission denied") || refused.contains("must be owner"),
            "{statement}: {refused}"
        );
    }
    log_in(&database, &bench).await;
    drop(broker);
}

async fn log_in(database: &Database, bench: &Bench) {
    let file = bench.directory.path().join("password");
    let url = format!(
        "{}&password_file={}",
        database.of("with_password"),
        file.display()
    );
    let mut options = bench.options();
    options.address = url.parse().unwrap();
    let missing = Ledger::open(options.clone())
        .await
        .map(drop)
        .unwrap_err()
        .to_string();
    assert!(missing.contains("password file"), "{missing}");
    fs::write(&file, "hunter2\n").unwrap();
    let wrong = Ledger::open(options.clone())
        .await
        .map(drop)
        .unwrap_err()
        .to_string();
    assert!(
        wrong.contains("authentication failed") && !wrong.contains("hunter2"),
        "{wrong}"
    );
    fs::write(&file, "open sesame\n").unwrap();
    let ledger = Ledger::open(options).await.unwrap();
    ledger.submit(submission("two", register("scans"))).await.unwrap();
    ledger.close().await;
}
