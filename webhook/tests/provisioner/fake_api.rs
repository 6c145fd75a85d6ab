//! An API server in memory, as far as the provisioner and the webhook's certificates need one: objects with uids and versions,
//! lists and watches with selectors, the patches that are used, preconditions, the protection of claims in use. On request it
//! plays the controllers: it binds volumes, runs probe pods, ends pods.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;

/// What a probe pod prints, from its command line.
type ProbeAnswer = Arc<dyn Fn(&[String]) -> String + Send + Sync>;
/// Called at each write before it happens; false: the caller never gets an answer and nothing happens.
type Gate = Arc<dyn Fn(&str) -> bool + Send + Sync>;

#[derive(Clone)]
pub struct FakeApi {
    state: Arc<Mutex<State>>,
    events: broadcast::Sender<(String, &'static str, Value)>,
}

struct State {
    objects: BTreeMap<String, Value>,
    version: u64,
    writes: Vec<String>,
    logs: BTreeMap<String, String>,
    probe: ProbeAnswer,
    gate: Gate,
    managers: BTreeMap<(String, String), Vec<String>>,
    reads: BTreeMap<String, usize>,
    unanswered: Option<String>,
    limits: BTreeMap<String, u64>,
}

type Answer = (StatusCode, Value);

impl FakeApi {
    pub fn new() -> Self {
        let state = State {
            objects: BTreeMap::new(),
            version: 1,
            writes: Vec::new(),
            logs: BTreeMap::new(),
            probe: Arc::new(|_| r#"{"ok":true,"skeleton":["a","a/b"]}"#.to_owned()),
            gate: Arc::new(|_| true),
            managers: BTreeMap::new(),
            reads: BTreeMap::new(),
            unanswered: None,
            limits: BTreeMap::new(),
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            events: broadcast::channel(4096).0,
        }
    }

    pub fn client(&self) -> kube::Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.answer(request).await) }
        });
        kube::Client::new(service, "default")
    }

    pub fn probe_answers(&self, answer: impl Fn(&[String]) -> String + Send + Sync + 'static) {
        self.state.lock().unwrap().probe = Arc::new(answer);
    }

    pub fn gate(&self, gate: impl Fn(&str) -> bool + Send + Sync + 'static) {
        self.state.lock().unwrap().gate = Arc::new(gate);
    }

    pub fn writes(&self) -> Vec<String> {
        self.state.lock().unwrap().writes.clone()
    }

    /// How often somebody asked for this object or list.
    pub fn reads(&self, path: &str) -> usize {
        self.state.lock().unwrap().reads.get(path).copied().unwrap_or(0)
    }

    /// From now on a list of this path gets no answer.
    pub fn leaves_unanswered(&self, path: &str) {
        self.state.lock().unwrap().unanswered = Some(path.to_owned());
    }

    /// The most objects that one list of this path asked for; none: it was never listed.
    pub fn largest_page(&self, path: &str) -> Option<u64> {
        self.state.lock().unwrap().limits.get(path).copied()
    }

    pub fn get(&self, path: &str) -> Option<Value> {
        self.state.lock().unwrap().objects.get(path).cloned()
    }

    pub fn paths(&self) -> Vec<String> {
        self.state.lock().unwrap().objects.keys().cloned().collect()
    }

    /// Puts an object as somebody else would.
    pub fn put(&self, path: &str, mut object: Value) {
        let mut state = self.state.lock().unwrap();
        let kind = match state.objects.get(path) {
            Some(former) => {
                object["metadata"]["uid"] = former["metadata"]["uid"].clone();
                "MODIFIED"
            }
            None => {
                object["metadata"]["uid"] = json!(state.uid());
                "ADDED"
            }
        };
        self.store(&mut state, path, kind, object);
        self.react(&mut state);
    }

    pub fn remove(&self, path: &str) {
        let mut state = self.state.lock().unwrap();
        self.drop_object(&mut state, path);
        self.react(&mut state);
    }

    async fn answer(&self, request: Request<Body>) -> Response<UnsyncBoxBody<Bytes, Infallible>> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let path = parts.uri.path().to_owned();
        let query: BTreeMap<String, String> = parts
            .uri
            .query()
            .unwrap_or_default()
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(k, v)| (k.to_owned(), decode(v)))
            .collect();
        if parts.method != Method::GET {
            let gate = Arc::clone(&self.state.lock().unwrap().gate);
            let write = format!("{} {path}", parts.method);
            if !gate(&write) {
                return std::future::pending().await;
            }
        }
        if query.get("watch").is_some_and(|watch| watch == "true") {
            return self.watch(&path, &query);
        }
        if parts.method == Method::GET && self.state.lock().unwrap().unanswered.as_ref() == Some(&path) {
            return std::future::pending().await;
        }
        let content_type = parts
            .headers
            .get("content-type")
            .map(|v| v.to_str().unwrap().to_owned())
            .unwrap_or_default();
        let body: Value = if body.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&body).unwrap()
        };
        if path.ends_with("/log") {
            let logs = self
                .state
                .lock()
                .unwrap()
                .logs
                .get(path.trim_end_matches("/log"))
                .cloned();
            return match logs {
                Some(text) => Response::new(Full::new(text.into()).boxed_unsync()),
                None => respond(not_found(&path)),
            };
        }
        let answer = match parts.method {
            Method::GET => self.read(&path, &query),
            Method::POST => self.create(&path, body),
            Method::PUT => self.replace(&path, body),
            Method::PATCH => self.patch(&path, &query, &content_type, &body),
            Method::DELETE => self.delete(&path, &body),
            other => panic!("{other} {path}"),
        };
        respond(answer)
    }

    fn read(&self, path: &str, query: &BTreeMap<String, String>) -> Answer {
        let mut state = self.state.lock().unwrap();
        *state.reads.entry(path.to_owned()).or_default() += 1;
        if let Some(object) = state.objects.get(path) {
            return (StatusCode::OK, object.clone());
        }
        if is_object(path) {
            return not_found(path);
        }
        let limit: u64 = query
            .get("limit")
            .map_or(u64::MAX, |limit| limit.parse().unwrap());
        let largest = state.limits.entry(path.to_owned()).or_default();
        *largest = limit.max(*largest);
        // Goes on after the last object of the page before.
        let after = query.get("continue");
        let mut found: Vec<(&String, &Value)> = state
            .objects
            .iter()
            .filter(|(key, object)| {
                within(key, path) && selected(object, query) && after.is_none_or(|after| *key > after)
            })
            .collect();
        let more = found.len() as u64 > limit;
        if more {
            found.truncate(usize::try_from(limit).unwrap());
        }
        let next = found.last().filter(|_| more).map(|(key, _)| (*key).clone());
        let items: Vec<Value> = found.into_iter().map(|(_, object)| object.clone()).collect();
        let list = json!({
            "apiVersion": "v1", "kind": "List", "items": items,
            "metadata": {"resourceVersion": state.version.to_string(), "continue": next.unwrap_or_default()},
        });
        (StatusCode::OK, list)
    }

    fn watch(
        &self,
        path: &str,
        query: &BTreeMap<String, String>,
    ) -> Response<UnsyncBoxBody<Bytes, Infallible>> {
        let (path, query) = (path.to_owned(), query.clone());
        // What happened between the list and this is told again: nobody minds twice.
        let state = self.state.lock().unwrap();
        let receiver = self.events.subscribe();
        let present: Vec<_> = state
            .objects
            .iter()
            .filter(|(key, object)| within(key, &path) && selected(object, &query))
            .map(|(_, object)| line("MODIFIED", object))
            .collect();
        drop(state);
        let live = BroadcastStream::new(receiver).filter_map(move |event| {
            let event = event
                .ok()
                .filter(|(key, _, object)| within(key, &path) && selected(object, &query));
            std::future::ready(event.map(|(_, kind, object)| line(kind, &object)))
        });
        let all = futures::stream::iter(present).chain(live);
        Response::new(BodyExt::boxed_unsync(StreamBody::new(
            all.map(|line| Ok::<_, Infallible>(Frame::data(line))),
        )))
    }

    fn create(&self, collection: &str, mut object: Value) -> Answer {
        let mut state = self.state.lock().unwrap();
        let path = format!("{collection}/{}", object["metadata"]["name"].as_str().unwrap());
        state.writes.push(format!("POST {path}"));
        if state.objects.contains_key(&path) {
            return refusal(409, "AlreadyExists", &path);
        }
        object["metadata"]["uid"] = json!(state.uid());
        let object = self.store(&mut state, &path, "ADDED", object);
        self.react(&mut state);
        (StatusCode::CREATED, object)
    }

    fn replace(&self, path: &str, mut object: Value) -> Answer {
        let mut state = self.state.lock().unwrap();
        let Some(former) = state.objects.get(path) else {
            return not_found(path);
        };
        if former["metadata"]["resourceVersion"] != object["metadata"]["resourceVersion"] {
            return refusal(409, "Conflict", path);
        }
        object["metadata"]["uid"] = former["metadata"]["uid"].clone();
        state.writes.push(format!("PUT {path}"));
        (StatusCode::OK, self.store(&mut state, path, "MODIFIED", object))
    }

    fn patch(
        &self,
        path: &str,
        query: &BTreeMap<String, String>,
        content_type: &str,
        body: &Value,
    ) -> Answer {
        let mut state = self.state.lock().unwrap();
        let Some(mut object) = state.objects.get(path).cloned() else {
            return not_found(path);
        };
        match content_type {
            "application/apply-patch+yaml" => {
                // Enough of server-side apply for `data`: a manager's keys are what it applied last.
                let manager = (path.to_owned(), query["fieldManager"].clone());
                let new = body["data"].as_object().unwrap().clone();
                for key in state
                    .managers
                    .insert(manager, new.keys().cloned().collect())
                    .unwrap_or_default()
                {
                    object["data"].as_object_mut().unwrap().remove(&key);
                }
                for (key, value) in new {
                    object["data"][key] = value;
                }
            }
            "application/merge-patch+json" => json_patch::merge(&mut object, body),
            "application/strategic-merge-patch+json" => {
                for webhook in body["webhooks"].as_array().unwrap() {
                    let all = object["webhooks"].as_array_mut().unwrap();
                    let found = all.iter_mut().find(|one| one["name"] == webhook["name"]).unwrap();
                    json_patch::merge(found, webhook);
                }
            }
            other => panic!("{other}"),
        }
        if Some(&object) == state.objects.get(path) {
            return (StatusCode::OK, object);
        }
        state.writes.push(format!("PATCH {path}"));
        (StatusCode::OK, self.store(&mut state, path, "MODIFIED", object))
    }

    fn delete(&self, path: &str, options: &Value) -> Answer {
        let mut state = self.state.lock().unwrap();
        let Some(mut object) = state.objects.get(path).cloned() else {
            return not_found(path);
        };
        let expected = &options["preconditions"]["uid"];
        if !expected.is_null() && *expected != object["metadata"]["uid"] {
            return refusal(409, "Conflict", path);
        }
        state.writes.push(format!("DELETE {path}"));
        if path.contains("/persistentvolumeclaims/") && object["metadata"]["deletionTimestamp"].is_null() {
            object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            self.store(&mut state, path, "MODIFIED", object.clone());
        } else if !path.contains("/persistentvolumeclaims/") {
            self.drop_object(&mut state, path);
        }
        self.react(&mut state);
        (StatusCode::OK, object)
    }

    fn store(&self, state: &mut State, path: &str, kind: &'static str, mut object: Value) -> Value {
        state.version += 1;
        object["metadata"]["resourceVersion"] = json!(state.version.to_string());
        if let Some(rest) = path
            .split("/namespaces/")
            .nth(1)
            .filter(|rest| rest.contains('/'))
        {
            object["metadata"]["namespace"] = json!(rest.split('/').next().unwrap());
        }
        state.objects.insert(path.to_owned(), object.clone());
        let _ = self.events.send((path.to_owned(), kind, object.clone()));
        object
    }

    fn drop_object(&self, state: &mut State, path: &str) {
        if let Some(object) = state.objects.remove(path) {
            state.version += 1;
            let _ = self.events.send((path.to_owned(), "DELETED", object));
        }
    }

    /// Plays the controllers and the kubelet.
    fn react(&self, state: &mut State) {
        let all: Vec<(String, Value)> = state
            .objects
            .iter()
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        for (path, object) in &all {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            if path.contains("/pods/") && name.starts_with("leasehold-probe-") && object["status"].is_null() {
                let command: Vec<String> =
                    serde_json::from_value(object["spec"]["containers"][0]["command"].clone()).unwrap();
                let output = (state.probe)(&command);
                state.logs.insert(path.clone(), output);
                let mut done = object.clone();
                done["status"] = json!({"phase": "Succeeded"});
                self.store(state, path, "MODIFIED", done);
            }
            if path.contains("/persistentvolumeclaims/") {
                let in_use = all.iter().any(|(pod_path, pod)| {
                    let claims = pod["spec"]["volumes"].as_array().into_iter().flatten();
                    let mut names = claims.map(|v| &v["persistentVolumeClaim"]["claimName"]);
                    state.objects.contains_key(pod_path)
                        && pod["metadata"]["namespace"] == object["metadata"]["namespace"]
                        && names.any(|claim| claim == name)
                });
                if !object["metadata"]["deletionTimestamp"].is_null() && !in_use {
                    self.drop_object(state, path);
                    continue;
                }
                let volume = state.objects.get(&format!(
                    "/api/v1/persistentvolumes/{}",
                    object["spec"]["volumeName"].as_str().unwrap()
                ));
                let fits = volume.is_some_and(|v| v["spec"]["claimRef"]["uid"] == object["metadata"]["uid"]);
                if fits && object["status"]["phase"] != "Bound" {
                    let mut bound = object.clone();
                    bound["status"] = json!({"phase": "Bound"});
                    self.store(state, path, "MODIFIED", bound);
                }
            }
        }
    }
}

impl State {
    fn uid(&mut self) -> String {
        self.version += 1;
        format!("uid-{}", self.version)
    }
}

fn line(kind: &str, object: &Value) -> Bytes {
    format!("{}\n", json!({"type": kind, "object": object})).into()
}

fn respond((status, body): Answer) -> Response<UnsyncBoxBody<Bytes, Infallible>> {
    let body = Full::new(Bytes::from(body.to_string())).boxed_unsync();
    Response::builder().status(status).body(body).unwrap()
}

fn refusal(code: u16, reason: &str, path: &str) -> Answer {
    let body = json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "reason": reason,
        "message": format!("{reason}: {path}"),
    });
    (StatusCode::from_u16(code).unwrap(), body)
}

fn not_found(path: &str) -> Answer {
    refusal(404, "NotFound", path)
}

/// True for the path of an object, false for that of a collection.
fn is_object(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let rest = if parts[0] == "api" {
        &parts[2..]
    } else {
        &parts[3..]
    };
    match rest {
        ["namespaces", _] => true,
        ["namespaces", _, _] => false,
        ["namespaces", _, _, _] => true,
        other => other.len() == 2,
    }
}

/// An object's path belongs to a collection, which may span all namespaces.
fn within(object: &str, collection: &str) -> bool {
    let Some((parent, _)) = object.rsplit_once('/') else {
        return false;
    };
    if parent == collection {
        return true;
    }
    let Some((root, kind)) = collection.rsplit_once('/') else {
        return false;
    };
    parent
        .strip_prefix(root)
        .and_then(|rest| rest.strip_prefix("/namespaces/"))
        .and_then(|rest| rest.split_once('/'))
        .is_some_and(|(_, rest)| rest == kind)
}

fn selected(object: &Value, query: &BTreeMap<String, String>) -> bool {
    let labels = &object["metadata"]["labels"];
    let by_label = query
        .get("labelSelector")
        .is_none_or(|selector| match selector.split_once('=') {
            Some((key, value)) => labels[key] == *value,
            None => !labels[selector.as_str()].is_null(),
        });
    let by_field = query.get("fieldSelector").is_none_or(|selector| {
        object["metadata"]["name"].as_str() == selector.strip_prefix("metadata.name=")
    });
    by_label && by_field
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let hex: Vec<u8> = rest.by_ref().take(2).collect();
                bytes.push(u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap());
            }
            b'+' => bytes.push(b' '),
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).unwrap()
}
