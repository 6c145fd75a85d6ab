//! Reads the recordings: each Workflow, as it was created, with the pods that real Argo created for it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use kube::api::DynamicObject;
use leasehold_argo_standin::workflow::Workflow;
use serde_json::{Value, json};

/// A recorded Workflow and its pods by name.
pub struct Recording {
    /// As created, with the name and UID that the API server gave it.
    pub workflow: Workflow,
    /// The same, as an object.
    pub object: DynamicObject,
    /// As the first webhook saw them.
    pub pods: BTreeMap<String, Value>,
}

/// The object of every recorded request of `operation` on `resource` in `folder`, in order.
pub fn requests(folder: &str, operation: &str, resource: &str) -> Vec<Value> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../fixtures/admission")
        .join(folder);
    let mut files: Vec<_> = std::fs::read_dir(&path)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let read = |file: &PathBuf| -> Value { serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap() };
    files
        .iter()
        .map(read)
        .map(|review| review["request"].clone())
        .filter(|request| request["operation"] == operation && request["resource"]["resource"] == resource)
        .map(|request| request["object"].clone())
        .collect()
}

/// Every recorded Workflow for which pods were recorded too.
pub fn workflows() -> Vec<Recording> {
    let mut recordings = Vec::new();
    for folder in ["mutating", "validating", "hub"] {
        let mut by_owner: BTreeMap<(String, String), BTreeMap<String, Value>> = BTreeMap::new();
        for pod in requests(folder, "CREATE", "pods") {
            let owner = &pod["metadata"]["ownerReferences"][0];
            if owner["kind"] == "Workflow" {
                let key = (
                    owner["name"].as_str().unwrap().to_owned(),
                    owner["uid"].as_str().unwrap().to_owned(),
                );
                by_owner
                    .entry(key)
                    .or_default()
                    .insert(pod["metadata"]["name"].as_str().unwrap().to_owned(), pod);
            }
        }
        let created = requests(folder, "CREATE", "workflows");
        for ((name, uid), pods) in by_owner {
            let mut object = created
                .iter()
                .find(|object| is_called(object, &name))
                .unwrap()
                .clone();
            object["metadata"]["name"] = json!(name);
            object["metadata"]["uid"] = json!(uid);
            let object: DynamicObject = serde_json::from_value(object).unwrap();
            recordings.push(Recording {
                workflow: Workflow::parse(&object).unwrap(),
                object,
                pods,
            });
        }
    }
    recordings
}

/// Whether the API server called `object` so: by its name, or its prefix and five characters more.
fn is_called(object: &Value, name: &str) -> bool {
    match (
        object["metadata"]["name"].as_str(),
        object["metadata"]["generateName"].as_str(),
    ) {
        (Some(own), _) => own == name,
        (None, Some(prefix)) => name.starts_with(prefix) && name.len() == prefix.len() + 5,
        (None, None) => false,
    }
}
