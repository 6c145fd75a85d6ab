//! Metadata watches that keep the views of Workflows, CronWorkflows and people's ServiceAccounts. Only metadata travels, and
//! of that only uid, name, namespace and stamp are kept.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, PartialObjectMeta};
use kube::core::GroupVersionKind;
use kube::runtime::watcher::{self, Event};
use leasehold_broker_wire::names::{PERSON_LABEL, STAMP_ANNOTATION};
use tokio_util::sync::CancellationToken;

use crate::admission::Views;
use crate::review::stamp::Stamp;
use crate::stamps::{Owner, StampIndex};

/// A broken watch is tried again at this pace; meanwhile misses are read live.
const TRY_AGAIN_EVERY: Duration = Duration::from_secs(1);

/// A first list comes in pages of this many: people can make metadata as large as the API server takes an object, 1.5 MiB, and
/// a page is held whole.
const PAGE: u32 = 5;
/// ServiceAccounts of people are made by the spawner-hook and are small.
const PAGE_OF_ACCOUNTS: u32 = 50;

/// Argo's Workflows.
#[must_use]
pub fn workflows() -> ApiResource {
    ApiResource::from_gvk_with_plural(
        &GroupVersionKind::gvk("argoproj.io", "v1alpha1", "Workflow"),
        "workflows",
    )
}

/// Argo's CronWorkflows.
#[must_use]
pub fn cron_workflows() -> ApiResource {
    let kind = GroupVersionKind::gvk("argoproj.io", "v1alpha1", "CronWorkflow");
    ApiResource::from_gvk_with_plural(&kind, "cronworkflows")
}

/// Reduces an object to what a review needs; `None` if it lacks what every stored object has.
#[must_use]
pub fn owner(metadata: &ObjectMeta) -> Option<Owner> {
    let stamp = metadata
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get(STAMP_ANNOTATION));
    Some(Owner {
        uid: metadata.uid.as_deref()?.into(),
        namespace: metadata.namespace.as_deref()?.into(),
        name: metadata.name.as_deref()?.into(),
        stamp: stamp.and_then(|stamp| Stamp::parse(stamp)),
        deleting: metadata.deletion_timestamp.is_some(),
    })
}

/// Follows all three until `shutdown`.
pub async fn follow(client: &Client, views: &Views, shutdown: CancellationToken) {
    let workflows = Api::<PartialObjectMeta<DynamicObject>>::all_with(client.clone(), &workflows());
    let cron_workflows = Api::<PartialObjectMeta<DynamicObject>>::all_with(client.clone(), &cron_workflows());
    let accounts = Api::<PartialObjectMeta<ServiceAccount>>::all(client.clone());
    let everything = watcher::Config::default().page_size(PAGE);
    let of_people = watcher::Config::default()
        .page_size(PAGE_OF_ACCOUNTS)
        .labels(PERSON_LABEL);
    let all = async {
        tokio::join!(
            feed(
                "workflows",
                watcher::watcher(workflows, everything.clone()),
                owners(&views.workflows)
            ),
            feed(
                "cronworkflows",
                watcher::watcher(cron_workflows, everything),
                owners(&views.cron_workflows)
            ),
            feed(
                "serviceaccounts",
                watcher::watcher(accounts, of_people),
                |change| match change {
                    Change::All(metadata) => views
                        .accounts
                        .replace(metadata.iter().filter_map(account).collect()),
                    Change::Is(metadata) => {
                        if let Some((namespace, name, uid)) = account(&metadata) {
                            views.accounts.insert(&namespace, &name, &uid);
                        }
                    }
                    Change::Gone(metadata) => {
                        if let Some((namespace, name, _)) = account(&metadata) {
                            views.accounts.remove(&namespace, &name);
                        }
                    }
                }
            ),
        )
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        _ = all => {}
    }
}

enum Change {
    All(Vec<ObjectMeta>),
    Is(ObjectMeta),
    Gone(ObjectMeta),
}

fn owners(index: &StampIndex) -> impl FnMut(Change) {
    |change| match change {
        Change::All(metadata) => index.replace(metadata.iter().filter_map(owner).collect()),
        Change::Is(metadata) => {
            if let Some(owner) = owner(&metadata) {
                index.insert(owner);
            }
        }
        Change::Gone(metadata) => {
            if let Some(uid) = &metadata.uid {
                index.remove(uid);
            }
        }
    }
}

fn account(metadata: &ObjectMeta) -> Option<(String, String, String)> {
    Some((
        metadata.namespace.clone()?,
        metadata.name.clone()?,
        metadata.uid.clone()?,
    ))
}

/// Applies events; a new list shows only when it is whole.
async fn feed<K: Debug>(
    what: &'static str,
    events: impl futures::Stream<Item = watcher::Result<Event<PartialObjectMeta<K>>>>,
    mut apply: impl FnMut(Change),
) {
    let mut events = std::pin::pin!(events.map_ok(|event| match event {
        Event::Apply(object) => Event::Apply(slim(object.metadata)),
        Event::Delete(object) => Event::Delete(slim(object.metadata)),
        Event::Init => Event::Init,
        Event::InitApply(object) => Event::InitApply(slim(object.metadata)),
        Event::InitDone => Event::InitDone,
    }));
    let mut list = Vec::new();
    let mut last_error = String::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => list.clear(),
            Ok(Event::InitApply(metadata)) => list.push(metadata),
            Ok(Event::InitDone) => {
                last_error.clear();
                apply(Change::All(std::mem::take(&mut list)));
            }
            Ok(Event::Apply(metadata)) => apply(Change::Is(metadata)),
            Ok(Event::Delete(metadata)) => apply(Change::Gone(metadata)),
            Err(error) => {
                let error = error.to_string();
                if error != last_error {
                    tracing::warn!(%error, what, "a watch broke; trying again, misses are read live");
                    last_error = error;
                }
                tokio::time::sleep(TRY_AGAIN_EVERY).await;
            }
        }
    }
}

/// What a review needs of an object's metadata: the rest is most of it, anybody may make it large, and a whole list is held
/// for a moment.
fn slim(mut metadata: ObjectMeta) -> ObjectMeta {
    let stamp = metadata
        .annotations
        .take()
        .and_then(|mut annotations| annotations.remove_entry(STAMP_ANNOTATION));
    ObjectMeta {
        name: metadata.name,
        namespace: metadata.namespace,
        uid: metadata.uid,
        deletion_timestamp: metadata.deletion_timestamp,
        annotations: stamp.map(|entry| BTreeMap::from([entry])),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_a_review_needs_is_kept() {
        let metadata: ObjectMeta = serde_json::from_value(json!({
            "name": "w", "namespace": "hub", "uid": "u", "deletionTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"l": "x".repeat(63)},
            "annotations": {STAMP_ANNOTATION: "s", "fat": "x".repeat(1 << 18)},
            "managedFields": [{"manager": "m"}],
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "q"}],
        }))
        .unwrap();
        let kept = serde_json::to_value(slim(metadata)).unwrap();
        assert_eq!(
            kept,
            json!({"name": "w", "namespace": "hub", "uid": "u", "deletionTimestamp": "2026-01-01T00:00:00Z",
                "annotations": {STAMP_ANNOTATION: "s"}})
        );
    }
}
