//! Organisations that join a channel that runs, and leave it: changes of the channel's configuration, which a majority of its members
//! signs.

use std::path::Path;

use serde_json::{Value, json};
use tokio::process::Command;

use crate::chaincode::Chaincode;
use crate::config::{self, CHANNEL, Organisation, Ports};
use crate::network::{Network, free_ports, write_json};
use crate::process::{FabricError, io, tool};

/// Of a transaction that changes a channel's configuration, `HeaderType.CONFIG_UPDATE`.
const CONFIG_UPDATE: u8 = 2;

impl Network {
    /// Has one more organisation join: keys, configuration, a peer, and these chaincodes as they are defined. Its id is its name and
    /// `MSP`.
    ///
    /// # Errors
    /// With what the failing step wrote.
    pub async fn add(&mut self, name: &'static str, chaincodes: &[&Chaincode]) -> Result<(), FabricError> {
        let organisation = Organisation { name };
        let ports = free_ports(1)?.into_iter().next().unwrap_or_default();
        self.generate_keys(&config::crypto_of_one(&organisation)).await?;
        self.write_core(&organisation, ports)?;
        let group = self.print(&organisation, ports).await?;
        let msp_id = organisation.msp_id();
        self.reconfigure(name, |members| {
            members.insert(msp_id, group);
        })
        .await?;
        self.members.push((organisation.clone(), ports));
        self.spawn(name)?;
        self.listening(name).await?;
        self.join(&organisation).await?;
        for chaincode in chaincodes {
            self.install_on(&organisation, chaincode).await?;
            self.approve(&organisation, chaincode).await?;
        }
        Ok(())
    }

    /// Has an organisation leave, and kills its peer.
    ///
    /// # Errors
    /// With what the failing step wrote.
    pub async fn remove(&mut self, name: &str) -> Result<(), FabricError> {
        let msp_id = self.member(name)?.0.msp_id();
        self.reconfigure(name, |members| {
            members.remove(&msp_id);
        })
        .await?;
        self.members.retain(|(organisation, _)| organisation.name != name);
        self.kill(name).await
    }

    /// What the configuration says of an organisation.
    async fn print(&self, organisation: &Organisation, ports: Ports) -> Result<Value, FabricError> {
        let home = self.root.join(organisation.name);
        let member = config::member(&self.crypto(), organisation, ports);
        write_json(&home.join("configtx.yaml"), &json!({ "Organizations": [member] }))?;
        let mut configtxgen = Command::new(self.binaries.path("configtxgen"));
        configtxgen
            .env("FABRIC_CFG_PATH", &home)
            .args(["-printOrg", &organisation.msp_id()]);
        decoded(&tool(&mut configtxgen).await?.stdout)
    }

    /// Changes the members in the channel's configuration.
    async fn reconfigure(
        &self,
        name: &str,
        change: impl FnOnce(&mut serde_json::Map<String, Value>),
    ) -> Result<(), FabricError> {
        let directory = self.root.join("update").join(name);
        let file = |name: &str| directory.join(name);
        let before = self.configuration(&file("config.block")).await?;
        let mut after = before.clone();
        let members = after.pointer_mut("/channel_group/groups/Application/groups");
        change(
            members
                .and_then(Value::as_object_mut)
                .ok_or_else(|| unreadable("it has no members"))?,
        );
        write_json(&file("before.json"), &before)?;
        write_json(&file("after.json"), &after)?;
        for which in ["before", "after"] {
            let json = file(&format!("{which}.json"));
            self.encode("common.Config", &json, &file(which)).await?;
        }
        let mut compute = Command::new(self.binaries.path("configtxlator"));
        compute.args(["compute_update", "--channel_id", CHANNEL, "--original"]);
        compute.arg(file("before")).arg("--updated").arg(file("after"));
        tool(compute.arg("--output").arg(file("update"))).await?;
        let envelope = json!({ "payload": {
            "header": { "channel_header": { "channel_id": CHANNEL, "type": CONFIG_UPDATE } },
            "data": { "config_update": self.decode("common.ConfigUpdate", &file("update")).await? },
        } });
        write_json(&file("envelope.json"), &envelope)?;
        let envelope = file("envelope");
        self.encode("common.Envelope", &file("envelope.json"), &envelope)
            .await?;
        self.sign_and_update(&envelope).await
    }

    /// Signed by a majority of the members, of whom the last submits it.
    async fn sign_and_update(&self, envelope: &Path) -> Result<(), FabricError> {
        let majority = self.members.len() / 2 + 1;
        let mut signers: Vec<_> = self.members.iter().take(majority).collect();
        let Some((submitter, _)) = signers.pop() else {
            return Ok(());
        };
        for (organisation, _) in signers {
            let mut sign = self.peer_as(organisation, "Admin");
            tool(sign.args(["channel", "signconfigtx", "-f"]).arg(envelope)).await?;
        }
        let mut update = self.peer_as(submitter, "Admin");
        update
            .args(["channel", "update", "-c", CHANNEL, "-f"])
            .arg(envelope);
        self.orderer_flags(&mut update);
        tool(&mut update).await.map(drop)
    }

    /// The channel's configuration as the orderer has it.
    async fn configuration(&self, block: &Path) -> Result<Value, FabricError> {
        if let Some(parent) = block.parent() {
            std::fs::create_dir_all(parent).map_err(io("cannot make a directory"))?;
        }
        let Some((first, _)) = self.members.first() else {
            return Err(unreadable("the channel has no members"));
        };
        let mut fetch = self.peer_as(first, "Admin");
        fetch.args(["channel", "fetch", "config"]).arg(block);
        fetch.args(["-c", CHANNEL]);
        self.orderer_flags(&mut fetch);
        tool(&mut fetch).await?;
        let block = self.decode("common.Block", block).await?;
        block
            .pointer("/data/data/0/payload/data/config")
            .cloned()
            .ok_or_else(|| unreadable("the block holds none"))
    }

    async fn encode(&self, kind: &str, json: &Path, output: &Path) -> Result<(), FabricError> {
        let mut encode = Command::new(self.binaries.path("configtxlator"));
        encode.args(["proto_encode", "--type", kind, "--input"]).arg(json);
        tool(encode.arg("--output").arg(output)).await.map(drop)
    }

    async fn decode(&self, kind: &str, file: &Path) -> Result<Value, FabricError> {
        let mut decode = Command::new(self.binaries.path("configtxlator"));
        decode.args(["proto_decode", "--type", kind, "--input"]).arg(file);
        decoded(&tool(&mut decode).await?.stdout)
    }
}

fn decoded(json: &[u8]) -> Result<Value, FabricError> {
    serde_json::from_slice(json).map_err(unreadable)
}

fn unreadable(why: impl std::fmt::Display) -> FabricError {
    io("cannot read the channel's configuration")(std::io::Error::other(why.to_string()))
}
