//! Ends the pods that hold the claim of a lease that is over. A pod's owner decides how large it is and how many there are, so
//! neither may cost much or hold another lease's end up.
//!
//! The pods that the watch shows are ended by name and uid, without any list. A pod that the watch lacks (it lags, or the pod
//! lost its label) is searched for: one page of a few pods at a time in the whole process, for all leases at once, each
//! namespace in its turn, from where the last turn stopped. Nobody waits for the turn: whoever finds it taken is served by it.

mod search;

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, Preconditions};
use kube::core::{ListMeta, Request};
use kube::{Client, Resource};
use serde::Deserialize;
use tokio::sync::Semaphore;

use super::act::ActError;
use super::election::Term;
use super::plan::Holder;
use search::Search;

/// Pods in one page of a search: each is whatever its owner made of it, up to 1.5 MiB, and a page is held whole.
const PAGE: u32 = 5;
/// Pods that are ended at the same time, by all leases together.
const ENDED_AT_ONCE: usize = 8;
/// A namespace's turn of the search.
const TURN: Duration = Duration::from_secs(2);
/// Pods of one claim that are ended at the same time.
const ENDS_OF_A_CLAIM: usize = 4;
/// A page that takes longer is asked for again at the namespace's next turn.
const PAGE_DEADLINE: Duration = Duration::from_secs(4);
/// What a deleted pod is answered with: its owner's part of it is of no interest.
const METADATA_ONLY: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";

/// Ends pods, for one term of leadership.
pub(super) struct PodEnder {
    client: Client,
    term: Term,
    grace_seconds: u32,
    ends: Semaphore,
    turn: tokio::sync::Mutex<()>,
    search: Mutex<Search>,
}

/// Of a listed pod only this is kept.
#[derive(Debug, Deserialize)]
struct Listed {
    #[serde(default)]
    metadata: ListedMetadata,
    #[serde(default)]
    spec: ListedSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListedMetadata {
    #[serde(default)]
    name: String,
    #[serde(default)]
    uid: String,
    #[serde(default)]
    deletion_timestamp: Option<String>,
    #[serde(default)]
    deletion_grace_period_seconds: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
struct ListedSpec {
    #[serde(default)]
    volumes: Option<Vec<ListedVolume>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListedVolume {
    #[serde(default)]
    persistent_volume_claim: Option<ListedClaim>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListedClaim {
    claim_name: String,
}

#[derive(Debug, Deserialize)]
struct Page {
    #[serde(default)]
    metadata: ListMeta,
    #[serde(default)]
    items: Vec<Listed>,
}

impl Listed {
    fn claims(&self) -> impl Iterator<Item = &str> {
        let volumes = self.spec.volumes.as_deref().unwrap_or_default();
        volumes
            .iter()
            .filter_map(|volume| Some(volume.persistent_volume_claim.as_ref()?.claim_name.as_str()))
    }

    fn holder(&self, namespace: &str) -> Holder {
        Holder {
            namespace: namespace.to_owned(),
            name: self.metadata.name.clone(),
            uid: self.metadata.uid.clone(),
            ends_within: ends_within(
                self.metadata.deletion_timestamp.is_some(),
                self.metadata.deletion_grace_period_seconds,
            ),
        }
    }
}

/// The grace of a pod that is being deleted, in seconds.
pub(super) fn ends_within(deleting: bool, grace_seconds: Option<i64>) -> Option<i64> {
    deleting.then(|| grace_seconds.unwrap_or_default())
}

impl PodEnder {
    pub(super) fn new(client: Client, term: Term, grace_seconds: u32) -> Self {
        Self {
            client,
            term,
            grace_seconds,
            ends: Semaphore::new(ENDED_AT_ONCE),
            turn: tokio::sync::Mutex::new(()),
            search: Mutex::default(),
        }
    }

    /// Deletes the pods that are known to hold a claim; one that ends more slowly than allowed is hurried.
    pub(super) async fn end(&self, known: &[Holder]) -> Result<(), ActError> {
        let grace = i64::from(self.grace_seconds);
        let mut slow = known
            .iter()
            .filter(|pod| pod.ends_within.is_none_or(|within| within > grace));
        // A few at a time, so that a claim with many pods keeps no other waiting; one that cannot be ended keeps none back.
        let mut ends = FuturesUnordered::new();
        let mut outcome = Ok(());
        loop {
            while ends.len() < ENDS_OF_A_CLAIM
                && let Some(pod) = slow.next()
            {
                ends.push(self.end_one(pod));
            }
            match ends.next().await {
                Some(ended) => outcome = outcome.and(ended),
                None => return outcome,
            }
        }
    }

    /// Has the namespaces searched for pods that name the claim, whatever their labels say, and ends what is found. Returns
    /// after a turn at most; whoever calls again while the claim is there gets the whole namespace searched.
    pub(super) async fn search(&self, claim: &str, namespaces: &[String]) -> Result<(), ActError> {
        self.searching(|search| search.seek(claim, namespaces, Instant::now()));
        let Ok(_turn) = self.turn.try_lock() else {
            return Ok(());
        };
        let began = Instant::now();
        let Some((namespace, mut next)) = self.searching(|search| search.begin_turn(began)) else {
            return Ok(());
        };
        loop {
            let page = tokio::time::timeout(PAGE_DEADLINE, self.page(&namespace, next.as_deref()));
            let page = match page.await.map_err(|_| ActError::TooSlow)? {
                Ok(page) => page,
                Err(kube::Error::Api(status)) if status.code == 410 => {
                    // The list has grown too old to go on with: from the start, at the next turn.
                    self.searching(|search| search.start_over(&namespace));
                    return Ok(());
                }
                Err(source) => {
                    return Err(ActError::Kube {
                        what: "list pods",
                        source,
                    });
                }
            };
            let found: Vec<Holder> = self.searching(|search| {
                let holds = |pod: &&Listed| pod.claims().any(|claim| search.seeks(&namespace, claim));
                let holders = page.items.iter().filter(holds);
                holders.map(|pod| pod.holder(&namespace)).collect()
            });
            let ended = self.end(&found).await;
            next = page.metadata.continue_.filter(|next| !next.is_empty());
            let now = Instant::now();
            self.searching(|search| search.came_to(&namespace, next.clone(), now));
            ended?;
            if next.is_none() || now.duration_since(began) > TURN {
                return Ok(());
            }
        }
    }

    async fn page(&self, namespace: &str, next: Option<&str>) -> kube::Result<Page> {
        let mut params = ListParams::default().limit(PAGE);
        if let Some(next) = next {
            params = params.continue_token(next);
        }
        let request = Request::new(Pod::url_path(&(), Some(namespace))).list(&params);
        self.client
            .request(request.map_err(kube::Error::BuildRequest)?)
            .await
    }

    /// Deletes the pod of this uid and no other; that it is gone already is no error.
    async fn end_one(&self, pod: &Holder) -> Result<(), ActError> {
        let _place = self.ends.acquire().await.map_err(|_| ActError::NotLeading)?;
        if !self.term.holds() {
            return Err(ActError::NotLeading);
        }
        tracing::info!(
            namespace = pod.namespace,
            pod = pod.name,
            "a pod that holds the claim of a lease that is over is ended"
        );
        let params = DeleteParams {
            grace_period_seconds: Some(self.grace_seconds),
            preconditions: Some(Preconditions {
                uid: Some(pod.uid.clone()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        let failed = |source| ActError::Kube {
            what: "end a pod",
            source,
        };
        let request = Request::new(Pod::url_path(&(), Some(&pod.namespace))).delete(&pod.name, &params);
        let mut request = request.map_err(|error| failed(kube::Error::BuildRequest(error)))?;
        let accept = http::HeaderValue::from_static(METADATA_ONLY);
        request.headers_mut().insert(http::header::ACCEPT, accept);
        match self.client.request_text(request).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(source) => Err(failed(source)),
        }
    }

    fn searching<T>(&self, act: impl FnOnce(&mut Search) -> T) -> T {
        act(&mut self.search.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn of_a_listed_pod_only_who_it_is_and_what_it_claims_is_kept() {
        let page: Page = serde_json::from_value(json!({
            "kind": "PodList", "metadata": {"continue": "more"},
            "items": [{
                "metadata": {"name": "job", "uid": "u", "labels": {"a": "b"}, "deletionTimestamp": "2026-01-01T00:00:00Z",
                    "deletionGracePeriodSeconds": 30},
                "spec": {
                    "containers": [{"name": "main", "args": ["x".repeat(1 << 20)]}],
                    "volumes": [{"name": "t", "emptyDir": {}}, {"name": "d", "persistentVolumeClaim": {"claimName": "c"}}],
                },
            }, {"metadata": {"name": "bare"}, "spec": {"volumes": null}}],
        }))
        .unwrap();
        assert_eq!(page.items[0].claims().collect::<Vec<_>>(), ["c"]);
        assert_eq!(page.items[0].holder("hub").ends_within, Some(30));
        assert_eq!(page.items[1].claims().count(), 0);
        assert_eq!(page.items[1].holder("hub").ends_within, None);
        assert_eq!(page.metadata.continue_.as_deref(), Some("more"));
    }
}
