//! `POST /v1/spawn` through the router, against an API server that keeps objects in memory and a broker that answers from
//! a script: what is made, what is refused, and that a refusal changes nothing.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use axum::Router;
use bytes::Bytes;
use futures::stream::BoxStream;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use kube::Client;
use leasehold_broker_client::machines::{Endpoint, MachinesClient};
use leasehold_broker_wire::machines as wire;
use leasehold_broker_wire::machines::machines_server::{Machines, MachinesServer};
use leasehold_broker_wire::rest::Problem;
use leasehold_spawner_hook::names::Names;
use leasehold_spawner_hook::{Cluster, Observations, PatchSettings, Spawner, router};
use serde_json::{Value, json};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Status;
use tower::ServiceExt as _;

const HUB: &str = "system:serviceaccount:hub:hub";

/// Objects by path, as the API server would keep them.
#[derive(Default)]
struct Objects {
    kept: BTreeMap<String, Value>,
    writes: Vec<String>,
    uids: usize,
}

type Kept = Arc<Mutex<Objects>>;

fn api_server(objects: Kept) -> Client {
    let service = tower::service_fn(move |request: Request<kube::client::Body>| {
        let objects = Arc::clone(&objects);
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            let (status, answer) = answer(&mut objects.lock().unwrap(), &head.method, head.uri.path(), &body);
            let response = Response::builder()
                .status(status)
                .header("content-type", "application/json")
                .body(Full::new(Bytes::from(answer.to_string())))
                .unwrap();
            Ok::<_, tower::BoxError>(response)
        }
    });
    Client::new(service, "default")
}

fn answer(objects: &mut Objects, method: &Method, path: &str, body: &[u8]) -> (StatusCode, Value) {
    if path.ends_with("/tokenreviews") {
        return (
            StatusCode::CREATED,
            review(&serde_json::from_slice(body).unwrap()),
        );
    }
    match *method {
        Method::GET => match objects.kept.get(path) {
            Some(object) => (StatusCode::OK, object.clone()),
            None => {
                let missing = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                                     "message": format!("{path} not found"), "reason": "NotFound", "code": 404});
                (StatusCode::NOT_FOUND, missing)
            }
        },
        Method::PATCH => {
            let mut object: Value = serde_json::from_slice(body).unwrap();
            objects.writes.push(path.to_owned());
            let uid = match objects.kept.get(path) {
                Some(old) => old["metadata"]["uid"].clone(),
                None => {
                    objects.uids += 1;
                    json!(format!("uid-{}", objects.uids))
                }
            };
            object["metadata"]["uid"] = uid;
            objects.kept.insert(path.to_owned(), object.clone());
            (StatusCode::OK, object)
        }
        _ => panic!("{method} {path} is not what a spawn needs"),
    }
}

fn review(review: &Value) -> Value {
    assert_eq!(review["spec"]["audiences"], json!(["leasehold-spawner-hook"]));
    let status = match review["spec"]["token"].as_str().unwrap() {
        "hub" => {
            json!({"authenticated": true, "audiences": ["leasehold-spawner-hook"], "user": {"username": HUB}})
        }
        "alice" => json!({"authenticated": true, "audiences": ["leasehold-spawner-hook"],
                          "user": {"username": "system:serviceaccount:hub:nb-alice"}}),
        "for-the-api-server" => {
            json!({"authenticated": true, "audiences": ["https://kubernetes"], "user": {"username": HUB}})
        }
        _ => json!({"authenticated": false, "error": "invalid"}),
    };
    json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "metadata": {}, "spec": review["spec"], "status": status})
}

/// Remembers bindings, or refuses them.
#[derive(Clone, Default)]
struct Broker {
    bound: Arc<Mutex<Vec<wire::BindServiceAccountsRequest>>>,
    refusal: Arc<Mutex<Option<Status>>>,
}

fn unused<T>() -> Result<tonic::Response<T>, Status> {
    Err(Status::unimplemented("not the spawner-hook's"))
}

#[tonic::async_trait]
impl Machines for Broker {
    type WatchLeasesStream = BoxStream<'static, Result<wire::WatchLeasesResponse, Status>>;

    async fn watch_leases(
        &self,
        _: tonic::Request<wire::WatchLeasesRequest>,
    ) -> Result<tonic::Response<Self::WatchLeasesStream>, Status> {
        unused()
    }

    async fn resolve_mounts(
        &self,
        _: tonic::Request<wire::ResolveMountsRequest>,
    ) -> Result<tonic::Response<wire::ResolveMountsResponse>, Status> {
        unused()
    }

    async fn open_volume(
        &self,
        _: tonic::Request<wire::OpenVolumeRequest>,
    ) -> Result<tonic::Response<wire::OpenVolumeResponse>, Status> {
        unused()
    }

    async fn report_mount(
        &self,
        _: tonic::Request<wire::ReportMountRequest>,
    ) -> Result<tonic::Response<wire::ReportMountResponse>, Status> {
        unused()
    }

    async fn confirm_end(
        &self,
        _: tonic::Request<wire::ConfirmEndRequest>,
    ) -> Result<tonic::Response<wire::ConfirmEndResponse>, Status> {
        unused()
    }

    async fn bind_service_accounts(
        &self,
        request: tonic::Request<wire::BindServiceAccountsRequest>,
    ) -> Result<tonic::Response<wire::BindServiceAccountsResponse>, Status> {
        assert_eq!(
            request.metadata().get("authorization").unwrap(),
            "Bearer our-token"
        );
        if let Some(refusal) = self.refusal.lock().unwrap().clone() {
            return Err(refusal);
        }
        self.bound.lock().unwrap().push(request.into_inner());
        Ok(tonic::Response::new(wire::BindServiceAccountsResponse {
            subject: "5e".to_owned(),
            skeletons: vec![],
        }))
    }
}

struct World {
    objects: Kept,
    broker: Broker,
    router: Router,
    _directory: tempfile::TempDir,
}

async fn world() -> World {
    let objects = Kept::default();
    let namespace = |name: &str, labels: Value| {
        let object =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
        (format!("/api/v1/namespaces/{name}"), object)
    };
    objects.lock().unwrap().kept.extend([
        namespace("hub", json!({"leasehold.dev/users": "true"})),
        namespace("kube-system", json!({})),
        namespace("closed", json!({"leasehold.dev/users": "false"})),
    ]);
    let broker = Broker::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = tonic::transport::Server::builder().add_service(MachinesServer::new(broker.clone()));
    tokio::spawn(async move {
        server
            .serve_with_incoming(TcpListenerStream::new(listener))
            .await
            .unwrap()
    });
    let directory = tempfile::tempdir().unwrap();
    let (ca_file, token_file) = (directory.path().join("ca.crt"), directory.path().join("token"));
    std::fs::write(&ca_file, "-----BEGIN CERTIFICATE-----\nbroker\n").unwrap();
    std::fs::write(&token_file, "our-token").unwrap();
    let spawner = Spawner {
        cluster: Cluster::new(api_server(Arc::clone(&objects))),
        broker: MachinesClient::new(Endpoint {
            url,
            ca_file: ca_file.clone(),
            token_file,
        })
        .unwrap(),
        broker_ca_file: ca_file,
        hub_identities: BTreeSet::from([HUB.to_owned()]),
        patch: PatchSettings {
            broker_url: "https://broker:8443".to_owned(),
            cli_image: "cli:dev".to_owned(),
            cli_image_pull_policy: "Never".to_owned(),
            notebook_uid: 1000,
            notebook_gid: 100,
        },
    };
    let router = router(Arc::new(spawner), Arc::new(Observations::default()));
    World {
        objects,
        broker,
        router,
        _directory: directory,
    }
}

fn body(username: &str) -> Value {
    json!({
        "username": username, "namespace": "hub", "pod_name": format!("jupyter-{}", Names::of(username).person),
        "home": {"claim": "claim-alice", "sub_path": "alice", "mount_path": "/home/jovyan", "volume": "home"},
    })
}

impl World {
    async fn send(&self, token: Option<&str>, body: String) -> (StatusCode, Value) {
        let mut request = Request::post("/v1/spawn").header("content-type", "application/json");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(axum::body::Body::from(body)).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    async fn spawn(&self, body: &Value) -> (StatusCode, Value) {
        self.send(Some("hub"), body.to_string()).await
    }

    /// The stable code of a refusal after which nothing has changed.
    async fn refused(&self, token: Option<&str>, body: String) -> (u16, String) {
        let before = self.objects.lock().unwrap().kept.clone();
        let (status, answer) = self.send(token, body).await;
        assert_eq!(self.objects.lock().unwrap().kept, before, "something was changed");
        assert!(
            self.broker.bound.lock().unwrap().is_empty(),
            "something was bound"
        );
        let problem: Problem = serde_json::from_value(answer).unwrap();
        assert_eq!(problem.status, status.as_u16());
        (problem.status, problem.code().to_owned())
    }

    fn objects(&self) -> BTreeMap<String, Value> {
        self.objects.lock().unwrap().kept.clone()
    }
}

#[tokio::test]
async fn a_spawn_makes_the_accounts_binds_their_uids_and_answers_with_the_patch() {
    let world = world().await;
    let mut request = body("alice@example.com");
    request["id_token"] = json!("e.y.j");
    let (status, patch) = world.spawn(&request).await;
    assert_eq!(status, StatusCode::OK, "{patch}");
    let names = Names::of("alice@example.com");
    assert_eq!(patch["service_account"], names.notebook);
    assert_eq!(patch["executor_service_account"], names.executor);

    let objects = world.objects();
    let account = |name: &str| objects[&format!("/api/v1/namespaces/hub/serviceaccounts/{name}")].clone();
    assert_eq!(
        account(&names.notebook)["metadata"]["annotations"]["leasehold.dev/username"],
        "alice@example.com"
    );
    assert_eq!(
        objects["/api/v1/namespaces/hub/configmaps/leasehold-ca"]["data"]["ca.crt"],
        "-----BEGIN CERTIFICATE-----\nbroker\n"
    );

    let bound = world.broker.bound.lock().unwrap().clone();
    assert_eq!(bound.len(), 1);
    assert_eq!(
        (bound[0].username.as_str(), bound[0].id_token.as_str()),
        ("alice@example.com", "e.y.j")
    );
    let (notebook, executor) = (
        bound[0].notebook.clone().unwrap(),
        bound[0].executor.clone().unwrap(),
    );
    assert_eq!(json!(notebook.uid), account(&names.notebook)["metadata"]["uid"]);
    assert_eq!(json!(executor.uid), account(&names.executor)["metadata"]["uid"]);
    assert_ne!(notebook.uid, executor.uid);
    let home = bound[0].home.clone().unwrap();
    assert_eq!(
        (
            home.claim.as_str(),
            home.sub_path.as_str(),
            home.mount_path.as_str()
        ),
        ("claim-alice", "alice", "/home/jovyan")
    );
}

#[tokio::test]
async fn spawning_again_changes_nothing() {
    let world = world().await;
    let (_, first) = world.spawn(&body("alice")).await;
    let before = world.objects();
    let (status, second) = world.spawn(&body("alice")).await;
    assert_eq!((status, &second), (StatusCode::OK, &first));
    assert_eq!(world.objects(), before);
    let bound = world.broker.bound.lock().unwrap().clone();
    assert_eq!(bound[0], bound[1]);
}

#[tokio::test]
async fn two_servers_of_a_person_keep_the_right_to_their_own_pods() {
    let world = world().await;
    let mut other = body("alice");
    other["pod_name"] = json!("jupyter-alice--second");
    assert_eq!(world.spawn(&body("alice")).await.0, StatusCode::OK);
    assert_eq!(world.spawn(&other).await.0, StatusCode::OK);
    let pods: BTreeSet<String> = world
        .objects()
        .values()
        .filter(|object| object["kind"] == "Role")
        .flat_map(|role| role["rules"].as_array().unwrap().clone())
        .filter(|rule| rule["resources"] == json!(["pods"]))
        .map(|rule| rule["resourceNames"].to_string())
        .collect();
    assert_eq!(pods.len(), 2, "{pods:?}");
}

#[tokio::test]
async fn usernames_that_look_alike_get_different_accounts() {
    let world = world().await;
    let mut accounts = BTreeSet::new();
    for username in [
        "alice@example.com",
        "alice-example-com",
        "Alice@Example.com",
        "alice-40example-2ecom",
    ] {
        let (status, patch) = world.spawn(&body(username)).await;
        assert_eq!(status, StatusCode::OK, "{patch}");
        accounts.insert(patch["service_account"].as_str().unwrap().to_owned());
        accounts.insert(patch["executor_service_account"].as_str().unwrap().to_owned());
    }
    assert_eq!(accounts.len(), 8);
}

#[tokio::test]
async fn a_name_that_belongs_to_another_username_is_refused() {
    let names = Names::of("alice");
    let taken = [
        (
            format!("/api/v1/namespaces/hub/serviceaccounts/{}", names.notebook),
            "username_taken",
        ),
        (
            format!("/api/v1/namespaces/hub/serviceaccounts/{}", names.executor),
            "username_taken",
        ),
        (
            format!(
                "/apis/rbac.authorization.k8s.io/v1/namespaces/hub/roles/{}",
                names.notebook
            ),
            "username_taken",
        ),
    ];
    for (path, code) in taken {
        for annotations in [json!({"leasehold.dev/username": "mallory"}), json!({})] {
            let world = world().await;
            let kind = if path.contains("roles") {
                "Role"
            } else {
                "ServiceAccount"
            };
            let object = json!({"kind": kind, "metadata": {"name": "x", "annotations": annotations}});
            world.objects.lock().unwrap().kept.insert(path.clone(), object);
            assert_eq!(
                world.refused(Some("hub"), body("alice").to_string()).await,
                (409, code.to_owned())
            );
        }
    }
}

#[tokio::test]
async fn nobody_is_given_the_right_to_a_pod_that_has_the_name_of_anothers() {
    let world = world().await;
    assert_eq!(world.spawn(&body("alice")).await.0, StatusCode::OK);
    world.broker.bound.lock().unwrap().clear();
    // A username whose slug collides in KubeSpawner's 32 bits.
    let mut mallory = body("mallory");
    mallory["pod_name"] = body("alice")["pod_name"].clone();
    assert_eq!(
        world.refused(Some("hub"), mallory.to_string()).await,
        (409, "pod_name_taken".to_owned())
    );
}

#[tokio::test]
async fn only_a_hub_with_a_token_for_us_may_call() {
    let world = world().await;
    let table = [
        (None, 401, "unauthenticated"),
        (Some(""), 401, "unauthenticated"),
        (Some("forged"), 401, "unauthenticated"),
        (Some("for-the-api-server"), 401, "unauthenticated"),
        (Some("alice"), 403, "not_a_hub"),
    ];
    for (token, status, code) in table {
        let refused = world.refused(token, body("alice").to_string()).await;
        assert_eq!(refused, (status, code.to_owned()), "{token:?}");
        // Who may not call learns nothing about bodies either.
        let malformed = world.refused(token, "{".to_owned()).await;
        assert_eq!(malformed, (status, code.to_owned()), "{token:?}");
    }
}

// T4 of docs/security/model.md.
#[tokio::test]
async fn nothing_is_made_outside_the_users_namespaces() {
    let world = world().await;
    for namespace in ["kube-system", "closed", "missing"] {
        let mut request = body("alice");
        request["namespace"] = json!(namespace);
        let refused = world.refused(Some("hub"), request.to_string()).await;
        assert_eq!(refused, (403, "namespace_not_allowed".to_owned()), "{namespace}");
    }
}

#[tokio::test]
async fn bad_bodies_are_refused_without_quoting_them() {
    let world = world().await;
    let mut token_of_wrong_type = body("alice");
    token_of_wrong_type["id_token"] = json!({"s3cr3t": "s3cr3t"});
    let mut unknown = body("alice");
    unknown["admin"] = json!(true);
    for content in [
        String::new(),
        "{".to_owned(),
        "[]".to_owned(),
        json!({"username": "alice"}).to_string(),
        token_of_wrong_type.to_string(),
        unknown.to_string(),
        format!("\"{}\"", "x".repeat(70_000)),
    ] {
        let refused = world.refused(Some("hub"), content).await;
        assert_eq!(refused, (400, "malformed_body".to_owned()));
    }
    let (_, answer) = world.send(Some("hub"), token_of_wrong_type.to_string()).await;
    assert!(!answer.to_string().contains("s3cr3t"), "{answer}");
    let mut field = body("alice");
    field["home"]["mount_path"] = json!("/home/../etc");
    let (status, answer) = world.spawn(&field).await;
    assert_eq!(
        (status, &answer["field"]),
        (StatusCode::BAD_REQUEST, &json!("home.mount_path"))
    );
}

#[tokio::test]
async fn without_a_binding_there_is_no_patch() {
    let world = world().await;
    let table = [
        (
            Status::invalid_argument("id_token: it was not accepted"),
            400,
            "person_refused",
        ),
        (
            Status::already_exists("bound to another person"),
            409,
            "binding_taken",
        ),
        (
            Status::permission_denied("not a spawner-hook"),
            502,
            "broker_refused",
        ),
        (
            Status::unavailable("the ledger is away"),
            503,
            "broker_unreachable",
        ),
    ];
    for (refusal, status, code) in table {
        *world.broker.refusal.lock().unwrap() = Some(refusal);
        let (answered, answer) = world.spawn(&body("alice")).await;
        assert_eq!(
            (answered.as_u16(), answer["type"].as_str().unwrap()),
            (status, &*format!("urn:leasehold:problem:{code}"))
        );
        assert!(answer.get("service_account").is_none());
    }
    *world.broker.refusal.lock().unwrap() = None;
    assert_eq!(
        world.spawn(&body("alice")).await.0,
        StatusCode::OK,
        "trying again after all that works"
    );
}
