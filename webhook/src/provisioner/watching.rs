//! Watches that keep a store of what the API server has, and wake whoever decides from it.

use std::fmt::Debug;
use std::hash::Hash;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use kube::Resource;
use kube::api::Api;
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt, watcher};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;

/// A broken watch is tried again at this pace. Not an exponential one: from the end of a lease to no access there are ten
/// seconds, whatever the API server did before.
const TRY_AGAIN_EVERY: Duration = Duration::from_secs(1);

/// A store of what `api` lists, and the future that keeps it; `wake` is notified at each change. The future never ends.
/// `slim` takes out of each object what nobody will read, before it is kept.
pub fn watch<'w, K>(
    api: Api<K>,
    config: watcher::Config,
    slim: fn(&mut K),
    wake: &'w Notify,
) -> (Store<K>, BoxFuture<'w, ()>)
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    K::DynamicType: Default + Eq + Hash + Clone + Send + Sync,
{
    let (store, writer) = reflector::store();
    let events = watcher(api, config).modify(slim);
    let events = reflector::reflector(writer, events);
    let follow = async move {
        let mut events = std::pin::pin!(events);
        let mut last_error = String::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(_) => {
                    last_error.clear();
                    wake.notify_one();
                }
                Err(error) => {
                    let error = error.to_string();
                    if error != last_error {
                        tracing::warn!(%error, kind = %K::kind(&K::DynamicType::default()), "a watch broke; trying again");
                        last_error = error;
                    }
                    tokio::time::sleep(TRY_AGAIN_EVERY).await;
                }
            }
        }
    };
    // On the heap: a watch is a large state machine, and many stand side by side in one task.
    (store, Box::pin(follow))
}

/// What most watches leave out: nothing is decided from annotations and managed fields, and they can be most of an object.
pub fn slim<K: Resource>(object: &mut K) {
    object.meta_mut().annotations = None;
    object.meta_mut().managed_fields = None;
}
