//! For whatever is sent: no panic, and no patch that names a claim which the owner doesn't lease.

use bytes::Bytes;
use leasehold_webhook::admission::{Admission, Lookups};
use leasehold_webhook::review::Stage;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::world::*;

fn admission() -> Admission {
    let world = World::new();
    Admission::new(Arc::new(world.views), identities(), Lookups::default(), 8)
}

fn answer(admission: &Admission, stage: Stage, body: Vec<u8>) -> (u16, Value) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    let reply = runtime.block_on(admission.answer(stage, Bytes::from(body), deadline));
    (
        reply.status.as_u16(),
        serde_json::from_slice(&reply.body).unwrap(),
    )
}

fn patch_of(answer: &Value) -> String {
    use base64::Engine;
    let Some(patch) = answer["response"]["patch"].as_str() else {
        return String::new();
    };
    String::from_utf8(base64::engine::general_purpose::STANDARD.decode(patch).unwrap()).unwrap()
}

fn arbitrary_json() -> impl Strategy<Value = Value> {
    let words = prop::sample::select(vec![
        "leasehold-x",
        "{{x}}",
        "",
        "/",
        "main",
        "wait",
        "leasehold-bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
        "LEASE_DATASETS",
        "secret",
        "~1",
        "claim-bob",
        "/var/run/argo",
        "..",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        words.prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    let keys = prop::sample::select(vec![
        "name",
        "metadata",
        "spec",
        "volumes",
        "persistentVolumeClaim",
        "claimName",
        "readOnly",
        "containers",
        "command",
        "env",
        "value",
        "volumeMounts",
        "mountPath",
        "labels",
        "annotations",
        "templates",
        "container",
        "x",
    ]);
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((keys.clone(), inner), 0..4).prop_map(|entries| Value::Object(
                entries.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
            )),
        ]
    })
}

/// Every place in a value, as JSON pointers.
fn places(value: &Value, at: String, found: &mut Vec<String>) {
    found.push(at.clone());
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                places(
                    value,
                    format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")),
                    found,
                );
            }
        }
        Value::Array(list) => {
            for (i, value) in list.iter().enumerate() {
                places(value, format!("{at}/{i}"), found);
            }
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_answered(body in prop::collection::vec(any::<u8>(), 0..256)) {
        let (status, _) = answer(&admission(), Stage::Mutating, body);
        prop_assert_eq!(status, 400);
    }

    #[test]
    fn a_recording_with_a_piece_replaced_never_mounts_what_is_not_leased(
        which in prop::sample::select(vec!["pod-job", "pod-job-naming-uis", "pod-of-container-set", "workflow-of-jupyterflow", "pod-update-by-controller"]),
        place in any::<prop::sample::Index>(),
        piece in arbitrary_json(),
        mutating in any::<bool>(),
    ) {
        let mut review = recorded(which);
        let mut all: Vec<String> = Vec::new();
        places(&review["request"], "/request".into(), &mut all);
        *review.pointer_mut(place.get::<String>(&all)).unwrap() = piece;
        let stage = if mutating { Stage::Mutating } else { Stage::Validating };
        let (status, answer) = answer(&admission(), stage, review.to_string().into_bytes());
        prop_assert!(status == 200 || status == 400);
        let patch = patch_of(&answer);
        let others = patch.replace(&format!("leasehold-{UIS}"), "").replace("leasehold-no-token", "");
        prop_assert!(!others.contains("leasehold-"), "{}", patch);
        prop_assert!(stage != Stage::Validating || patch.is_empty());
        if answer["response"]["allowed"] == json!(true) && stage == Stage::Mutating && !patch.is_empty() {
            let patch: json_patch::Patch = serde_json::from_str(&patch).unwrap();
            let mut once = review["request"]["object"].clone();
            prop_assert!(json_patch::patch(&mut once, &patch).is_ok(), "the patch fits its object");
            if review["request"]["resource"]["resource"] == "pods" {
                let none = Vec::new();
                for volume in once["spec"]["volumes"].as_array().unwrap_or(&none) {
                    let claim = volume["persistentVolumeClaim"]["claimName"].as_str().unwrap_or_default();
                    let its_own = claim == format!("leasehold-{UIS}") && volume["persistentVolumeClaim"]["readOnly"] == json!(true);
                    prop_assert!(["", "claim-alice"].contains(&claim) || its_own, "{}", volume);
                }
            }
        }
    }
}
