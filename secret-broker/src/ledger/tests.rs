//! What the embedded ledger promises, over a real file.

mod conformance;
mod crash;
mod disk;
mod exchange;
mod flips;
mod lag;
mod line;
mod model;
mod noting;
mod older;
mod opening;
mod postgres;
mod receipts;
mod signing;
mod tamper;
mod together;
mod vouching;

use super::*;
use futures::future::join_all;
use leasehold_chaincode::{Ciphertext, LeaseState, Metadata, PageRequest, Policy};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tempfile::TempDir;

const START_MS: i64 = 1_760_000_000_000;

/// A ledger in a directory of its own, with a clock that stands until it is moved.
struct Bench {
    address: LedgerAddress,
    directory: TempDir,
    now_ms: Arc<AtomicI64>,
    ledger: Ledger,
}

impl Bench {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut LedgerOptions)) -> Self {
        let directory = TempDir::new().unwrap();
        let address = directory.path().join("ledger.db").into();
        Self::in_directory(directory, address, change).await
    }

    /// A ledger elsewhere, with only its key in the directory.
    async fn at(address: LedgerAddress, change: impl FnOnce(&mut LedgerOptions)) -> Self {
        Self::in_directory(TempDir::new().unwrap(), address, change).await
    }

    async fn in_directory(
        directory: TempDir,
        address: LedgerAddress,
        change: impl FnOnce(&mut LedgerOptions),
    ) -> Self {
        let now_ms = Arc::new(AtomicI64::new(START_MS));
        let mut options = options_on(address.clone(), &directory, &now_ms);
        change(&mut options);
        let ledger = Ledger::open(options).await.unwrap();
        enrol(&ledger).await;
        Self {
            address,
            directory,
            now_ms,
            ledger,
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("ledger.db")
    }

    fn options(&self) -> LedgerOptions {
        options_on(self.address.clone(), &self.directory, &self.now_ms)
    }

    async fn reopen(&mut self) {
        self.ledger.close().await;
        self.ledger = Ledger::open(self.options()).await.unwrap();
    }

    async fn accepted(&self, tx_id: &str, command: Command) -> Committed {
        self.ledger.submit(submission(tx_id, command)).await.unwrap()
    }

    async fn refused(&self, tx_id: &str, command: Command) -> Refusal {
        match self.ledger.submit(submission(tx_id, command)).await {
            Err(SubmitError::Refused(refusal)) => refusal,
            other => panic!("not refused: {other:?}"),
        }
    }

    fn height(&self) -> u64 {
        *self.ledger.heights().borrow()
    }
}

fn options_at(directory: &TempDir, now_ms: &Arc<AtomicI64>) -> LedgerOptions {
    options_on(directory.path().join("ledger.db").into(), directory, now_ms)
}

fn options_on(address: LedgerAddress, directory: &TempDir, now_ms: &Arc<AtomicI64>) -> LedgerOptions {
    let now_ms = Arc::clone(now_ms);
    let mut options = LedgerOptions::new(address, "UiSMSP".parse().unwrap());
    options.key = directory.path().join("ledger.key");
    options.clock = Arc::new(move || now_ms.load(Ordering::SeqCst));
    options
}

/// The organisation joins and names its cluster.
fn enrolment() -> [(&'static str, Command); 2] {
    let join = Command::JoinConsortium {
        broker: "https://broker.example.org".to_owned(),
        keys: Vec::new(),
    };
    let cluster = Command::RegisterCluster {
        name: "main".to_owned(),
        keys: Vec::new(),
    };
    [("join", join), ("cluster", cluster)]
}

/// A ledger at this path, as the broker opens it, whose organisation has enrolled.
async fn opened(path: &Path) -> Ledger {
    let ledger = Ledger::open(LedgerOptions::new(path, "UiSMSP".parse().unwrap()))
        .await
        .unwrap();
    enrol(&ledger).await;
    ledger
}

/// Both in block 1.
async fn enrol(ledger: &Ledger) {
    let enrolling = enrolment().map(|(tx_id, command)| ledger.submit(submission(tx_id, command)));
    for enrolled in join_all(enrolling).await {
        enrolled.unwrap();
    }
}

fn submission(tx_id: &str, command: Command) -> Submission {
    Submission {
        tx_id: tx_id.parse().unwrap(),
        command,
    }
}

fn register(name: &str) -> Command {
    Command::RegisterDataset {
        name: name.to_owned(),
        metadata: Metadata {
            title: "Texts".to_owned(),
            ..Metadata::default()
        },
        policy: Policy::exclusive(3_600),
        volume_ciphertext: Ciphertext("bm90aGluZyB0byByZWFk".to_owned()),
        key_version: 1,
    }
}

fn person(digits: &str) -> String {
    digits.repeat(32)
}

fn take(dataset: &str, subject: &str) -> Command {
    Command::Lease {
        dataset: dataset.to_owned(),
        subject: subject.to_owned(),
        mode: None,
        ttl_seconds: Some(60),
        groups: Vec::new(),
        wait: false,
        cluster: None,
    }
}

fn release(lease: &str, subject: &str) -> Command {
    Command::Release {
        lease: lease.to_owned(),
        subject: subject.to_owned(),
    }
}

fn lease_id(committed: &Committed) -> String {
    committed.events[0].lease.as_ref().unwrap().id.to_string()
}

/// What a connection to the file sees, for the ledger's own statements.
async fn session(connection: &mut sqlx::SqliteConnection) -> storage::Session<'_> {
    storage::Session::Sqlite(sqlx::Connection::begin(connection).await.unwrap(), None)
}

/// Waits for something that must come.
async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .unwrap_or_else(|_| panic!("no {what} in 20 s"))
}

#[tokio::test]
async fn what_is_committed_is_read_and_survives_a_restart() {
    let mut bench = Bench::new().await;
    let registered = bench.accepted("one", register("texts")).await;
    let leased = bench.accepted("two", take("texts", &person("a1"))).await;
    assert_eq!((registered.height, leased.height), (2, 3));
    for _ in 0..2 {
        let dataset = registered.events[0].dataset.as_ref().unwrap();
        let holders = bench.ledger.holders(dataset).await.unwrap();
        let lease = leased.events[0].lease.as_deref().unwrap();
        assert_eq!(holders, std::slice::from_ref(lease));
        assert_eq!(
            (lease.granted_at_ms(), lease.due_at_ms()),
            (START_MS, START_MS + 60_000)
        );
        let history = bench
            .ledger
            .history(dataset, &PageRequest::default())
            .await
            .unwrap();
        assert_eq!(history.items.len(), 2);
        assert_eq!(bench.ledger.verify().await.unwrap().height, 3);
        bench.reopen().await;
    }
}

#[tokio::test]
async fn a_refused_command_leaves_no_trace() {
    let bench = Bench::new().await;
    bench.accepted("one", register("texts")).await;
    let before = bench.ledger.verify().await.unwrap();
    assert_eq!(
        bench.refused("two", register("texts")).await.code(),
        "dataset_name_taken"
    );
    assert_eq!(bench.ledger.verify().await.unwrap(), before);
    assert_eq!(
        bench.ledger.transaction(&"two".parse().unwrap()).await.unwrap(),
        None
    );
}

#[tokio::test]
async fn the_same_transaction_is_committed_once_and_answered_alike() {
    let mut bench = Bench::new().await;
    bench.accepted("one", register("texts")).await;
    let first = bench.accepted("two", take("texts", &person("a1"))).await;
    let (again, too) = tokio::join!(
        bench.accepted("two", take("texts", &person("a1"))),
        bench.accepted("two", take("texts", &person("a1")))
    );
    assert_eq!((&again, &too), (&first, &first));
    bench.reopen().await;
    assert_eq!(bench.accepted("two", take("texts", &person("a1"))).await, first);
    assert_eq!(
        bench.ledger.transaction(&"two".parse().unwrap()).await.unwrap(),
        Some(first)
    );
    let other = bench.refused("two", take("texts", &person("b0"))).await;
    assert_eq!(
        other,
        Refusal::TransactionReused {
            tx_id: "two".to_owned()
        }
    );
    assert_eq!(bench.height(), 3);
}

#[tokio::test]
async fn a_transaction_submitted_twice_at_once_is_committed_once() {
    let bench = Bench::new().await;
    let (one, other) = tokio::join!(
        bench.accepted("one", register("texts")),
        bench.accepted("one", register("texts"))
    );
    assert_eq!(one, other);
    assert_eq!(bench.ledger.verify().await.unwrap().transactions, Some(2 + 1));
}

#[tokio::test]
async fn of_a_hundred_who_want_an_exclusive_dataset_one_gets_it() {
    race(100).await;
}

#[tokio::test]
async fn of_twelve_who_want_an_exclusive_dataset_one_gets_it() {
    race(12).await;
}

/// All at once: one is granted, the others are refused in the contract's words, none is lost, and the ledger says the same later.
async fn race(contenders: usize) {
    let mut bench = Bench::new().await;
    let registered = bench.accepted("register", register("texts")).await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..contenders {
        let ledger = bench.ledger.clone();
        let submission = submission(
            &format!("race-{number}"),
            take("texts", &person(&format!("{number:02}"))),
        );
        tasks.spawn(async move { ledger.submit(submission).await });
    }
    let outcomes = soon("end of the race", tasks.join_all()).await;
    assert_eq!(outcomes.len(), contenders);
    let (granted, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert_eq!(granted.len(), 1);
    for refused in refused.into_iter().filter_map(Result::err) {
        assert!(
            matches!(refused, SubmitError::Refused(Refusal::LeaseConflict { .. })),
            "{refused:?}"
        );
    }
    bench.reopen().await;
    let holders = bench
        .ledger
        .holders(registered.events[0].dataset.as_ref().unwrap())
        .await
        .unwrap();
    assert_eq!(holders.len(), 1);
    assert_eq!(bench.ledger.verify().await.unwrap().transactions, Some(4));
}

#[tokio::test]
async fn what_waits_together_is_committed_together() {
    let bench = Bench::new().await;
    // One thread: all submit before the writer takes the first.
    let waiting = (0..50).map(|number| {
        let (ledger, name) = (bench.ledger.clone(), format!("d{number}"));
        async move {
            ledger
                .submit(submission(&name, register(&name)))
                .await
                .unwrap()
                .height
        }
    });
    let heights: BTreeSet<u64> = join_all(waiting).await.into_iter().collect();
    assert_eq!(heights, BTreeSet::from([2]), "fifty transactions, one flush");
    assert_eq!(bench.ledger.verify().await.unwrap().transactions, Some(2 + 50));
}

#[tokio::test]
async fn a_full_queue_says_so_at_once() {
    let bench = Bench::with(|options| options.queue = 2).await;
    let waiting = (0..5).map(|number| {
        let (ledger, name) = (bench.ledger.clone(), format!("d{number}"));
        async move { ledger.submit(submission(&name, register(&name))).await }
    });
    let outcomes = join_all(waiting).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 2);
    assert_eq!(
        outcomes
            .iter()
            .filter(|outcome| **outcome == Err(SubmitError::Busy))
            .count(),
        3
    );
    bench.accepted("later", register("later")).await;
}

#[tokio::test]
async fn a_submission_whose_sender_went_away_is_committed_all_the_same() {
    let bench = Bench::new().await;
    let mut heights = bench.ledger.heights();
    let ledger = bench.ledger.clone();
    let task = tokio::spawn(async move { ledger.submit(submission("one", register("texts"))).await });
    tokio::task::yield_now().await;
    task.abort();
    soon("block", heights.wait_for(|height| *height == 2))
        .await
        .unwrap();
    assert!(
        bench
            .ledger
            .transaction(&"one".parse().unwrap())
            .await
            .unwrap()
            .is_some()
    );
}

#[tokio::test]
async fn time_on_the_ledger_never_goes_back() {
    let bench = Bench::new().await;
    let first = bench.accepted("one", register("texts")).await;
    bench.now_ms.fetch_sub(3_600_000, Ordering::SeqCst);
    let second = bench.accepted("two", register("scans")).await;
    assert_eq!(second.timestamp_ms, first.timestamp_ms);
    bench.ledger.verify().await.unwrap();
}

#[tokio::test]
async fn a_lease_is_due_and_expires_by_the_ledgers_clock() {
    let bench = Bench::new().await;
    bench.accepted("one", register("texts")).await;
    let lease = lease_id(&bench.accepted("two", take("texts", &person("a1"))).await);
    let expire = Command::Expire { lease: lease.clone() };
    assert_eq!(bench.refused("early", expire.clone()).await.code(), "not_expired");
    let now_ms = bench.now_ms.fetch_add(60_000, Ordering::SeqCst) + 60_000;
    let due = bench
        .ledger
        .leases_due(LeaseState::Active, now_ms, &PageRequest::default())
        .await
        .unwrap()
        .items;
    assert_eq!(due.len(), 1);
    bench.accepted("late", expire).await;
    let lease = bench
        .ledger
        .lease(&lease.parse().unwrap())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(lease.state, LeaseState::Ending);
}

#[tokio::test]
async fn a_snapshot_holds_still_and_its_height_is_where_following_goes_on() {
    let bench = Bench::new().await;
    let dataset = bench.accepted("one", register("texts")).await.events[0]
        .dataset
        .clone()
        .unwrap();
    let mut snapshot = bench.ledger.snapshot().await.unwrap();
    let lease = bench.accepted("two", take("texts", &person("a1"))).await;
    assert_eq!((snapshot.height(), snapshot.timestamp_ms()), (2, START_MS));
    assert_eq!(snapshot.holders(&dataset).await.unwrap(), []);
    let mut follower = bench.ledger.follow(snapshot.height());
    let block = soon("block", follower.next()).await.unwrap().unwrap();
    assert_eq!(block.transactions.len(), 1);
    assert_eq!(block.transactions[0].result, lease.result);
}

#[tokio::test]
async fn a_follower_gets_every_block_once_and_in_order() {
    let bench = Bench::with(|options| options.block_transactions = 3).await;
    for number in 0..40 {
        let name = format!("past-{number}");
        bench.accepted(&name, register(&name)).await;
    }
    let mut follower = bench.ledger.follow(1);
    let ledger = bench.ledger.clone();
    let writing = tokio::spawn(async move {
        for number in 0..40 {
            let name = format!("live-{number}");
            ledger.submit(submission(&name, register(&name))).await.unwrap();
        }
    });
    let (mut expected, mut transactions) = (2, 0);
    while transactions < 80 {
        let block = soon("block", follower.next()).await.unwrap().unwrap();
        assert_eq!(block.height, expected);
        expected += 1;
        transactions += block.transactions.len();
    }
    writing.await.unwrap();
    assert_eq!(transactions, 80);
    bench.ledger.close().await;
    assert!(soon("end", follower.next()).await.unwrap().is_none());
}
