//! People of several organisations who lease datasets that others want as well, give them back and lease again, until they are told to
//! stop: the load under which servers are killed. Each notes what it was told, so that the ledger can be held to it.

use crate::client::{Answer, Granted, answer, asked, command, refusal};
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
    /// How many of these had a place in the line first.
    pub waited: usize,
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
    /// One for each chaincode that is given, each a client of an organisation, who lease these datasets in turn. Every third stands in
    /// the line where a dataset is taken.
    pub fn start(clients: Vec<Chaincode>, datasets: &[String]) -> Self {
        let (stop, granted) = (CancellationToken::new(), Arc::<Mutex<Vec<Instant>>>::default());
        let mut tasks = JoinSet::new();
        for (number, chaincode) in clients.into_iter().enumerate() {
            let lessee = Lessee {
                chaincode,
                subject: format!("{:04x}", number + 1).repeat(16),
                times: Arc::clone(&granted),
                told: Told::default(),
                waits: number % 3 == 2,
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
            all.waited += told.waited;
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
    waits: bool,
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
            let lease = lease.argument(self.subject.clone());
            let lease = lease.argument(json!({ "wait": self.waits }).to_string());
            let granted = match self
                .chaincode
                .submit(&lease)
                .await
                .map(|done| answer(&done.result))
            {
                Ok(Answer::Granted(granted)) => granted,
                Ok(Answer::Waiting(lease)) => self.turn_of(lease).await,
                Err(error) => {
                    self.not_granted(&error).await;
                    continue;
                }
            };
            self.times.lock().unwrap().push(Instant::now());
            let lease = granted.lease.clone();
            self.told.granted.push(granted);
            self.give_back(&lease).await;
        }
        self.told
    }

    /// Waits until a lease that stands in the line is granted: nobody loses their place to a server that is killed.
    async fn turn_of(&mut self, lease: String) -> Granted {
        let question = json!({ "question": "lease", "lease": lease });
        let granted = async {
            loop {
                let record = asked(&self.chaincode, &question).await.unwrap_or_default();
                match record["state"].as_str() {
                    Some("active") => return record["grant"]["fencing_token"].as_u64().unwrap(),
                    // At a peer that is behind, or at none.
                    Some("waiting") | None => sleep(PAUSE).await,
                    Some(_) => panic!("it lost its place: {record}"),
                }
            }
        };
        let fencing_token = timeout(LONG, granted)
            .await
            .unwrap_or_else(|_| panic!("lease {lease} waits for ever"));
        self.told.waited += 1;
        Granted { lease, fencing_token }
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
        for state in [LeaseState::Waiting, LeaseState::Active, LeaseState::Ending] {
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
                    Some("waiting" | "active") => &release,
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
