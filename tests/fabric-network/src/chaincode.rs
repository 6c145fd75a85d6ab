//! A chaincode on the network: its package, its definition, and what clients do with it through the `peer` program.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::process::Command;

use crate::config::{CHANNEL, Organisation};
use crate::network::{Network, write, write_json};
use crate::process::{FabricError, io, tool, until};

const PATIENCE: Duration = Duration::from_secs(30);

/// A chaincode that is packaged and, once deployed, defined on the channel.
#[derive(Debug, Clone)]
pub struct Chaincode {
    /// Name on the channel.
    pub name: String,
    /// With which it must register.
    pub package_id: String,
    /// Counts the definitions of this name on the channel, from 1; its version is the same number.
    pub sequence: u32,
    /// Whose peers endorse, as `OR('Org1MSP.peer', …)`; without, the channel's default, a majority.
    pub policy: Option<String>,
    archive: PathBuf,
}

/// What a peer needs to reach a chaincode over mutual TLS, in PEM.
#[derive(Clone)]
pub struct DialTls {
    /// Root of the chaincode's certificate.
    pub root: String,
    /// The peer's own certificate.
    pub client_certificate: String,
    /// Its key.
    pub client_key: String,
}

/// A transaction as a client proposes it.
#[derive(Debug, Clone, Copy)]
pub struct Invocation<'a> {
    /// Name of the chaincode.
    pub chaincode: &'a str,
    /// Function and its parameters.
    pub arguments: &'a [&'a str],
    /// Data beside the arguments that does not reach the ledger.
    pub transient: Option<(&'a str, &'a str)>,
}

/// `label:hash` of a package.
#[must_use]
pub fn package_id(label: &str, archive: &[u8]) -> String {
    format!("{label}:{}", hex::encode(Sha256::digest(archive)))
}

impl Network {
    /// Packages a chaincode that listens at `address`, with TLS or without, labelled with its name. The bytes, and so the id, follow from
    /// the arguments.
    ///
    /// # Errors
    /// Where a file cannot be written; needs `tar` and `gzip`.
    pub async fn package(
        &self,
        name: &str,
        address: &str,
        tls: Option<&DialTls>,
    ) -> Result<Chaincode, FabricError> {
        self.package_as(name, name, address, tls).await
    }

    /// The same with a label of its own, for a package that comes after another.
    ///
    /// # Errors
    /// As [`Network::package`].
    pub async fn package_as(
        &self,
        label: &str,
        name: &str,
        address: &str,
        tls: Option<&DialTls>,
    ) -> Result<Chaincode, FabricError> {
        let directory = self.root.join("packages").join(label);
        let connection = match tls {
            None => json!({ "address": address, "dial_timeout": "10s", "tls_required": false }),
            Some(tls) => json!({
                "address": address, "dial_timeout": "10s", "tls_required": true, "root_cert": tls.root,
                "client_auth_required": true, "client_cert": tls.client_certificate, "client_key": tls.client_key,
            }),
        };
        write_json(&directory.join("connection.json"), &connection)?;
        write(
            &directory.join("metadata.json"),
            &format!("{}\n", json!({ "type": "ccaas", "label": label })),
            0o644,
        )?;
        pack(&directory, "code.tar.gz", &["connection.json"]).await?;
        let archive = pack(&directory, "package.tar.gz", &["metadata.json", "code.tar.gz"]).await?;
        let bytes = std::fs::read(&archive).map_err(io("cannot read the package"))?;
        Ok(Chaincode {
            name: name.to_owned(),
            package_id: package_id(label, &bytes),
            sequence: 1,
            policy: None,
            archive,
        })
    }

    /// Installs it on every peer and defines it on the channel, with these private collections, of which every organisation is a member.
    /// The chaincode need not run yet.
    ///
    /// # Errors
    /// With what the failing step wrote.
    pub async fn deploy(&self, chaincode: &Chaincode, collections: &[&str]) -> Result<(), FabricError> {
        let members: Vec<_> = self
            .members
            .iter()
            .map(|(organisation, _)| format!("'{}.member'", organisation.msp_id()))
            .collect();
        let policy = format!("OR({})", members.join(","));
        let definitions = collections.iter().map(|name| {
            json!({
                "name": name, "policy": policy, "requiredPeerCount": 0, "maxPeerCount": 2, "blockToLive": 0,
                "memberOnlyRead": true, "memberOnlyWrite": true,
            })
        });
        if !collections.is_empty() {
            write_json(&self.collections_file(chaincode), &definitions.collect())?;
        }
        self.install(chaincode).await?;
        self.define(chaincode).await
    }

    /// Installs its package on every peer, beside those that are there.
    ///
    /// # Errors
    /// With what the failing step wrote.
    pub async fn install(&self, chaincode: &Chaincode) -> Result<(), FabricError> {
        for (organisation, _) in &self.members {
            self.install_on(organisation, chaincode).await?;
        }
        Ok(())
    }

    /// Has every organisation approve its definition, with the package that is installed, and one commit it. Every peer has the block
    /// with it afterwards. The next definition of a name has the next sequence.
    ///
    /// # Errors
    /// With what the failing step wrote.
    pub async fn define(&self, chaincode: &Chaincode) -> Result<(), FabricError> {
        for (organisation, _) in &self.members {
            self.approve(organisation, chaincode).await?;
        }
        let Some((first, _)) = self.members.first() else {
            return Ok(());
        };
        until("the chaincode to be defined", PATIENCE, async || {
            let mut commit = self.definition("commit", first, chaincode);
            self.all_peers(&mut commit);
            tool(&mut commit).await
        })
        .await
        .map(drop)
    }

    /// The file with its private collections, where it is defined with some.
    fn collections(&self, chaincode: &Chaincode) -> Option<PathBuf> {
        Some(self.collections_file(chaincode)).filter(|file| file.is_file())
    }

    fn collections_file(&self, chaincode: &Chaincode) -> PathBuf {
        let directory = self.root.join("packages").join(&chaincode.name);
        directory.join("collections.json")
    }

    /// Installs its package on an organisation's peer.
    pub(crate) async fn install_on(
        &self,
        organisation: &Organisation,
        chaincode: &Chaincode,
    ) -> Result<(), FabricError> {
        let mut install = self.peer_as(organisation, "Admin");
        install.args(["lifecycle", "chaincode", "install"]);
        tool(install.arg(&chaincode.archive)).await.map(drop)
    }

    /// Has an organisation approve its definition.
    pub(crate) async fn approve(
        &self,
        organisation: &Organisation,
        chaincode: &Chaincode,
    ) -> Result<(), FabricError> {
        until("an organisation to approve the chaincode", PATIENCE, async || {
            let mut approve = self.definition("approveformyorg", organisation, chaincode);
            tool(approve.args(["--package-id", &chaincode.package_id])).await
        })
        .await
        .map(drop)
    }

    /// Endorses on all peers, submits and waits for the commit. Gives what `peer` wrote, which tells status and payload.
    ///
    /// # Errors
    /// Where it is refused or becomes invalid.
    pub async fn submit(&self, invocation: &Invocation<'_>) -> Result<String, FabricError> {
        let mut command = self.client("invoke", invocation);
        self.orderer_flags(&mut command);
        self.all_peers(&mut command);
        command.args(["--waitForEvent", "--waitForEventTimeout", "30s"]);
        tool(&mut command).await.map(|output| output.stderr)
    }

    /// Runs it on the first peer and gives the answer's payload.
    ///
    /// # Errors
    /// Where it is refused.
    pub async fn evaluate(&self, invocation: &Invocation<'_>) -> Result<Vec<u8>, FabricError> {
        let mut output = tool(&mut self.client("query", invocation)).await?.stdout;
        if output.last() == Some(&b'\n') {
            output.pop();
        }
        Ok(output)
    }

    /// The newest block, decoded to JSON.
    ///
    /// # Errors
    /// Where it cannot be fetched.
    pub async fn newest_block(&self) -> Result<serde_json::Value, FabricError> {
        let block = self.root.join("newest.block");
        let Some((first, _)) = self.members.first() else {
            return Ok(serde_json::Value::Null);
        };
        let mut fetch = self.peer_as(first, "Admin");
        fetch
            .args(["channel", "fetch", "newest"])
            .arg(&block)
            .args(["-c", CHANNEL]);
        tool(&mut fetch).await?;
        let mut decode = Command::new(self.binaries.path("configtxlator"));
        decode
            .args(["proto_decode", "--type", "common.Block", "--input"])
            .arg(&block);
        let output = tool(&mut decode).await?;
        serde_json::from_slice(&output.stdout).map_err(|error| io("cannot decode a block")(error.into()))
    }

    fn client(&self, verb: &str, invocation: &Invocation<'_>) -> Command {
        let organisation = self
            .members
            .first()
            .map_or(Organisation { name: "" }, |(first, _)| first.clone());
        let mut command = self.peer_as(&organisation, "User1");
        let input = json!({ "Args": invocation.arguments }).to_string();
        command.args([
            "chaincode",
            verb,
            "-C",
            CHANNEL,
            "-n",
            invocation.chaincode,
            "-c",
            &input,
        ]);
        if let Some((name, value)) = invocation.transient {
            use base64::Engine as _;
            let value = base64::engine::general_purpose::STANDARD.encode(value);
            command.args(["--transient", &json!({ name: value }).to_string()]);
        }
        command
    }

    fn definition(&self, verb: &str, organisation: &Organisation, chaincode: &Chaincode) -> Command {
        let mut command = self.peer_as(organisation, "Admin");
        command.args(["lifecycle", "chaincode", verb, "--channelID", CHANNEL]);
        let sequence = chaincode.sequence.to_string();
        command.args([
            "--name",
            &chaincode.name,
            "--version",
            &sequence,
            "--sequence",
            &sequence,
        ]);
        if let Some(policy) = &chaincode.policy {
            command.arg("--signature-policy").arg(policy);
        }
        if let Some(collections) = self.collections(chaincode) {
            command.arg("--collections-config").arg(collections);
        }
        self.orderer_flags(&mut command);
        command
    }

    pub(crate) fn orderer_flags(&self, command: &mut Command) {
        command
            .arg("-o")
            .arg(format!("127.0.0.1:{}", self.orderer.service));
        command.arg("--tls").arg("--cafile").arg(self.orderer_root());
    }

    fn all_peers(&self, command: &mut Command) {
        for (organisation, ports) in &self.members {
            command
                .arg("--peerAddresses")
                .arg(format!("127.0.0.1:{}", ports.service));
            command
                .arg("--tlsRootCertFiles")
                .arg(self.crypto().join(organisation.peer()).join("tls/ca.crt"));
        }
    }
}

/// A tar.gz whose bytes follow from its files' names and contents.
async fn pack(directory: &Path, archive: &str, files: &[&str]) -> Result<PathBuf, FabricError> {
    let path = directory.join(archive);
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(directory).args([
        "--mtime=@0",
        "--owner=0",
        "--group=0",
        "--numeric-owner",
        "--mode=644",
    ]);
    tar.args(["--use-compress-program=gzip -n", "-cf"])
        .arg(&path)
        .args(files);
    tool(&mut tar).await?;
    Ok(path)
}
