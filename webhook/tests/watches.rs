//! The webhook's watches against an API server in memory.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

#[path = "provisioner/fake_api.rs"]
#[allow(dead_code)]
mod fake_api;

use std::time::Duration;

use fake_api::FakeApi;
use leasehold_webhook::admission::Views;
use leasehold_webhook::watches::follow;
use serde_json::json;
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn objects_whose_metadata_people_make_large_are_listed_a_few_at_a_time() {
    let api = FakeApi::new();
    let lists = ["workflows", "cronworkflows"].map(|kind| format!("/apis/argoproj.io/v1alpha1/{kind}"));
    for i in 0..12 {
        let path = format!("/apis/argoproj.io/v1alpha1/namespaces/hub/workflows/w-{i}");
        api.put(&path, json!({"metadata": {"name": format!("w-{i}")}}));
    }
    let uids: Vec<String> = (0..12)
        .map(|i| {
            let path = format!("/apis/argoproj.io/v1alpha1/namespaces/hub/workflows/w-{i}");
            api.get(&path).unwrap()["metadata"]["uid"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    let (views, shutdown) = (Views::default(), CancellationToken::new());
    let client = api.client();
    let seen = async {
        while !uids.iter().all(|uid| views.workflows.get(uid).is_some())
            || lists.iter().any(|list| api.largest_page(list).is_none())
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        () = follow(&client, &views, shutdown.clone()) => panic!("the watches ended"),
        seen = tokio::time::timeout(Duration::from_secs(30), seen) => seen.expect("not all workflows came into view"),
    }
    for list in &lists {
        assert_eq!(
            api.largest_page(list),
            Some(5),
            "{list}: each may be as large as 1.5 MiB"
        );
    }
}
