//! A small world for reviews: alice leases `uis` (ready), bob leases `secret`, and the recordings of a real API server are
//! told of alice's two accounts instead of the one that she had when they were made.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use leasehold_broker_wire::machines::{self, WatchLeasesResponse, watch_leases_response::Change};
use leasehold_webhook::admission::Views;
use leasehold_webhook::review::envelope::AdmissionReview;
use leasehold_webhook::review::stamp::Stamp;
use leasehold_webhook::review::{Denial, Fact, Identities, Question, Stage, Stop, View, review};
use leasehold_webhook::stamps::Owner;
use serde_json::{Value, json};

pub const ALICE: &str = "nb-alice-0123456789abcdef";
pub const ALICE_UID: &str = "ec95f4dd-c276-40a0-87b4-8862f4d54361";
pub const EXECUTOR: &str = "wf-alice-0123456789abcdef";
pub const EXECUTOR_UID: &str = "e0e0e0e0-0000-4000-8000-000000000001";
pub const BOB: &str = "nb-bob-fedcba9876543210";
pub const BOB_UID: &str = "b0b0b0b0-0000-4000-8000-000000000001";
pub const UIS: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
pub const BOBS: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
pub const CONTROLLER: &str = "system:serviceaccount:argo:argo";
pub const PROVISIONER: &str = "system:serviceaccount:leasehold-system:leasehold-provisioner";
pub const NOW_MS: i64 = 1_700_000_000_000;

pub struct World {
    pub views: Views,
    pub identities: Identities,
    pub facts: HashMap<Question, Fact>,
    pub asked: std::cell::RefCell<Vec<Question>>,
    /// When the view was fed, and when the review is decided.
    pub fed: Instant,
    pub now: Instant,
}

pub fn identities() -> Identities {
    Identities {
        controller: CONTROLLER.into(),
        provisioner: PROVISIONER.into(),
    }
}

pub fn lease(id: &str, dataset: &str, subject: &str) -> machines::Lease {
    machines::Lease {
        lease_id: id.into(),
        dataset_id: "d".repeat(64),
        dataset_name: dataset.into(),
        owner: "UiSMSP".into(),
        subject: subject.into(),
        state: machines::LeaseState::Active.into(),
        granted_at_ms: NOW_MS - 3_600_000,
        expires_at_ms: NOW_MS + 3_600_000,
        max_ttl_seconds: 86_400,
        fencing_token: 1,
        mount: machines::MountState::Ready.into(),
        ..Default::default()
    }
}

pub fn binding(
    name: &str,
    uid: &str,
    executor: &str,
    executor_uid: &str,
    subject: &str,
    claim: &str,
) -> machines::Binding {
    let account = |name: &str, uid: &str| {
        Some(machines::ServiceAccount {
            namespace: "hub".into(),
            name: name.into(),
            uid: uid.into(),
        })
    };
    machines::Binding {
        subject: subject.into(),
        notebook: account(name, uid),
        executor: account(executor, executor_uid),
        home: Some(machines::Home {
            claim: claim.into(),
            sub_path: String::new(),
            mount_path: "/home/jovyan".into(),
        }),
    }
}

pub fn alice() -> machines::Binding {
    binding(ALICE, ALICE_UID, EXECUTOR, EXECUTOR_UID, "alice", "claim-alice")
}

impl World {
    /// Alice with a ready lease of `uis`, bob with one of `secret`.
    pub fn new() -> Self {
        Self::with(vec![lease(UIS, "uis", "alice"), lease(BOBS, "secret", "bob")])
    }

    pub fn with(leases: Vec<machines::Lease>) -> Self {
        let fed = Instant::now();
        let views = Views::default();
        views.leases.begin_snapshot();
        let bob = binding(
            BOB,
            BOB_UID,
            "wf-bob-fedcba9876543210",
            "executor-of-bob",
            "bob",
            "claim-bob",
        );
        let changes = leases.into_iter().map(Change::Lease).chain([
            Change::Binding(alice()),
            Change::Binding(bob),
            Change::Bookmark(machines::Bookmark {}),
        ]);
        for change in changes {
            let message = WatchLeasesResponse {
                revision: 1,
                now_ms: NOW_MS,
                change: Some(change),
            };
            views.leases.apply(message, fed).unwrap();
        }
        views.accounts.insert("hub", EXECUTOR, EXECUTOR_UID);
        let world = Self {
            views,
            identities: identities(),
            facts: HashMap::new(),
            asked: Default::default(),
            fed,
            now: fed,
        };
        world.own(
            "120f5be9-d9ea-4f11-9e03-be720a0eac6f",
            "jupyter-alice-example-com---ff8d9819-4hmvs",
            Some(ALICE),
        );
        world.own("f14fed14-cb02-4715-9fa7-718ee94946ca", "steps-4bkr7", Some(ALICE));
        world
    }

    /// A Workflow of alice's, or of nobody's, in the view.
    pub fn own(&self, uid: &str, name: &str, whose: Option<&str>) {
        self.views.workflows.insert(owner(uid, name, whose));
    }

    pub fn apply(&self, change: Change) {
        let message = WatchLeasesResponse {
            revision: 2,
            now_ms: NOW_MS,
            change: Some(change),
        };
        self.views.leases.apply(message, self.fed).unwrap();
    }

    /// The view has not been vouched for in three seconds.
    pub fn stale(mut self) -> Self {
        self.now = self.fed + Duration::from_secs(3);
        self
    }

    /// The patched object, or the refusal.
    pub fn mutate(&self, review: &Value) -> Result<Value, Denial> {
        let mut object = review["request"]["object"].clone();
        let patch = self.patch(Stage::Mutating, review)?;
        let patch: json_patch::Patch = serde_json::from_value(patch).unwrap();
        json_patch::patch(&mut object, &patch).unwrap();
        Ok(object)
    }

    pub fn validate(&self, review: &Value) -> Result<(), Denial> {
        let patch = self.patch(Stage::Validating, review)?;
        assert_eq!(patch, json!([]), "a validating review never patches");
        Ok(())
    }

    pub fn patch(&self, stage: Stage, review: &Value) -> Result<Value, Denial> {
        self.decide(stage, &review.to_string())
    }

    pub fn decide(&self, stage: Stage, body: &str) -> Result<Value, Denial> {
        let envelope: AdmissionReview<'_> = serde_json::from_str(body).unwrap();
        let request = envelope.request.unwrap();
        let mut facts = Vec::new();
        loop {
            let view = View {
                leases: &self.views.leases,
                workflows: &self.views.workflows,
                cron_workflows: &self.views.cron_workflows,
                accounts: &self.views.accounts,
                facts: &facts,
                now: self.now,
                identities: &self.identities,
            };
            match review(stage, &request, &view) {
                Ok(patch) => return Ok(serde_json::from_slice(&patch.into_json()).unwrap()),
                Err(Stop::Deny(denial)) => return Err(denial),
                Err(Stop::Ask(question)) => {
                    assert!(facts.len() < 8, "asks in circles: {facts:?}");
                    self.asked.borrow_mut().push(question.clone());
                    let fact = self
                        .facts
                        .get(&question)
                        .cloned()
                        .unwrap_or_else(|| self.nothing(&question));
                    facts.push((question, fact));
                }
            }
        }
    }

    /// The API server and the broker know no more than the views.
    fn nothing(&self, question: &Question) -> Fact {
        match question {
            Question::Owner { .. } => Fact::Owner(None),
            Question::Account { .. } => Fact::Account(None),
            Question::Pod { .. } => Fact::Pod(None),
            Question::Person { uid } => {
                Fact::Person(self.views.leases.person(uid).map(|(binding, leases)| {
                    leasehold_webhook::review::Person {
                        binding,
                        leases,
                        broker_now_ms: NOW_MS,
                    }
                }))
            }
        }
    }
}

pub fn stamp_of(whose: &str) -> Stamp {
    let uid = if whose == BOB { BOB_UID } else { ALICE_UID };
    Stamp {
        v: 1,
        namespace: "hub".into(),
        service_account: whose.into(),
        uid: uid.into(),
        pod: None,
        pod_uid: None,
    }
}

pub fn owner(uid: &str, name: &str, whose: Option<&str>) -> Owner {
    Owner {
        uid: uid.into(),
        namespace: "hub".into(),
        name: name.into(),
        stamp: whose.map(stamp_of),
        deleting: false,
    }
}

/// A recording, with alice's accounts as Leasehold makes them.
pub fn recorded(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(format!("{name}.json"));
    let mut review: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let request = &mut review["request"];
    if request["userInfo"]["username"] == "system:serviceaccount:hub:alice" {
        request["userInfo"]["username"] = json!(format!("system:serviceaccount:hub:{ALICE}"));
        request["userInfo"]["uid"] = json!(ALICE_UID);
    }
    let account = if request["resource"]["resource"] == "pods" {
        EXECUTOR
    } else {
        ALICE
    };
    for object in ["object", "oldObject"] {
        rename(&mut request[object], account);
    }
    review
}

fn rename(value: &mut Value, account: &str) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                if matches!(key.as_str(), "serviceAccountName" | "serviceAccount") && value == "alice" {
                    *value = json!(account);
                } else {
                    rename(value, account);
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|value| rename(value, account)),
        _ => {}
    }
}

/// jupyterflow's Workflow as recorded from a real hub.
pub fn workflow() -> Value {
    recorded("workflow-of-jupyterflow")
}

/// The pod of its first job.
pub fn pod() -> Value {
    recorded("pod-job")
}

/// The review's object, to be changed.
pub fn object(review: &mut Value) -> &mut Value {
    &mut review["request"]["object"]
}

/// An UPDATE of `old` into `new` by somebody.
pub fn update(template: &Value, old: Value, new: Value, username: &str, uid: &str) -> Value {
    let mut review = template.clone();
    let request = &mut review["request"];
    request["operation"] = json!("UPDATE");
    request["object"] = new;
    request["oldObject"] = old;
    request["userInfo"] = json!({ "username": username, "uid": uid });
    review
}

/// Somebody else asks.
pub fn by(mut review: Value, username: &str, uid: &str) -> Value {
    review["request"]["userInfo"] = json!({ "username": username, "uid": uid });
    review
}

/// Requires a refusal with this code.
#[track_caller]
pub fn refused<T: std::fmt::Debug>(row: &str, outcome: Result<T, Denial>, code: &str) -> Denial {
    match outcome {
        Err(denial) if denial.reason.code() == code => denial,
        other => panic!("{row}: wanted {code}, got {other:?}"),
    }
}
