//! The contract's random histories, played on the ledger too: same answers, same bytes of state, through restarts, rebuilds and
//! crashes.
//!
//! A crash is made in this process: the writer's task is dropped wherever it waits, with submissions on their way, and the file and
//! its write-ahead log go on as copies of what they were then, or with a part only of what was not acknowledged yet, as after a loss
//! of power. What the system's own buffers lose is not shown here; processes that are killed are in [`super::crash`].

mod crash;

use super::*;
use crash::{Crash, crashes};
use leasehold_chaincode::{MemoryState, Question, StateReader};
use leasehold_model::{History, MSPS, Tally, Turn, Verdict, cases, play, plays};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::TestRunner;

/// Most commands that are submitted together.
const TOGETHER: usize = 8;

/// What happens to a ledger in the course of a history.
#[derive(Debug, Clone)]
enum Trouble {
    Restart,
    Rebuild,
    Settle,
    Crash(Crash),
}

fn troubles() -> impl Strategy<Value = Vec<(Index, Trouble)>> {
    let trouble = prop_oneof![
        1 => Just(Trouble::Restart),
        1 => Just(Trouble::Rebuild),
        1 => Just(Trouble::Settle),
        4 => crashes().prop_map(Trouble::Crash),
    ];
    prop::collection::vec((any::<Index>(), trouble), 0..6)
}

/// A ledger that plays a history.
struct Player<'a> {
    history: &'a History,
    options: LedgerOptions,
    ledger: Ledger,
    now_ms: Arc<AtomicI64>,
    /// Files of the ledgers that crashed, and of this one.
    directories: Vec<TempDir>,
    /// What was acknowledged, by turn.
    acknowledged: Vec<Option<Committed>>,
    /// Next turn.
    at: usize,
    /// What the turns so far lead to.
    state: MemoryState,
}

impl<'a> Player<'a> {
    async fn new(history: &'a History, address: Option<LedgerAddress>) -> Self {
        let directory = TempDir::new().unwrap();
        let now_ms = Arc::new(AtomicI64::new(START_MS));
        let file = || directory.path().join("ledger.db").into();
        let mut options = options_on(address.unwrap_or_else(file), &directory, &now_ms);
        options.contract = history.contract;
        options.callers = MSPS.map(|msp| msp.parse().unwrap()).to_vec();
        Self {
            history,
            ledger: Ledger::open(options.clone()).await.unwrap(),
            options,
            now_ms,
            directories: vec![directory],
            acknowledged: vec![None; history.turns.len()],
            at: 0,
            state: MemoryState::default(),
        }
    }

    async fn play(mut self, troubles: &[(Index, Trouble)]) {
        let mut troubles: Vec<_> = troubles
            .iter()
            .map(|(index, trouble)| (index.index(self.history.turns.len()), trouble))
            .collect();
        troubles.sort_by_key(|(at, _)| *at);
        for (at, trouble) in troubles {
            self.play_until(at).await;
            match trouble {
                Trouble::Restart => self.reopen().await,
                Trouble::Rebuild => drop(self.ledger.rebuild().await.unwrap()),
                Trouble::Settle => self.ledger.settle().await,
                Trouble::Crash(crash) => self.crash(crash).await,
            }
            self.says_what_memory_says().await;
        }
        self.play_until(self.history.turns.len()).await;
        assert_eq!(self.state, self.history.state);
        self.answers_what_memory_answers().await;
        let verified = self.ledger.verify().await.unwrap();
        let committed = self.acknowledged.iter().flatten().count();
        assert_eq!(verified.transactions, u64::try_from(committed).ok());
        assert_eq!(self.ledger.rebuild().await.unwrap(), verified);
        self.reopen().await;
        assert_eq!(self.ledger.verify().await.unwrap(), verified);
        self.says_what_memory_says().await;
        self.ledger.close().await;
    }

    async fn reopen(&mut self) {
        self.ledger.close().await;
        self.ledger = Ledger::open(self.options.clone()).await.unwrap();
    }

    /// Those that have the next one's time, up to a turn.
    fn next(&self, end: usize) -> &'a [Turn] {
        let turns = &self.history.turns[self.at..end];
        let at_once = |turn: &&Turn| turn.context.timestamp_ms == turns[0].context.timestamp_ms;
        let count = turns.iter().take(TOGETHER).take_while(at_once).count();
        &turns[..count]
    }

    fn submit(&self, turns: &[Turn]) -> impl Future<Output = Vec<Result<Committed, SubmitError>>> + use<> {
        self.now_ms.store(turns[0].context.timestamp_ms, Ordering::SeqCst);
        let ledger = self.ledger.clone();
        let submissions: Vec<_> = turns
            .iter()
            .map(|turn| Submission {
                tx_id: turn.context.tx_id.clone(),
                command: turn.command.clone(),
            })
            .collect();
        async move { join_all(submissions.into_iter().map(|one| ledger.submit(one))).await }
    }

    async fn play_until(&mut self, end: usize) {
        while self.at < end {
            let turns = self.next(end);
            let answers = self.submit(turns).await;
            for (turn, answer) in turns.iter().zip(answers) {
                self.take(turn, answer);
            }
        }
    }

    /// The ledger answers as memory did.
    fn take(&mut self, turn: &Turn, answer: Result<Committed, SubmitError>) {
        match (&turn.verdict, answer) {
            (Verdict::Accepted(outcome), Ok(committed)) => {
                assert_eq!(committed.tx_id, turn.context.tx_id);
                assert_eq!(committed.timestamp_ms, turn.context.timestamp_ms);
                assert_eq!(committed.events, outcome.events);
                assert_eq!(committed.result, outcome.result);
                self.state.apply(&outcome.writes);
                self.acknowledged[self.at] = Some(committed);
            }
            (Verdict::Refused(refusal), Err(SubmitError::Refused(refused))) => assert_eq!(refused, *refusal),
            (Verdict::Again(first), Ok(committed)) => {
                assert_eq!(self.acknowledged[*first].as_ref(), Some(&committed));
            }
            (expected, answer) => panic!("{:?}: {answer:?}, in memory {expected:?}", turn.command),
        }
        self.at += 1;
    }

    /// Every key has the bytes that it has in memory, and there are no others; and every acknowledged transaction is there.
    async fn says_what_memory_says(&self) {
        let keys: Vec<_> = self.state.iter().map(|(key, _)| key.to_owned()).collect();
        let mut session = self.ledger.reads.read().await.unwrap();
        let found = derived::values(&mut session, &keys).await.unwrap();
        for (key, value) in self.state.iter() {
            let found = found.get(key).map(|value| String::from_utf8_lossy(value));
            assert_eq!(found.as_deref(), Some(&*String::from_utf8_lossy(value)), "{key}");
        }
        drop(session);
        self.ledger.settle().await;
        let mut session = self.ledger.reads.read().await.unwrap();
        let order = storage::rows::order(&mut session).await.unwrap();
        let rows = storage::rows::after(&mut session, order, None, 1_000_000).await;
        assert_eq!(rows.unwrap().len(), keys.len());
        drop(session);
        for committed in self.acknowledged.iter().flatten() {
            let found = self.ledger.transaction(&committed.tx_id).await.unwrap();
            assert_eq!(found.as_ref(), Some(committed));
        }
    }

    /// Whoever asks gets the same answer.
    async fn answers_what_memory_answers(&self) {
        let mut session = self.ledger.reads.read().await.unwrap();
        for question in questions(&self.state) {
            let found = loaded::answer(&mut session, |state| question.answer(state)).await;
            let expected = question.answer(&self.state).unwrap();
            assert_eq!(found.unwrap(), expected, "{question:?}");
        }
    }
}

/// About everything that is in a state.
fn questions(state: &MemoryState) -> Vec<Question> {
    let page = PageRequest::default();
    let mut questions = vec![
        Question::Datasets { page: page.clone() },
        Question::Organisations { page: page.clone() },
        Question::Traces { page: page.clone() },
        Question::Consortium {},
    ];
    for lease_state in [LeaseState::Active, LeaseState::Ending, LeaseState::Ended] {
        questions.push(Question::LeasesIn {
            state: lease_state,
            page: page.clone(),
        });
    }
    for msp in MSPS.map(|msp| -> Msp { msp.parse().unwrap() }) {
        questions.extend([
            Question::OrganisationHistory {
                msp: msp.clone(),
                page: page.clone(),
            },
            Question::Clusters {
                msp: msp.clone(),
                page: page.clone(),
            },
            Question::DatasetsOf {
                owner: msp.clone(),
                page: page.clone(),
            },
            Question::TracesBy {
                organisation: msp,
                page: page.clone(),
            },
        ]);
    }
    let datasets = state.range("dataset/", "dataset0", usize::MAX).unwrap();
    for (key, _) in datasets {
        let dataset: leasehold_chaincode::DatasetId = key["dataset/".len()..].parse().unwrap();
        questions.extend([
            Question::History {
                dataset: dataset.clone(),
                page: page.clone(),
            },
            Question::LeasesOn {
                dataset: dataset.clone(),
                page: page.clone(),
            },
            Question::CodeApprovals {
                dataset: dataset.clone(),
                page: page.clone(),
            },
            Question::Volume { dataset },
        ]);
    }
    let leases = state.range("lease/", "lease0", usize::MAX).unwrap();
    for (key, _) in leases {
        let lease: leasehold_chaincode::LeaseId = key["lease/".len()..].parse().unwrap();
        let page = page.clone();
        questions.push(Question::LeaseHistory { lease, page });
    }
    questions
}

fn runner(usually: u32) -> TestRunner {
    TestRunner::new(ProptestConfig {
        cases: cases(usually),
        failure_persistence: None,
        // Each is long, and its crashes fall otherwise the next time.
        max_shrink_iters: 20,
        ..ProptestConfig::default()
    })
}

/// Plays drawn histories on ledgers made for each.
pub(super) fn played(usually: u32, address: impl AsyncFn() -> Option<LedgerAddress>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let tally = std::cell::RefCell::new(Tally::default());
    let histories = (plays(), troubles());
    let outcome = runner(usually).run(&histories, |(steps, troubles)| {
        let history = play(&steps, leasehold_model::Ledger::Embedded, &mut tally.borrow_mut());
        runtime.block_on(async {
            Player::new(&history, address().await).await.play(&troubles).await;
        });
        Ok(())
    });
    println!("{}", tally.into_inner());
    outcome.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn the_ledger_comes_to_the_same_bytes_as_memory_whatever_happens_to_it() {
    played(12, async || None);
}
