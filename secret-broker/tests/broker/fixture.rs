//! A broker as its operator runs it: the built binary, a configuration file, a data directory; with two issuers that the tests own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use leasehold_broker_wire::machines::machines_client::MachinesClient;
use serde_json::{Value, json};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig};
use tonic::{Request, Status};

use crate::issuer::{Issuer, Signer};

#[path = "fixture/operator.rs"]
mod operator;

/// Longer than anything takes on a slow machine, some tries with their deadlines included.
pub const PATIENCE: Duration = Duration::from_secs(120);
const CLUSTER: &str = "https://kubernetes.default.svc.cluster.local";

type Machines = MachinesClient<
    InterceptedService<Channel, Box<dyn FnMut(Request<()>) -> Result<Request<()>, Status> + Send>>,
>;

/// Where a running broker listens.
struct Process {
    child: Child,
    rest: String,
    grpc: String,
    probe: String,
}

/// Whose broker it is, and how else it is started.
#[derive(Debug, Clone)]
pub struct Setting {
    pub organisation: String,
    pub arguments: Vec<String>,
    pub environment: Vec<(String, String)>,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            organisation: "UiSMSP".to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
        }
    }
}

pub struct Fixture {
    setting: Setting,
    pub directory: tempfile::TempDir,
    pub provider: Arc<Issuer>,
    pub cluster: Arc<Issuer>,
    process: Mutex<Option<Process>>,
    /// Every REST answer's text, for the canary.
    pub answers: Mutex<Vec<String>>,
}

impl Fixture {
    pub async fn start() -> Self {
        Self::start_with(Setting::default()).await
    }

    pub async fn start_with(setting: Setting) -> Self {
        let _already = rustls::crypto::ring::default_provider().install_default();
        let directory = tempfile::tempdir().unwrap();
        let provider = Issuer::start(Signer::es256("provider-1"), None, None).await;
        let cluster = Issuer::start(
            Signer::rs256("cluster-1"),
            Some(CLUSTER),
            Some("the-brokers-own-token"),
        )
        .await;
        let token_file = directory.path().join("own-token");
        std::fs::write(&token_file, "the-brokers-own-token\n").unwrap();
        let config = json!({
            "issuers": [
                {"name": "cluster", "kind": "kubernetes", "api_server": cluster.url, "token_file": token_file, "ca_file": null},
                {"name": "provider", "kind": "oidc", "issuer": provider.url, "audience": "leasehold",
                 "algorithms": ["ES256", "RS256"], "username_claim": "preferred_username", "researchers": true},
            ],
            "stewards": [{"issuer": "provider", "subject": "steward"}],
            "machines": {
                "webhook": ["system:serviceaccount:leasehold-system:leasehold-webhook"],
                "provisioner": ["system:serviceaccount:leasehold-system:leasehold-provisioner"],
                "spawner_hook": ["system:serviceaccount:leasehold-system:leasehold-spawner-hook"],
            },
        });
        std::fs::write(directory.path().join("config.yaml"), config.to_string()).unwrap();
        let fixture = Self {
            setting,
            directory,
            provider: Arc::new(provider),
            cluster: Arc::new(cluster),
            process: Mutex::new(None),
            answers: Mutex::new(Vec::new()),
        };
        // On a ledger that others share a broker makes no ring where its organisation has datasets.
        if fixture
            .setting
            .arguments
            .iter()
            .any(|argument| argument == "--ledger")
        {
            std::fs::create_dir_all(fixture.data_dir()).unwrap();
            fixture.keys_done(&["init"]);
        }
        fixture.run().await;
        fixture
    }

    /// One that logs little: of many restarts each reads its log anew.
    pub async fn start_quiet(mut setting: Setting) -> Self {
        let level = ("LEASEHOLD_LOG".to_owned(), "info,sqlx=warn".to_owned());
        setting.environment.push(level);
        Self::start_with(setting).await
    }

    /// Another replica of the same broker: same organisation, people, ring and arguments, and a data directory of its own.
    pub async fn replica(&self) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = |at: &tempfile::TempDir| at.path().join("config.yaml");
        std::fs::copy(config(&self.directory), config(&directory)).unwrap();
        let replica = Self {
            setting: self.setting.clone(),
            directory,
            provider: Arc::clone(&self.provider),
            cluster: Arc::clone(&self.cluster),
            process: Mutex::new(None),
            answers: Mutex::new(Vec::new()),
        };
        std::fs::create_dir_all(replica.data_dir()).unwrap();
        std::fs::copy(self.data_dir().join("keys"), replica.data_dir().join("keys")).unwrap();
        replica.run().await;
        replica
    }

    /// The value of one of the arguments that it was started with.
    pub fn argument(&self, name: &str) -> &str {
        let mut arguments = self.setting.arguments.iter();
        arguments.find(|argument| *argument == name).unwrap();
        arguments.next().unwrap()
    }

    /// Another value in its environment, from the next start on.
    pub fn set(&mut self, name: &str, value: &str) {
        let variable = (name.to_owned(), value.to_owned());
        self.setting.environment.push(variable);
    }

    pub fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    pub fn log_path(&self) -> PathBuf {
        self.directory.path().join("broker.log")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap()
    }

    /// Starts the process and waits until it is ready.
    pub async fn run(&self) {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_path())
            .unwrap();
        let before = self.log().len();
        let child = self.command().stderr(log).stdout(Stdio::null()).spawn().unwrap();
        let line = eventually("the broker to listen", async || {
            // The last line may be half written.
            let log = self.log();
            let whole = log[before..].rsplit_once('\n')?.0;
            whole
                .lines()
                .find(|l| l.contains("the secret broker listens"))
                .map(str::to_owned)
        })
        .await;
        let line: Value = serde_json::from_str(&line).unwrap();
        let at = |name: &str| line[name].as_str().unwrap().to_owned();
        let process = Process {
            child,
            rest: at("rest"),
            grpc: at("grpc"),
            probe: at("probe"),
        };
        *self.process.lock().unwrap() = Some(process);
        self.ready().await;
    }

    /// The process as it is started, its streams aside.
    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_leasehold-secret-broker"));
        command
            .env_clear()
            .env("LEASEHOLD_KEY_DESTRUCTION_DELAY_SECONDS", "0")
            // Tests ask faster than people do.
            .env("LEASEHOLD_PERSON_REQUESTS_PER_SECOND", "1000000")
            .env("LEASEHOLD_PERSON_CHANGES_PER_MINUTE", "1000000")
            .env(
                "LEASEHOLD_LOG",
                "trace,hyper=info,h2=info,rustls=info,sqlx=trace,tokio=info,mio=info",
            )
            .envs(self.setting.environment.iter().cloned())
            .args(["--organisation", &self.setting.organisation, "--kek-create"])
            .arg("--local-roots")
            .arg(format!("{}=/srv/leasehold/uis", self.setting.organisation))
            .args(&self.setting.arguments)
            .args([
                "--rest-listen",
                "127.0.0.1:0",
                "--grpc-listen",
                "127.0.0.1:0",
                "--probe-listen",
                "127.0.0.1:0",
            ])
            .arg("--config")
            .arg(self.directory.path().join("config.yaml"))
            .arg("--data-dir")
            .arg(self.data_dir());
        command
    }

    /// Starts a broker that must end by itself, and yields why it did.
    pub fn refused(&self) -> String {
        let output = self.command().stdout(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let log = String::from_utf8(output.stderr).unwrap();
        let errors = log.lines().filter(|line| line.contains("\"ERROR\""));
        errors.collect::<Vec<_>>().join("\n")
    }

    /// Waits until the broker says that it is ready.
    pub async fn ready(&self) {
        let probe = format!("http://{}/readyz", self.at(|p| p.probe.clone()));
        eventually("the broker to be ready", async || {
            let mut process = self.process.lock().unwrap().take().unwrap();
            let ended = process.child.try_wait().unwrap();
            *self.process.lock().unwrap() = Some(process);
            assert!(ended.is_none(), "the broker ended: {ended:?}");
            client(None)
                .get(&probe)
                .send()
                .await
                .ok()?
                .status()
                .is_success()
                .then_some(())
        })
        .await;
    }

    /// Ends the process as `kill -9` does.
    pub fn kill(&self) {
        let mut process = self.process.lock().unwrap().take().unwrap();
        process.child.kill().unwrap();
        process.child.wait().unwrap();
    }

    /// Asks the process to end, as Kubernetes does, and waits until it has; for as long as Kubernetes does by default, and again.
    pub fn terminate(&self) -> std::process::ExitStatus {
        let mut process = self.process.lock().unwrap().take().unwrap();
        let pid = nix::unistd::Pid::from_raw(i32::try_from(process.child.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        let asked = Instant::now();
        loop {
            if let Some(status) = process.child.try_wait().unwrap() {
                return status;
            }
            assert!(asked.elapsed() < PATIENCE * 2, "the broker does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends the process, changes its configuration and starts it again.
    pub async fn reconfigure(&self, change: impl FnOnce(&mut Value)) {
        self.kill();
        let path = self.directory.path().join("config.yaml");
        let mut config: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        change(&mut config);
        std::fs::write(&path, config.to_string()).unwrap();
        self.run().await;
    }

    /// What the broker says of its readiness.
    pub async fn readiness(&self) -> (u16, String) {
        let url = format!("http://{}/readyz", self.at(|p| p.probe.clone()));
        let answer = client(None).get(url).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    pub async fn metrics(&self) -> String {
        let url = format!("http://{}/metrics", self.at(|p| p.probe.clone()));
        client(None).get(url).send().await.unwrap().text().await.unwrap()
    }

    fn at<T>(&self, get: impl Fn(&Process) -> T) -> T {
        get(self.process.lock().unwrap().as_ref().unwrap())
    }

    pub fn pid(&self) -> u32 {
        self.at(|process| process.child.id())
    }

    pub fn authority(&self) -> String {
        let pem = std::fs::read_to_string(self.data_dir().join("tls-ca.pem")).unwrap();
        pem[pem.find("-----BEGIN CERTIFICATE-----").unwrap()..].to_owned()
    }

    pub fn rest_url(&self, path: &str) -> String {
        format!("https://{}{path}", self.at(|p| p.rest.clone()))
    }

    /// The same; none while it does not run.
    pub fn rest_url_now(&self, path: &str) -> Option<String> {
        let process = self.process.lock().unwrap();
        let rest = &process.as_ref()?.rest;
        Some(format!("https://{rest}{path}"))
    }

    pub fn client(&self) -> reqwest::Client {
        client(Some(&self.authority()))
    }

    pub fn person(&self, sub: &str) -> String {
        self.provider.sign(&self.provider.person(sub))
    }

    /// A person's request. Yields status, headers' location, and the JSON body.
    pub async fn call(&self, method: &str, path: &str, token: &str, body: Option<Value>) -> Answer {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self
            .client()
            .request(method, self.rest_url(path))
            .bearer_auth(token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        self.send(request).await
    }

    pub async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let text = response.text().await.unwrap();
        self.answers.lock().unwrap().push(text.clone());
        Answer {
            status,
            headers,
            body: serde_json::from_str(&text).unwrap_or(Value::Null),
        }
    }

    /// Waits until an accepted operation is decided.
    pub async fn decided(&self, accepted: &Answer, token: &str) -> Value {
        assert_eq!(accepted.status, 202, "{}", accepted.body);
        let location = accepted.headers["location"].to_str().unwrap().to_owned();
        eventually("an operation to be decided", async || {
            let operation = self.call("GET", &location, token, None).await.body;
            matches!(operation["status"].as_str(), Some("succeeded" | "failed")).then_some(operation)
        })
        .await
    }

    pub async fn register(&self, name: &str) -> String {
        let token = self.person("steward");
        let accepted = self
            .call("POST", "/v1/datasets", &token, Some(registration(name)))
            .await;
        let operation = self.decided(&accepted, &token).await;
        assert_eq!(operation["status"], "succeeded", "{operation}");
        operation["result"]["dataset"].as_str().unwrap().to_owned()
    }

    pub async fn lease(&self, dataset: &str, token: &str) -> String {
        let accepted = self
            .call("POST", "/v1/leases", token, Some(json!({ "dataset": dataset })))
            .await;
        let operation = self.decided(&accepted, token).await;
        assert_eq!(operation["status"], "succeeded", "{operation}");
        operation["result"]["lease"].as_str().unwrap().to_owned()
    }

    pub fn machine_token(&self, name: &str) -> String {
        self.cluster.sign(
            &self
                .cluster
                .account("leasehold-system", name, "machine-uid", "leasehold-broker"),
        )
    }

    /// A machine with its own token.
    pub async fn machine(&self, name: &str) -> Machines {
        self.machine_with(&self.machine_token(name)).await
    }

    pub async fn machine_with(&self, token: &str) -> Machines {
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(self.authority()))
            .domain_name("localhost");
        let channel = Channel::from_shared(format!("https://{}", self.at(|p| p.grpc.clone())))
            .unwrap()
            .tls_config(tls)
            .unwrap()
            .connect()
            .await
            .unwrap();
        let value: tonic::metadata::MetadataValue<_> = format!("Bearer {token}").parse().unwrap();
        MachinesClient::with_interceptor(
            channel,
            Box::new(move |mut request: Request<()>| {
                request.metadata_mut().insert("authorization", value.clone());
                Ok(request)
            }),
        )
    }

    /// What everybody can see of the state, to compare.
    pub async fn state(&self) -> Value {
        let token = self.person("steward");
        let datasets = self.call("GET", "/v1/datasets", &token, None).await.body;
        let leases = self.call("GET", "/v1/leases", &token, None).await.body;
        json!([datasets, leases])
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.lock().unwrap().take() {
            let _gone = process.child.kill();
            let _gone = process.child.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<_> = log
                .lines()
                .filter(|l| !l.contains("\"TRACE\""))
                .rev()
                .take(40)
                .collect();
            eprintln!("end of the broker's log:");
            for line in tail.iter().rev() {
                eprintln!("{line}");
            }
        }
    }
}

/// A REST answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: Value,
}

impl Answer {
    /// The problem's stable code.
    pub fn code(&self) -> &str {
        self.body["type"]
            .as_str()
            .unwrap_or_default()
            .rsplit(':')
            .next()
            .unwrap_or_default()
    }
}

pub fn registration(name: &str) -> Value {
    json!({
        "name": name, "title": "Three texts", "description": "for tests", "max_ttl_seconds": 3600,
        "volume": {"kind": "local", "path": format!("/srv/leasehold/uis/{name}"), "node": "node-1"},
    })
}

fn client(authority: Option<&str>) -> reqwest::Client {
    let roots = authority.map(|pem| reqwest::Certificate::from_pem(pem.as_bytes()).unwrap());
    reqwest::Client::builder()
        .tls_certs_only(roots)
        .no_proxy()
        .timeout(PATIENCE)
        .build()
        .unwrap()
}

/// Waits for a condition, looking again and again.
pub async fn eventually<T>(what: &str, look: impl AsyncFn() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// All files below a directory.
pub fn files(directory: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(directory)
        .unwrap()
        .flat_map(|entry| {
            let path = entry.unwrap().path();
            if path.is_dir() { files(&path) } else { vec![path] }
        })
        .collect()
}
