//! One caller's stream: what is told of what happens, and when it ends.
//!
//! Nobody has it run: it goes on when the caller reads, and whoever does not read has a bounded queue fill up and is cut. Who the caller is, and in
//! which roles, is looked at again every few seconds, and before anything is told after a pause, so that the stream ends with the token, with the pod and the
//! account that it is of, and when the roles are others.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use http::HeaderMap;
use leasehold_broker_wire::rest::CatalogueChange;
use leasehold_chaincode::{Event, EventKind};
use leasehold_process::places::Place;
use serde::Serialize;
use tokio::sync::{broadcast, mpsc};
use tokio::time::Instant;

use super::Kinds;
use super::mark::Mark;
use crate::api::accept;
use crate::api::caller::Caller;
use crate::api::leases;
use crate::api::problem::ApiProblem;
use crate::broker::{Broker, News};
use crate::ledgers::Change;
use crate::store::now;

/// Who asks is looked at again this often.
const LOOK: Duration = Duration::from_secs(5);
/// So many looks between two comments that show that the stream stands.
const LOOKS_A_BEAT: u32 = 3;
/// The longest stream: whoever listens for longer comes again.
const LONGEST: Duration = Duration::from_secs(3_600);
/// Operations of one person that are looked through for what they missed.
const MISSED_OPERATIONS: i64 = 64;
/// How much later than an operation's time it may be told, seconds: what may still be on its way is told again.
const SLACK: i64 = 30;

/// See the module.
pub struct Stream {
    broker: Arc<Broker>,
    caller: Caller,
    kinds: Kinds,
    mark: Mark,
    /// What shows who the caller is.
    headers: HeaderMap,
    changes: mpsc::Receiver<Arc<Change>>,
    news: broadcast::Receiver<News>,
    looked_at: Instant,
    looked: u32,
    deadline: Instant,
    /// What was missed and is not told yet.
    missed: VecDeque<Arc<Change>>,
    ready: VecDeque<Bytes>,
    has_ended: bool,
    _places: Places,
}

/// Its places among the person's streams, and among those from its address.
type Places = (Place<String>, Option<Place<IpAddr>>);

impl Stream {
    /// Begins to listen, and has what was missed be told first.
    ///
    /// # Errors
    /// A problem where the storage fails.
    pub async fn open(
        broker: Arc<Broker>,
        caller: Caller,
        kinds: Kinds,
        after: Option<Mark>,
        headers: HeaderMap,
        places: Places,
    ) -> Result<Self, ApiProblem> {
        // Both are listened to before anything is read: what happens in between comes twice, not never.
        let news = broker.news.subscribe();
        let changes = &broker.view.changes;
        // Of another start of the broker nothing is kept, whatever its numbers are.
        let is_of_before = after.is_some_and(|mark| mark.start != changes.start());
        let from = after.filter(|_| !is_of_before).map(|mark| mark.height);
        let listening = changes.listen(from).ok_or_else(ApiProblem::events_unavailable)?;
        let started = now().saturating_sub(SLACK);
        let mut is_lost = is_of_before || listening.missed.is_none();
        let missed_operations = match after {
            Some(mark) if kinds.operations => {
                let pseudonym = &caller.person.pseudonym;
                let latest = broker
                    .store
                    .latest_operations(pseudonym, MISSED_OPERATIONS)
                    .await?;
                let is_new = |at: i64| at >= mark.operations_at;
                let looked_through = latest.len();
                let missed = latest
                    .into_iter()
                    .filter(|row| row.finished_at.is_none_or(is_new) || is_new(row.created_at));
                let missed: Vec<_> = missed.collect();
                // Where all are new, there may be others before them.
                let are_all = missed.len() == looked_through;
                is_lost |= are_all && i64::try_from(looked_through).is_ok_and(|all| all >= MISSED_OPERATIONS);
                missed
            }
            _ => Vec::new(),
        };
        let mut stream = Self {
            mark: Mark {
                start: changes.start(),
                height: match (&listening.missed, from) {
                    (Some(_), Some(from)) => from,
                    _ => listening.height,
                },
                operations_at: after.map_or(started, |mark| mark.operations_at),
            },
            broker,
            caller,
            kinds,
            headers,
            changes: listening.changes,
            news,
            looked_at: Instant::now(),
            looked: 0,
            deadline: Instant::now() + LONGEST,
            missed: listening.missed.unwrap_or_default().into(),
            ready: VecDeque::new(),
            has_ended: false,
            _places: places,
        };
        // First: who hears of what comes and not of this would never know.
        if is_lost {
            let reason = "what happened since is not kept; read the lists again";
            stream.say("lost", &serde_json::json!({ "reason": reason }));
        }
        stream.say("opened", &serde_json::json!({}));
        for row in missed_operations {
            stream.say("operation", &accept::shown(row)?);
        }
        stream.mark.operations_at = started;
        Ok(stream)
    }

    /// The stream as the bytes of a body.
    pub fn texts(self) -> impl futures::Stream<Item = Result<Bytes, Infallible>> + Send {
        futures::stream::unfold(self, |mut stream| async move {
            let text = stream.next().await?;
            Some((Ok(text), stream))
        })
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            // Before anything is told, however long nobody read.
            if !self.has_ended && self.looked_at.elapsed() >= LOOK {
                self.look().await;
            }
            if let Some(text) = self.ready.pop_front() {
                return Some(text);
            }
            if self.has_ended {
                return None;
            }
            // Texts are made one change at a time, however many were missed.
            if let Some(change) = self.missed.pop_front() {
                self.take(&change);
                continue;
            }
            tokio::select! {
                biased;
                () = self.broker.shutdown.cancelled() => self.end("the broker stops"),
                () = tokio::time::sleep_until(self.deadline) => self.end("it is time to come again"),
                () = tokio::time::sleep_until(self.looked_at + LOOK) => {}
                change = self.changes.recv() => match change {
                    Some(change) => self.take(&change),
                    None => self.end("too slow, or the ledger is followed no longer"),
                },
                news = self.news.recv(), if self.kinds.operations => self.hear(news).await,
            }
        }
    }

    /// Ends after what is ready. A comment tells people who look at it why.
    fn end(&mut self, why: &str) {
        self.ready.push_back(Bytes::from(format!(": {why}\n\n")));
        self.has_ended = true;
    }

    async fn look(&mut self) {
        match Caller::again(&self.broker, &self.headers, &self.caller).await {
            Some(caller) if caller.roles == self.caller.roles => self.caller = caller,
            // What is ready was made for who they were.
            Some(_) => {
                self.ready.clear();
                return self.end("your roles are others now");
            }
            None => {
                self.ready.clear();
                return self.end("the token is good no longer");
            }
        }
        self.looked_at = Instant::now();
        self.looked = self.looked.saturating_add(1);
        if self.looked.is_multiple_of(LOOKS_A_BEAT) {
            // An id without data is no event, and is kept for coming again.
            self.ready
                .push_back(Bytes::from(format!(": still here\nid: {}\n\n", self.mark)));
        }
    }

    async fn hear(&mut self, news: Result<News, broadcast::error::RecvError>) {
        let Ok(news) = news else {
            return self.end("too slow");
        };
        if *news.submitter != *self.caller.person.pseudonym {
            return;
        }
        let row = self
            .broker
            .store
            .operation(&news.operation, &news.submitter)
            .await;
        match row
            .map_err(ApiProblem::from)
            .and_then(|row| row.map(accept::shown).transpose())
        {
            Ok(Some(operation)) => {
                // Another one that was decided before may be told after it.
                let told_until = news.at.saturating_sub(SLACK);
                self.mark.operations_at = self.mark.operations_at.max(told_until);
                self.say("operation", &operation);
            }
            Ok(None) => {}
            // It comes again, and hears then what it missed.
            Err(_) => self.end("the broker's storage failed"),
        }
    }

    /// Tells what a change has for the caller.
    fn take(&mut self, change: &Change) {
        let told: Vec<_> = change.events.iter().flat_map(|event| self.seen(event)).collect();
        let through = self.broker.view.changes.through(change.height);
        let through = through.max(self.mark.height);
        let mut left = told.len();
        for (kind, data) in told {
            left -= 1;
            // Whoever hears a part of a block and comes again hears all of it again.
            if left == 0 {
                self.mark.height = through;
            }
            self.say(kind, &data);
        }
        self.mark.height = through;
    }

    /// What the caller may see of an event.
    fn seen(&self, event: &Event) -> Vec<(&'static str, serde_json::Value)> {
        let mut seen = Vec::new();
        let mut add =
            |kind, data: Result<serde_json::Value, _>| seen.extend(data.ok().map(|data| (kind, data)));
        if self.kinds.leases
            && let Some(lease) = event.lease.as_deref()
            && leases::is_visible(&self.broker, &self.caller, lease)
        {
            let yours = leases::is_own(&self.broker, &self.caller, lease);
            add(
                "lease",
                serde_json::to_value(leases::shown(lease.clone(), yours, None)),
            );
        }
        if self.kinds.catalogue
            && is_in_the_catalogue(&event.kind)
            && let Some(dataset) = &event.dataset
        {
            let change = CatalogueChange {
                dataset: dataset.to_string(),
                what: serde_json::to_value(&event.kind).unwrap_or_default(),
            };
            add("catalogue", serde_json::to_value(change));
        }
        seen
    }

    fn say(&mut self, kind: &str, data: &impl Serialize) {
        // JSON has no line breaks of its own.
        let data = serde_json::to_string(data).unwrap_or_default();
        let text = format!("id: {}\nevent: {kind}\ndata: {data}\n\n", self.mark);
        self.ready.push_back(Bytes::from(text));
    }
}

/// What changes how a dataset is shown. Everybody who reads the catalogue can read all of these in the dataset's history.
fn is_in_the_catalogue(kind: &EventKind) -> bool {
    matches!(
        kind,
        EventKind::DatasetRegistered {}
            | EventKind::DatasetDescribed {}
            | EventKind::PolicyChanged {}
            | EventKind::DatasetTaken {}
            | EventKind::DatasetRetired {}
            | EventKind::LeaseWaiting {}
            | EventKind::LeaseGranted {}
            | EventKind::LeaseEnded { .. }
            | EventKind::MountReady {}
            | EventKind::MountFailed { .. }
    )
}
