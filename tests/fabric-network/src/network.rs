//! Bringing the network up, from keys to a channel that every peer has joined.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;

use crate::binaries::Binaries;
use crate::config::{self, CHANNEL, Organisation, Ports};
use crate::process::{Daemon, FabricError, io, tool, until};
use crate::server::ORDERER;

/// Names of the members; the id of each is its name and `MSP`.
pub const ORGANISATIONS: [&str; 3] = ["Org1", "Org2", "Org3"];

const PATIENCE: Duration = Duration::from_secs(30);

/// A running network. Dropped, it is gone.
#[derive(Debug)]
pub struct Network {
    pub(crate) binaries: Binaries,
    pub(crate) root: PathBuf,
    pub(crate) members: Vec<(Organisation, Ports)>,
    pub(crate) orderer: Ports,
    /// By name: those of [`ORGANISATIONS`], and [`ORDERER`]. One that was killed is not there.
    pub(crate) servers: BTreeMap<&'static str, Daemon>,
    /// Last, so that the files go after the processes.
    _directory: tempfile::TempDir,
}

impl Network {
    /// Starts an orderer and three peers, and makes the channel.
    ///
    /// # Errors
    /// With the end of the log of what failed.
    pub async fn start(binaries: Binaries) -> Result<Self, FabricError> {
        let directory = tempfile::Builder::new()
            .prefix("fabric-")
            .tempdir()
            .map_err(io("cannot make a directory"))?;
        let root = directory.path().to_owned();
        let mut ports = free_ports(ORGANISATIONS.len() + 1)?.into_iter();
        let orderer = ports.next().unwrap_or_default();
        let organisations = ORGANISATIONS.map(|name| Organisation { name });
        let members = organisations.into_iter().zip(ports).collect();
        let mut network = Self {
            binaries,
            root,
            members,
            orderer,
            servers: BTreeMap::new(),
            _directory: directory,
        };
        network.write_files().await?;
        network.start_servers().await?;
        network.make_channel().await?;
        Ok(network)
    }

    /// Name of the channel.
    #[must_use]
    pub fn channel(&self) -> &'static str {
        CHANNEL
    }

    /// What the peer says its version is.
    ///
    /// # Errors
    /// Where it cannot be asked.
    pub async fn version(&self) -> Result<String, FabricError> {
        let output = tool(Command::new(self.binaries.path("peer")).arg("version")).await?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = text.lines().find_map(|line| line.trim().strip_prefix("Version:"));
        Ok(version.map(str::trim).unwrap_or_default().to_owned())
    }

    /// Kills every server and waits until they are gone.
    ///
    /// # Errors
    /// Where one cannot be killed.
    pub async fn stop(mut self) -> Result<(), FabricError> {
        for server in std::mem::take(&mut self.servers).into_values() {
            server.kill().await?;
        }
        Ok(())
    }

    /// The end of every server's log, for a test that failed.
    #[must_use]
    pub fn logs(&self) -> String {
        self.servers
            .values()
            .map(Daemon::log_end)
            .collect::<Vec<_>>()
            .join("\n----\n")
    }

    pub(crate) fn crypto(&self) -> PathBuf {
        self.root.join("crypto")
    }

    pub(crate) fn orderer_root(&self) -> PathBuf {
        self.crypto().join(config::orderer_node()).join("tls/ca.crt")
    }

    /// The `peer` program as a user of an organisation, against that organisation's peer.
    pub(crate) fn peer_as(&self, organisation: &Organisation, user: &str) -> Command {
        let mut command = Command::new(self.binaries.path("peer"));
        command
            .env("FABRIC_CFG_PATH", self.root.join(organisation.name))
            .env(
                "CORE_PEER_MSPCONFIGPATH",
                self.crypto().join(organisation.user(user)),
            )
            .env("FABRIC_LOGGING_SPEC", "warning:chaincodeCmd=info");
        command
    }

    async fn write_files(&self) -> Result<(), FabricError> {
        let crypto = self.crypto();
        let organisations: Vec<_> = self
            .members
            .iter()
            .map(|(organisation, _)| organisation.clone())
            .collect();
        self.generate_keys(&config::crypto(&organisations)).await?;
        write_json(
            &self.root.join("configtx.yaml"),
            &config::configtx(&crypto, &self.members, self.orderer),
        )?;
        let orderer = self.root.join("orderer");
        write_json(
            &orderer.join("orderer.yaml"),
            &config::orderer(&crypto, &orderer, self.orderer),
        )?;
        write_builder(&self.builder())?;
        for (organisation, ports) in &self.members {
            self.write_core(organisation, *ports)?;
        }
        let mut configtxgen = Command::new(self.binaries.path("configtxgen"));
        configtxgen.env("FABRIC_CFG_PATH", &self.root);
        configtxgen
            .args(["-profile", config::PROFILE, "-channelID", CHANNEL, "-outputBlock"])
            .arg(self.genesis());
        tool(&mut configtxgen).await.map(drop)
    }

    /// Has cryptogen make what `wanted` names, beside what it made before.
    pub(crate) async fn generate_keys(&self, wanted: &Value) -> Result<(), FabricError> {
        let config = self.root.join("crypto.yaml");
        write_json(&config, wanted)?;
        let mut cryptogen = Command::new(self.binaries.path("cryptogen"));
        cryptogen.arg("generate").arg("--config").arg(&config);
        tool(cryptogen.arg("--output").arg(self.crypto())).await.map(drop)
    }

    /// `core.yaml` of an organisation's peer.
    pub(crate) fn write_core(&self, organisation: &Organisation, ports: Ports) -> Result<(), FabricError> {
        let home = self.root.join(organisation.name);
        let data = home.join("data");
        let core = config::peer(&self.crypto(), &data, &self.builder(), organisation, ports);
        write_json(&home.join("core.yaml"), &core)
    }

    /// Has an organisation's peer join the channel.
    pub(crate) async fn join(&self, organisation: &Organisation) -> Result<(), FabricError> {
        until("a peer to join the channel", PATIENCE, async || {
            let mut join = self.peer_as(organisation, "Admin");
            tool(join.args(["channel", "join", "-b"]).arg(self.genesis())).await
        })
        .await
        .map(drop)
    }

    fn builder(&self) -> PathBuf {
        self.root.join("builder")
    }

    async fn start_servers(&mut self) -> Result<(), FabricError> {
        self.spawn(ORDERER)?;
        for name in ORGANISATIONS {
            self.spawn(name)?;
        }
        self.listening(ORDERER).await?;
        for name in ORGANISATIONS {
            self.listening(name).await?;
        }
        Ok(())
    }

    async fn make_channel(&self) -> Result<(), FabricError> {
        let tls = self.crypto().join(config::orderer_node()).join("tls");
        until("the orderer to take the channel", PATIENCE, async || {
            let mut osnadmin = Command::new(self.binaries.path("osnadmin"));
            osnadmin
                .args(["channel", "join", "--channelID", CHANNEL, "--config-block"])
                .arg(self.genesis());
            osnadmin
                .arg("-o")
                .arg(format!("127.0.0.1:{}", self.orderer.second));
            osnadmin.arg("--ca-file").arg(tls.join("ca.crt"));
            osnadmin
                .arg("--client-cert")
                .arg(tls.join("server.crt"))
                .arg("--client-key")
                .arg(tls.join("server.key"));
            tool(&mut osnadmin).await
        })
        .await?;
        for (organisation, _) in &self.members {
            self.join(organisation).await?;
        }
        Ok(())
    }

    fn genesis(&self) -> PathBuf {
        self.root.join("genesis.block")
    }
}

/// Ports that are free now, for so many servers.
pub(crate) fn free_ports(servers: usize) -> Result<Vec<Ports>, FabricError> {
    let bind = || TcpListener::bind(("127.0.0.1", 0));
    // All are bound at once, so that none comes twice.
    let listeners: Vec<_> = std::iter::repeat_with(bind)
        .take(3 * servers)
        .collect::<Result<_, _>>()
        .map_err(io("cannot bind"))?;
    let ports: Vec<_> = listeners
        .iter()
        .map(|listener| listener.local_addr().map(|address| address.port()))
        .collect::<Result<_, _>>()
        .map_err(io("cannot ask for a port"))?;
    let three = |three: &[u16]| match three {
        [service, second, operations] => Ports {
            service: *service,
            second: *second,
            operations: *operations,
        },
        _ => Ports::default(),
    };
    Ok(ports.chunks(3).map(three).collect())
}

pub(crate) fn write_json(path: &Path, value: &Value) -> Result<(), FabricError> {
    write(path, &format!("{value:#}\n"), 0o644)
}

pub(crate) fn write(path: &Path, content: &str, mode: u32) -> Result<(), FabricError> {
    let failed = |source| FabricError::Io {
        what: format!("cannot write {}", path.display()),
        source,
    };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    std::fs::write(path, content).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(failed)
}

/// An external builder whose chaincodes are built and started by others: it passes `connection.json` on to the peer.
fn write_builder(directory: &Path) -> Result<(), FabricError> {
    let scripts = [
        (
            "detect",
            "#!/bin/sh\ngrep -q '\"type\": *\"ccaas\"' \"$2/metadata.json\"\n",
        ),
        (
            "build",
            "#!/bin/sh\nset -e\ncp \"$1/connection.json\" \"$3/connection.json\"\n",
        ),
        (
            "release",
            "#!/bin/sh\nset -e\nmkdir -p \"$2/chaincode/server\"\ncp \"$1/connection.json\" \"$2/chaincode/server/connection.json\"\n",
        ),
    ];
    for (name, script) in scripts {
        write(&directory.join("bin").join(name), script, 0o755)?;
    }
    Ok(())
}
