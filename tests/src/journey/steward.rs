//! The owner's data steward: the `leasehold` command line outside the cluster's pods, with a token of their own.

use std::path::PathBuf;

use super::site::Site;
use crate::{Output, TestResult, cluster::binary};

/// Where the broker answers, as the certificate names it.
const BROKER_URL: &str = "https://leasehold-secret-broker.leasehold-system.svc:8443";

/// A person at a command line on the node.
pub struct Steward<'a> {
    site: &'a Site,
    directory: PathBuf,
}

impl<'a> Steward<'a> {
    /// Gives `service_account` (`namespace/name`) a token for the broker and the broker's CA certificate.
    ///
    /// # Errors
    /// If the token or the certificate cannot be had.
    pub async fn new(site: &'a Site, namespace: &str, service_account: &str) -> TestResult<Self> {
        let cluster = site.cluster();
        let directory = site.scratch(&format!("{namespace}-{service_account}"))?;
        let token = cluster.token(namespace, service_account, "leasehold").await?;
        std::fs::write(directory.join("token"), token)?;
        std::fs::write(directory.join("ca.crt"), site.broker_ca().await?)?;
        Ok(Self { site, directory })
    }

    /// Runs `leasehold` with these arguments.
    ///
    /// # Errors
    /// If it cannot be started; a refusal is in the output.
    pub fn leasehold(&self, arguments: &[&str]) -> TestResult<Output> {
        let token = self.directory.join("token");
        let ca = self.directory.join("ca.crt");
        let mut argv = vec![
            binary("leasehold").into_os_string(),
            "--url".into(),
            BROKER_URL.into(),
            "--token-file".into(),
            token.into(),
            "--ca-file".into(),
            ca.into(),
        ];
        argv.extend(arguments.iter().map(Into::into));
        Ok(self.site.cluster().node_exec(argv)?)
    }

    /// Registers the dataset `name` whose data is in `path` of the node; `credential` is what would open its storage.
    ///
    /// # Errors
    /// What the broker says.
    pub fn register(&self, name: &str, path: &str, credential: &str) -> TestResult<String> {
        self.try_register(name, path, credential)?
            .success("leasehold datasets register")
            .map_err(Into::into)
    }

    /// As [`Steward::register`], for a registration that may be refused.
    ///
    /// # Errors
    /// If the command cannot be run.
    pub fn try_register(&self, name: &str, path: &str, credential: &str) -> TestResult<Output> {
        let volume = serde_json::json!({
            "kind": "local", "path": path, "node": "node0", "credential": { "key": credential },
        });
        let dataset = serde_json::json!({
            "name": name, "title": format!("Texts of {name}"), "description": "Plain text files",
            "max_ttl_seconds": 86_400, "volume": volume,
        });
        let file = self.directory.join(format!("{name}.yaml"));
        std::fs::write(&file, serde_yaml::to_string(&dataset)?)?;
        let registered = self.leasehold(&["datasets", "register", "-f", &file.to_string_lossy()]);
        // It holds the credential, which must be nowhere but where the product puts it.
        std::fs::remove_file(&file)?;
        registered
    }
}
