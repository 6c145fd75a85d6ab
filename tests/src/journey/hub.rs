//! A real JupyterHub with KubeSpawner and configurable-http-proxy, as processes on the node.

use std::{
    path::PathBuf,
    process::{Child, Stdio},
    time::Duration,
};

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::Api;
use reqwest::StatusCode;

use super::{
    notebook::Notebook,
    site::{SYSTEM_NAMESPACE, Site, USERS_NAMESPACE},
};
use crate::{TestResult, cluster::repository, wait_for};

/// The node's address, where the hub listens.
const ADDRESS: &str = "198.51.100.1";

/// A running hub. It ends when dropped.
pub struct Hub<'a> {
    site: &'a Site,
    process: Child,
    client: reqwest::Client,
    api_token: String,
    state: PathBuf,
}

impl<'a> Hub<'a> {
    /// Starts the hub and waits until its API answers. `LEASEHOLD_HUB_VENV` and `LEASEHOLD_HUB_PROXY` say where
    /// the Makefile has installed JupyterHub and the proxy.
    ///
    /// # Errors
    /// If it does not answer; its log is in the error.
    pub async fn start(site: &'a Site) -> TestResult<Self> {
        let cluster = site.cluster();
        let state = site.scratch("hub")?;
        // The hub speaks to both with its own identity: a kubeconfig for KubeSpawner, a token for the spawner-hook.
        let hook_token = cluster
            .token(USERS_NAMESPACE, "hub", "leasehold-spawner-hook")
            .await?;
        std::fs::write(state.join("hook-token"), hook_token)?;
        // Without it no spawn could be answered; the hub itself reads it at each spawn.
        let maps: Api<ConfigMap> = Api::namespaced(cluster.client()?, SYSTEM_NAMESPACE);
        wait_for(
            "the spawner-hook's certificate",
            Duration::from_secs(60),
            async || {
                let data = maps
                    .get("leasehold-spawner-hook-ca")
                    .await?
                    .data
                    .unwrap_or_default();
                Ok::<_, kube::Error>(data.contains_key("ca.crt").then_some(()))
            },
        )
        .await?;
        let kubeconfig = Self::kubeconfig(site, &state).await?;

        let api_token = uuid::Uuid::new_v4().simple().to_string();
        let venv = installed("LEASEHOLD_HUB_VENV")?;
        let proxy = installed("LEASEHOLD_HUB_PROXY")?;
        let log = std::fs::File::create(state.join("hub.log"))?;
        let process = cluster
            .node_command(["env"])?
            // On the node the administrator's stands there; JupyterHub reads it before its configuration.
            .arg(format!("KUBECONFIG={}", kubeconfig.display()))
            .arg(venv.join("bin/python3"))
            .args(["-m", "jupyterhub", "--config"])
            .arg(repository().join("jupyterhub-config/process_hub.py"))
            .env("HUB_ADDRESS", ADDRESS)
            .env("HUB_STATE", &state)
            .env("HUB_API_TOKEN", &api_token)
            .env("HUB_NAMESPACE", USERS_NAMESPACE)
            .env("HUB_NOTEBOOK_IMAGE", "leasehold.local/notebook:dev")
            .env("HUB_STORAGE_CLASS", "home")
            .env(
                "HUB_PROXY",
                proxy.join("node_modules/.bin/configurable-http-proxy"),
            )
            .env(
                "LEASEHOLD_SPAWNER_HOOK_URL",
                "https://leasehold-spawner-hook.leasehold-system.svc:8443",
            )
            .env("LEASEHOLD_SPAWNER_HOOK_TOKEN_FILE", state.join("hook-token"))
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let hub = Self {
            site,
            process,
            client: reqwest::Client::builder()
                .timeout(Duration::from_secs(30))
                .build()?,
            api_token,
            state,
        };
        let answers = wait_for("the hub's API", Duration::from_secs(90), async || {
            let answer = hub.request(reqwest::Method::GET, "/info").send().await?;
            Ok::<_, reqwest::Error>((answer.status() == StatusCode::OK).then_some(()))
        })
        .await;
        answers.map_err(|error| hub.with_log(&error.to_string()))?;
        Ok(hub)
    }

    /// A kubeconfig with the token of the hub's ServiceAccount and nothing else.
    async fn kubeconfig(site: &Site, state: &std::path::Path) -> TestResult<PathBuf> {
        let cluster = site.cluster();
        let token = cluster
            .token(USERS_NAMESPACE, "hub", "https://kubernetes.default.svc")
            .await?;
        let text = std::fs::read_to_string(cluster.kubeconfig())?;
        let mut config: serde_json::Value = serde_yaml::from_str(&text)?;
        if let Some(users) = config.get_mut("users").and_then(serde_json::Value::as_array_mut) {
            for user in users {
                if let Some(user) = user.as_object_mut() {
                    user.insert("user".to_owned(), serde_json::json!({ "token": token }));
                }
            }
        }
        let path = state.join("kubeconfig");
        std::fs::write(&path, serde_yaml::to_string(&config)?)?;
        Ok(path)
    }

    /// Starts the person's notebook, as their click on «Start my server» would, and waits until it is ready.
    ///
    /// # Errors
    /// If the hub refuses or the notebook does not come up; the hub's log is in the error.
    pub async fn spawn(&self, username: &str) -> TestResult<Notebook<'a>> {
        let path = format!("/users/{}", percent(username));
        let created = self.request(reqwest::Method::POST, &path).send().await?;
        if ![StatusCode::CREATED, StatusCode::CONFLICT].contains(&created.status()) {
            return Err(self.with_log(&format!(
                "the hub did not make {username}: {}",
                created.text().await?
            )));
        }
        let started = self
            .request(reqwest::Method::POST, &format!("{path}/server"))
            .send()
            .await?;
        if !started.status().is_success() && started.status() != StatusCode::BAD_REQUEST {
            return Err(self.with_log(&format!(
                "the hub did not spawn {username}: {}",
                started.text().await?
            )));
        }
        let ready = wait_for(
            &format!("the notebook of {username}"),
            Duration::from_secs(120),
            async || {
                let user: serde_json::Value = self
                    .request(reqwest::Method::GET, &path)
                    .send()
                    .await?
                    .json()
                    .await?;
                let server = user.pointer("/servers/");
                if server.is_none() {
                    // A failed spawn leaves no server behind: waiting longer would not help.
                    return Ok(Some(None));
                }
                let ready = server.and_then(|server| server.get("ready"));
                let pod = server.and_then(|server| server.pointer("/state/pod_name"));
                Ok::<_, reqwest::Error>(match (ready, pod.and_then(serde_json::Value::as_str)) {
                    (Some(serde_json::Value::Bool(true)), Some(pod)) => Some(Some(pod.to_owned())),
                    _ => None,
                })
            },
        )
        .await
        .map_err(|error| self.with_log(&error.to_string()))?;
        let pod = ready.ok_or_else(|| self.with_log(&format!("the spawn of {username} failed")))?;
        let pods: Api<Pod> = Api::namespaced(self.site.cluster().client()?, USERS_NAMESPACE);
        let spec = pods.get(&pod).await?.spec.unwrap_or_default();
        Ok(Notebook::new(
            self.site,
            pod,
            spec.service_account_name.unwrap_or_default(),
        ))
    }

    /// Stops the person's notebook and waits until its pod is gone.
    ///
    /// # Errors
    /// If the hub does not stop it.
    pub async fn stop(&self, username: &str, notebook: &Notebook<'_>) -> TestResult {
        let path = format!("/users/{}/server", percent(username));
        self.request(reqwest::Method::DELETE, &path).send().await?;
        let pods: Api<Pod> = Api::namespaced(self.site.cluster().client()?, USERS_NAMESPACE);
        wait_for(
            "the notebook pod to be gone",
            Duration::from_secs(90),
            async || Ok::<_, kube::Error>(pods.get_opt(&notebook.pod).await?.is_none().then_some(())),
        )
        .await?;
        Ok(())
    }

    /// All that the hub has logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.state.join("hub.log")).unwrap_or_default()
    }

    fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        self.client
            .request(method, format!("http://{ADDRESS}:8081/hub/api{path}"))
            .header("Authorization", format!("token {}", self.api_token))
    }

    fn with_log(&self, error: &str) -> Box<dyn std::error::Error + Send + Sync> {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(25)..).unwrap_or_default();
        format!("{error}\n{}", tail.join("\n")).into()
    }
}

impl Drop for Hub<'_> {
    fn drop(&mut self) {
        // The process that we started only entered the node's namespaces; the hub has written its own id there.
        if let Ok(pid) = std::fs::read_to_string(self.state.join("hub.pid")) {
            let _ = self.site.cluster().node_exec(["kill", pid.trim()]);
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A directory that the Makefile fills and names in the environment.
fn installed(variable: &str) -> TestResult<PathBuf> {
    std::env::var_os(variable)
        .map(PathBuf::from)
        .ok_or_else(|| format!("{variable} is not set: run this through make, which installs the hub").into())
}

/// RFC 3986 percent-encoding of everything that is not unreserved.
fn percent(text: &str) -> String {
    text.bytes()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}
