//! How a ledger comes to a sudden end in the middle of its work, and goes on.

use super::*;
use std::fs;
use std::path::Path;

#[derive(Debug, Clone)]
pub(super) struct Crash {
    /// How often the submitters wait for something before it; 0: nothing is on its way.
    patience: u32,
    left: Left,
}

/// What is left of the file and its log.
#[derive(Debug, Clone)]
enum Left {
    /// What was written.
    All,
    /// What was acknowledged.
    Acknowledged,
    /// So much of what was added to the log since, in 1/256.
    Part(u8),
}

pub(super) fn crashes() -> impl Strategy<Value = Crash> {
    let patience = prop_oneof![Just(0u32), 1u32..20, 20u32..400, 400u32..20_000];
    let left = prop_oneof![
        2 => Just(Left::All),
        1 => Just(Left::Acknowledged),
        2 => any::<u8>().prop_map(Left::Part),
    ];
    (patience, left).prop_map(|(patience, left)| Crash { patience, left })
}

/// A file and its log.
#[derive(PartialEq, Eq)]
struct Files {
    database: Vec<u8>,
    log: Vec<u8>,
}

impl Files {
    fn of(path: &Path) -> Self {
        Self {
            database: fs::read(path).unwrap(),
            log: fs::read(log(path)).unwrap_or_default(),
        }
    }

    fn write(&self, path: &Path) {
        fs::write(path, &self.database).unwrap();
        fs::write(log(path), &self.log).unwrap();
    }

    /// These, with a part only of what was added to the log before `self`.
    fn torn(mut self, before: Self, part: u8) -> Self {
        // Where the log was brought into the file meanwhile, all of that was flushed before.
        if self.database != before.database {
            return self;
        }
        let same = self
            .log
            .iter()
            .zip(&before.log)
            .take_while(|(new, old)| new == old);
        let same = same.count();
        let cut = same + (self.log.len() - same) * usize::from(part) / 256;
        self.log.truncate(cut);
        self.log.extend(before.log.into_iter().skip(cut));
        self
    }
}

fn log(path: &Path) -> std::path::PathBuf {
    format!("{}-wal", path.display()).into()
}

impl Player<'_> {
    pub(super) async fn crash(&mut self, crash: &Crash) {
        let end = match crash.patience {
            0 => self.at,
            _ => self.history.turns.len(),
        };
        let turns = if end > self.at { self.next(end) } else { &[] };
        let acknowledged = self.path().map(|path| Files::of(&path));
        let answers = if turns.is_empty() {
            None
        } else {
            self.interrupted(turns, crash.patience).await
        };
        let answered = answers.is_some();
        let task = self.ledger.writer.lock().await.take().unwrap();
        task.abort();
        let _ = task.await;
        // What its connection was about ends, and nobody else begins anything.
        let mut other = Connection::open(&self.options.address).await.unwrap();
        let session = other.write().await.unwrap();
        let left = self.path().map(|path| Files::of(&path));
        session.rollback().await.unwrap();
        other.close().await.unwrap();
        if let (Some(before), Some(after)) = (acknowledged, left) {
            let left = match crash.left {
                _ if answered => after,
                Left::All => after,
                Left::Acknowledged => before,
                Left::Part(part) => after.torn(before, part),
            };
            let directory = TempDir::new().unwrap();
            let path = directory.path().join("ledger.db");
            left.write(&path);
            self.options.address = path.into();
            self.directories.push(directory);
        }
        self.ledger = Ledger::open(self.options.clone()).await.unwrap();
        self.ledger.verify().await.unwrap();
        match answers {
            Some(answers) => {
                for (turn, answer) in turns.iter().zip(answers) {
                    self.take(turn, answer);
                }
            }
            None => self.find(turns).await,
        }
    }

    fn path(&self) -> Option<std::path::PathBuf> {
        match &self.options.address {
            LedgerAddress::Sqlite(path) => Some(path.clone()),
            _ => None,
        }
    }

    /// Answers that came in time.
    async fn interrupted(
        &self,
        turns: &[Turn],
        patience: u32,
    ) -> Option<Vec<Result<Committed, SubmitError>>> {
        let mut answers = std::pin::pin!(self.submit(turns));
        for _ in 0..patience {
            tokio::select! {
                biased;
                answers = &mut answers => return Some(answers),
                () = tokio::task::yield_now() => {}
            }
        }
        None
    }

    /// Of what was on its way some are committed, none after one that is not. Whoever waits for an answer asks again; what was refused
    /// before something that is committed was refused then.
    async fn find(&mut self, turns: &[Turn]) {
        let mut found = Vec::new();
        for turn in turns {
            found.push(match turn.verdict {
                Verdict::Accepted(_) => self.ledger.transaction(&turn.context.tx_id).await.unwrap(),
                _ => None,
            });
        }
        let decided = found.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        for (turn, found) in turns.iter().zip(found).take(decided) {
            match (&turn.verdict, found) {
                (Verdict::Accepted(_), None) => panic!("one is half there: {turn:?}"),
                (Verdict::Accepted(_), Some(committed)) => self.take(turn, Ok(committed)),
                _ => self.at += 1,
            }
        }
    }
}
