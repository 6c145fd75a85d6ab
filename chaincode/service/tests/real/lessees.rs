//! People of several organisations who lease datasets that others want as well, give them back and lease again, until they are told to
//! stop: the load under which servers are killed. Each notes what it was told, so that the ledger can be held to it.

use crate::client::{Granted, asked, command, granted, refusal};
use crate::real::{LOOK_AGAIN, PATIENCE};
use fabric_gateway_client::{Call, Contract as Chaincode, TransactionError, TransactionId};
use leasehold_chaincode::LeaseState;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// After a lease that was not granted, before the next is asked for.
const PAUSE: Duration = Duration::from_millis(250);
/// Until a load goes on that a killed server has stopped.
const LONG: Duration = Duration::from_secs(90);

/// What they were told.
#[derive(Default)]
pub struct Told {
    pub granted: Vec<Granted>,
    /// Leases that may have been granted.
    pub unknown: Vec<TransactionId>,
    /// Acknowledged to have been given back.
    pub ended: Vec<String>,
    /// By the contract: another has the dataset.
    pub refused: usize,
    /// In a block and invalid, or endorsed on different states: another came before.
    pub conflicts: usize,
    /// What else certainly did not take effect, and why.
    pub failed: BTreeMap<String, usize>,
}

/// All of them.
pub struct Lessees {
    tasks: JoinSet<Told>,
    stop: CancellationToken,
    granted: Arc<Mutex<Vec<Instant>>>,
}

impl Lessees {
    /// One for each chaincode that is given, each a client of an organisation, who lease these datasets in turn.
    pub fn start(clients: Vec<Chaincode>, datasets: &[String]) -> Self {
        let (stop, granted) = (CancellationToken::new(), Arc::<Mutex<Vec<Instant>>>::default());
        let mut tasks = JoinSet::new();
        for (number, chaincode) in clients.into_iter().enumerate() {
            let lessee = Lessee {
                chaincode,
                subject: format!("{:04x}", number + 1).repeat(16),
                times: Arc::clone(&granted),
                told: Told::default(),
                unsure: false,
            };
            tasks.spawn(lessee.lease_and_give_back(number, datasets.to_vec(), stop.clone()));
        }
        Self { tasks, stop, granted }
    }

    /// So many leases more are granted.
    pub async fn go_on(&self, more: usize, what: &str) {
        let count = || self.granted.lock().unwrap().len();
        let before = count();
        let on = async {
            while count() < before + more {
                sleep(LOOK_AGAIN).await;
            }
        };
        timeout(LONG, on)
            .await
            .unwrap_or_else(|_| panic!("{} leases of {more} {what}", count() - before));
    }

    /// The longest time since then in which nobody was granted a lease.
    pub fn longest_pause(&self, since: Instant) -> Duration {
        let granted = self.granted.lock().unwrap();
        let after = granted.iter().copied().filter(|at| *at > since);
        let mut times: Vec<_> = std::iter::once(since).chain(after).collect();
        times.sort_unstable();
        let pauses = times.windows(2).map(|pair| pair[1] - pair[0]);
        pauses.max().unwrap_or_default()
    }

    /// Has them give back what they have, and tell what they were told.
    pub async fn stop(mut self) -> Told {
        self.stop.cancel();
        let mut all = Told::default();
        while let Some(told) = self.tasks.join_next().await {
            let told = told.unwrap();
            all.granted.extend(told.granted);
            all.unknown.extend(told.unknown);
            all.ended.extend(told.ended);
            all.refused += told.refused;
            all.conflicts += told.conflicts;
            for (why, count) in told.failed {
                *all.failed.entry(why).or_default() += count;
            }
        }
        all
    }
}

struct Lessee {
    chaincode: Chaincode,
    subject: String,
    times: Arc<Mutex<Vec<Instant>>>,
    told: Told,
    /// Whether there was ever a lease of which it is not known whether it was granted.
    unsure: bool,
}

impl Lessee {
    async fn lease_and_give_back(
        mut self,
        first: usize,
        datasets: Vec<String>,
        stop: CancellationToken,
    ) -> Told {
        for turn in first.. {
            if self.unsure {
                self.give_back_what_is_there().await;
            }
            if stop.is_cancelled() {
                break;
            }
            let dataset = &datasets[turn % datasets.len()];
            let lease = Call::new("LeaseData").argument(dataset.clone());
            match self.chaincode.submit(&lease.argument(self.subject.clone())).await {
                Ok(committed) => {
                    self.times.lock().unwrap().push(Instant::now());
                    let granted = granted(committed.transaction_id, &committed.result);
                    let lease = granted.lease.clone();
                    self.told.granted.push(granted);
                    self.give_back(&lease).await;
                }
                Err(error) => self.not_granted(&error).await,
            }
        }
        self.told
    }

    async fn not_granted(&mut self, error: &TransactionError) {
        if let Some(transaction) = error.unknown_outcome() {
            self.told.unknown.push(transaction.clone());
            self.unsure = true;
        } else if refusal(error).is_some_and(|code| code == "lease_conflict") {
            self.told.refused += 1;
        } else if error.is_conflict() {
            self.told.conflicts += 1;
        } else {
            let why = format!("{error:?}");
            let why: Vec<_> = why.split(|c: char| !c.is_alphanumeric()).take(2).collect();
            *self.told.failed.entry(why.join(" ")).or_default() += 1;
        }
        sleep(PAUSE).await;
    }

    /// A lease whose grant was never acknowledged may come to be there at any time.
    async fn give_back_what_is_there(&mut self) {
        for state in [LeaseState::Active, LeaseState::Ending] {
            let question = json!({ "question": "leases_of", "subject": self.subject, "state": state });
            let Ok(page) = asked(&self.chaincode, &question).await else {
                continue;
            };
            for lease in page["items"].as_array().unwrap() {
                self.give_back(lease["id"].as_str().unwrap()).await;
            }
        }
    }

    /// As the ledger has it, until it is over: the holder releases, and the cluster confirms.
    async fn give_back(&mut self, lease: &str) {
        let release = json!({ "command": "release", "lease": lease, "subject": self.subject });
        let confirm = json!({ "command": "confirm_end", "lease": lease });
        let mut last = String::new();
        let over = async {
            loop {
                let question = json!({ "question": "lease", "lease": lease });
                let record = asked(&self.chaincode, &question).await.unwrap_or_default();
                let next = match record["state"].as_str() {
                    Some("active") => &release,
                    Some("ending") => &confirm,
                    Some("ended") => return,
                    // At a peer that is behind, or at none.
                    _ => {
                        sleep(LOOK_AGAIN).await;
                        continue;
                    }
                };
                if let Err(error) = self.chaincode.submit(&command(next)).await {
                    last = error.to_string();
                    sleep(LOOK_AGAIN).await;
                }
            }
        };
        timeout(LONG + PATIENCE, over)
            .await
            .unwrap_or_else(|_| panic!("lease {lease} cannot be given back: {last}"));
        self.told.ended.push(lease.to_owned());
    }
}
