//! One caller's stream: what is told of what happens, and when it ends.
//!
//! Nobody has it run: it goes on when the caller reads, and whoever does not read has a bounded queue fill up and is cut. Who the caller is, and in
//! which roles, is looked at again every few seconds, so that the stream ends with the token, with the pod and the account that it is of, and
//! with the role.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use http::HeaderMap;
use leasehold_broker_wire::rest::CatalogueChange;
use leasehold_chaincode::{Event, EventKind};
use leasehold_process::places::Place;
use serde::Serialize;
use tokio::sync::{broadcast, mpsc};
use tokio::time::{Instant, Interval, MissedTickBehavior};

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
    looks: Interval,
    looked: u32,
    deadline: Instant,
    ready: VecDeque<Bytes>,
    has_ended: bool,
    _place: Place<String>,
}

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
        place: Place<String>,
    ) -> Result<Self, ApiProblem> {
        // Both are listened to before anything is read: what happens in between comes twice, not never.
        let news = broker.news.subscribe();
        let listening = broker.view.changes.listen(after.map(|mark| mark.height));
        let started = now();
        let missed_operations = match after {
            Some(mark) if kinds.operations => {
                let pseudonym = &caller.person.pseudonym;
                let latest = broker
                    .store
                    .latest_operations(pseudonym, MISSED_OPERATIONS)
                    .await?;
                let is_new = |at: i64| at >= mark.operations_at;
                let missed = latest
                    .into_iter()
                    .filter(|row| row.finished_at.is_none_or(is_new) || is_new(row.created_at));
                missed.collect()
            }
            _ => Vec::new(),
        };
        let mut looks = tokio::time::interval_at(Instant::now() + LOOK, LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stream = Self {
            mark: after.unwrap_or(Mark {
                height: listening.height,
                operations_at: started,
            }),
            broker,
            caller,
            kinds,
            headers,
            changes: listening.changes,
            news,
            looks,
            looked: 0,
            deadline: Instant::now() + LONGEST,
            ready: VecDeque::new(),
            has_ended: false,
            _place: place,
        };
        let is_lost = listening.missed.is_none();
        if is_lost {
            stream.mark.height = listening.height;
        }
        stream.say("opened", &serde_json::json!({}));
        if is_lost {
            let reason = "what happened since is not kept; read the lists again";
            stream.say("lost", &serde_json::json!({ "reason": reason }));
        }
        for change in listening.missed.into_iter().flatten() {
            stream.take(&change);
        }
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
            if let Some(text) = self.ready.pop_front() {
                return Some(text);
            }
            if self.has_ended {
                return None;
            }
            tokio::select! {
                () = self.broker.shutdown.cancelled() => self.end("the broker stops"),
                () = tokio::time::sleep_until(self.deadline) => self.end("it is time to come again"),
                change = self.changes.recv() => match change {
                    Some(change) => self.take(&change),
                    None => self.end("too slow"),
                },
                news = self.news.recv(), if self.kinds.operations => self.hear(news).await,
                _ = self.looks.tick() => self.look().await,
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
            Some(caller) if !self.kinds.catalogue || caller.may_read_catalogue() => self.caller = caller,
            _ => return self.end("the token is good no longer"),
        }
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
        let heard_at = now();
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
                self.mark.operations_at = heard_at;
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
        let mut left = told.len();
        for (kind, data) in told {
            left -= 1;
            // Whoever hears a part of a block and comes again hears all of it again.
            if left == 0 {
                self.mark.height = change.height;
            }
            self.say(kind, &data);
        }
        self.mark.height = change.height;
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
