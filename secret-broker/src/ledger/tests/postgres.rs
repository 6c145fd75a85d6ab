//! The same promises over a real PostgreSQL, which several brokers share.

mod crash;
mod disk;
mod rights;
mod servers;
mod tamper;
mod tls;
mod trust;

use super::*;
use crate::ledger::LedgerAddress;
use leasehold_databases::postgres::{self as server, Database, Server};
use nix::sys::signal::Signal;

trait Address {
    fn address(&self) -> LedgerAddress;
}

impl Address for Database {
    fn address(&self) -> LedgerAddress {
        self.url.parse().unwrap()
    }
}

impl Bench {
    /// On a new database.
    async fn on(database: &Database) -> Self {
        Self::at(database.address(), |_| {}).await
    }

    /// Its server is not there: who opens the ledger is told which one could not be.
    async fn is_not_opened(&self) {
        let refused = Ledger::open(self.options()).await.map(drop);
        let refused = refused.unwrap_err().to_string();
        assert!(
            refused.contains("cannot open the ledger at postgres://"),
            "{refused}"
        );
    }

    /// Another broker of the same ledger: same key, a clock of its own.
    async fn replica(&self) -> (Ledger, Arc<AtomicI64>) {
        let now_ms = Arc::new(AtomicI64::new(START_MS));
        let clock = Arc::clone(&now_ms);
        let mut options = self.options();
        options.clock = Arc::new(move || clock.load(Ordering::SeqCst));
        (Ledger::open(options).await.unwrap(), now_ms)
    }
}

#[tokio::test]
async fn every_promise_of_the_contract_that_one_organisation_can_see_holds_in_postgresql() {
    let Some(server) = server::shared("conformance in PostgreSQL").await else {
        return;
    };
    let bench = Bench::on(&server.database().await).await;
    conformance::every_promise_holds(bench).await;
}

#[test]
fn the_ledger_in_postgresql_comes_to_the_same_bytes_as_memory_whatever_happens_to_its_brokers() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let Some(server) = runtime.block_on(server::shared("random histories in PostgreSQL")) else {
        return;
    };
    model::played(6, async || Some(server.database().await.address()));
}

#[tokio::test]
async fn twelve_who_wait_for_an_exclusive_dataset_at_two_brokers_get_it_one_after_the_other() {
    wait_in_line(12, 5).await;
}

#[tokio::test]
async fn a_hundred_who_wait_for_an_exclusive_dataset_at_two_brokers_get_it_one_after_the_other() {
    wait_in_line(100, 60).await;
}

async fn wait_in_line(contenders: usize, most_waiting: u32) {
    let Some(server) = server::shared("waiting line in PostgreSQL").await else {
        return;
    };
    let bench = Bench::on(&server.database().await).await;
    let (other, _) = bench.replica().await;
    line::race([&bench.ledger, &other], contenders, most_waiting).await;
    other.close().await;
    bench.ledger.close().await;
}

#[tokio::test]
async fn of_twelve_who_want_an_exclusive_dataset_at_two_brokers_one_gets_it() {
    race(12).await;
}

#[tokio::test]
async fn of_a_hundred_who_want_an_exclusive_dataset_at_two_brokers_one_gets_it() {
    race(100).await;
}

async fn race(contenders: usize) {
    let Some(server) = server::shared("race in PostgreSQL").await else {
        return;
    };
    let bench = Bench::on(&server.database().await).await;
    let (other, _) = bench.replica().await;
    let registered = bench.accepted("register", register("texts")).await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..contenders {
        let ledger = if number % 2 == 0 { &bench.ledger } else { &other }.clone();
        let taken = take("texts", &person(&format!("{number:02}")));
        let submission = submission(&format!("race-{number}"), taken);
        tasks.spawn(async move { ledger.submit(submission).await });
    }
    let outcomes = soon("end of the race", tasks.join_all()).await;
    let (granted, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert_eq!((granted.len(), refused.len()), (1, contenders - 1));
    for refused in refused.into_iter().filter_map(Result::err) {
        assert!(
            matches!(refused, SubmitError::Refused(Refusal::LeaseConflict { .. })),
            "{refused:?}"
        );
    }
    let dataset = registered.events[0].dataset.as_ref().unwrap();
    for ledger in [&bench.ledger, &other] {
        assert_eq!(ledger.holders(dataset).await.unwrap().len(), 1);
        assert_eq!(ledger.verify().await.unwrap().transactions, Some(4));
    }
    other.close().await;
}

#[tokio::test]
async fn a_transaction_submitted_at_two_brokers_at_once_is_committed_once() {
    let Some(server) = server::shared("transactions at two brokers").await else {
        return;
    };
    let bench = Bench::on(&server.database().await).await;
    let (other, _) = bench.replica().await;
    for number in 0..20 {
        let (tx_id, name) = (format!("t{number}"), format!("d{number}"));
        let (one, two) = tokio::join!(
            bench.ledger.submit(submission(&tx_id, register(&name))),
            other.submit(submission(&tx_id, register(&name)))
        );
        assert_eq!(one.unwrap(), two.unwrap());
    }
    assert_eq!(other.verify().await.unwrap().transactions, Some(2 + 20));
    other.close().await;
}

#[tokio::test]
async fn time_never_goes_back_whatever_two_brokers_clocks_say() {
    let Some(server) = server::shared("two brokers' clocks").await else {
        return;
    };
    let bench = Bench::on(&server.database().await).await;
    let (behind, now_ms) = bench.replica().await;
    now_ms.store(START_MS - 3_600_000, Ordering::SeqCst);
    bench.now_ms.fetch_add(1_000, Ordering::SeqCst);
    let first = bench.accepted("one", register("texts")).await;
    let second = behind.submit(submission("two", register("scans"))).await.unwrap();
    assert_eq!(
        (first.timestamp_ms, second.timestamp_ms),
        (START_MS + 1_000, START_MS + 1_000)
    );
    behind.verify().await.unwrap();
    behind.close().await;
}

#[tokio::test]
async fn followers_at_two_brokers_get_every_block_once_and_in_order() {
    let Some(server) = server::shared("followers at two brokers").await else {
        return;
    };
    let bench = Bench::on(&server.database().await).await;
    let (other, _) = bench.replica().await;
    let mut followers = [bench.ledger.follow(1), other.follow(1)];
    let writing = [bench.ledger.clone(), other.clone()].map(|ledger| {
        tokio::spawn(async move {
            let run = uuid::Uuid::new_v4();
            for number in 0..25 {
                let name = format!("d{number}-{}", &run.to_string()[..8]);
                ledger.submit(submission(&name, register(&name))).await.unwrap();
            }
        })
    });
    for follower in &mut followers {
        let (mut expected, mut transactions) = (2, 0);
        while transactions < 50 {
            let block = soon("block", follower.next()).await.unwrap().unwrap();
            assert_eq!(block.height, expected);
            expected += 1;
            transactions += block.transactions.len();
        }
        assert_eq!(transactions, 50);
    }
    for task in writing {
        task.await.unwrap();
    }
    soon("touch", async {
        while !other.is_current() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    other.close().await;
    assert!(soon("end", followers[1].next()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_ledger_goes_from_a_file_to_postgresql_and_back_with_the_same_blocks() {
    let Some(server) = server::shared("export and import in PostgreSQL").await else {
        return;
    };
    let (file, stream, receipt) = exchange::exported().await;
    let database = server.database().await;
    let address = database.address();
    let imported = import(&mut stream.as_slice(), &address, &[receipt], &[])
        .await
        .unwrap();
    let stored = LedgerFile::open(&address).await.unwrap();
    assert_eq!(stored.verify(Depth::Whole, &[]).await.unwrap(), imported);
    let mut again = Vec::new();
    stored.export(&mut again).await.unwrap();
    assert_eq!(again, stream);
    let twice = import(&mut stream.as_slice(), &address, &[], &[])
        .await
        .unwrap_err();
    assert!(matches!(twice, ImportError::Exists(_)), "{twice}");
    assert_eq!(rebuild(&address).await.unwrap(), imported);
    let back = file.directory.path().join("back.db");
    import(&mut again.as_slice(), &(&back).into(), &[], &[])
        .await
        .unwrap();
    let mut third = Vec::new();
    let back = LedgerFile::open(&back).await.unwrap();
    back.export(&mut third).await.unwrap();
    assert_eq!(third, stream);
    // And it goes on with its key.
    let mut options = file.options();
    options.address = address;
    let ledger = Ledger::open(options).await.unwrap();
    let next = ledger
        .submit(submission("four", register("scans")))
        .await
        .unwrap();
    assert_eq!(next.height, imported.height + 1);
    ledger.close().await;
}

#[tokio::test]
async fn of_an_import_that_fails_nothing_stays_in_postgresql() {
    let Some(server) = server::shared("a failed import in PostgreSQL").await else {
        return;
    };
    let (_file, stream, _) = exchange::exported().await;
    let address = server.database().await.address();
    let text = String::from_utf8(stream.clone()).unwrap();
    let lines: Vec<_> = text.lines().collect();
    let cut = format!("{}\n", lines[..lines.len() - 1].join("\n"));
    for broken in [cut, text.replacen("Texts", "Tests", 1)] {
        let refused = import(&mut broken.as_bytes(), &address, &[], &[])
            .await
            .unwrap_err();
        assert!(refused.to_string().contains("nothing was imported"), "{refused}");
    }
    import(&mut stream.as_slice(), &address, &[], &[]).await.unwrap();
}

#[tokio::test]
async fn a_broker_takes_the_new_key_that_another_handed_over_to_and_writes_nothing_without_it() {
    let Some(server) = server::shared("another key in PostgreSQL").await else {
        return;
    };
    let bench = Bench::on(&server.database().await).await;
    bench.accepted("one", register("texts")).await;
    let (key, next) = (bench.options().key, bench.directory.path().join("next.key"));
    let changed = rotate(&bench.options(), &next, false).await.unwrap();
    assert_eq!(changed.height, 3);
    match bench.ledger.submit(submission("two", register("scans"))).await {
        Err(SubmitError::Storage(reason)) => {
            assert!(
                reason.contains("nothing was written") && reason.contains("ledger.key"),
                "{reason}"
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(bench.ledger.verify().await.unwrap().height, 3);
    std::fs::rename(&next, &key).unwrap();
    assert_eq!(bench.accepted("two", register("scans")).await.height, 4);
    let verified = bench.ledger.verify().await.unwrap();
    assert_eq!(
        (verified.key_id, verified.unvouched_keys.len()),
        (Some(changed.key_id), 0)
    );
    // One that starts with another key does not write either.
    let mut options = bench.options();
    options.key = bench.directory.path().join("other.key");
    LedgerKey::load_or_create(&options.key).unwrap();
    let refused = Ledger::open(options).await.map(drop).unwrap_err();
    assert!(matches!(refused, OpenError::OtherKey { .. }), "{refused}");
}

#[tokio::test]
async fn brokers_that_start_together_on_an_empty_database_found_one_ledger() {
    let Some(server) = server::shared("founding in PostgreSQL").await else {
        return;
    };
    let database = server.database().await;
    let directory = TempDir::new().unwrap();
    let now_ms = Arc::new(AtomicI64::new(START_MS));
    let options = options_on(database.address(), &directory, &now_ms);
    LedgerKey::load_or_create(&options.key).unwrap();
    let opened = join_all((0..4).map(|_| Ledger::open(options.clone()))).await;
    for ledger in opened {
        let ledger = ledger.unwrap();
        assert_eq!(ledger.verify().await.unwrap().height, 0);
        ledger.close().await;
    }
}

#[tokio::test]
async fn where_the_database_is_down_the_broker_says_so_and_goes_on_when_it_is_back() {
    let Some(server) = Server::start("a database that goes away").await else {
        return;
    };
    let database = server.database().await;
    let bench = Bench::on(&database).await;
    bench.accepted("one", register("texts")).await;
    let mut follower = bench.ledger.follow(bench.height());
    server.end(Signal::SIGINT);
    let down = bench.ledger.submit(submission("two", register("scans"))).await;
    assert!(matches!(down, Err(SubmitError::Storage(_))), "{down:?}");
    assert!(bench.ledger.datasets(&PageRequest::default()).await.is_err());
    bench.is_not_opened().await;
    soon("loss of touch", async {
        while bench.ledger.is_current() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    server.restart().await;
    let committed = soon("recovery", async {
        loop {
            match bench.ledger.submit(submission("two", register("scans"))).await {
                Ok(committed) => break committed,
                Err(SubmitError::Storage(_)) => tokio::time::sleep(Duration::from_millis(50)).await,
                Err(other) => panic!("{other}"),
            }
        }
    })
    .await;
    assert_eq!(committed.height, 3);
    let block = soon("block", follower.next()).await.unwrap().unwrap();
    assert_eq!(block.height, 3);
    soon("touch", async {
        while !bench.ledger.is_current() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    bench.ledger.verify().await.unwrap();
    bench.ledger.close().await;
}
