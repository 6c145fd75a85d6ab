//! The network's servers one by one: where a client finds a peer and an identity, and what happens when a server is killed.

use std::path::PathBuf;

use tokio::process::Command;

use crate::config::{Organisation, Ports};
use crate::network::Network;
use crate::process::{Daemon, FabricError, listening};

/// The orderer among the servers; a peer goes by the name of its organisation.
pub const ORDERER: &str = "orderer";

/// A user of an organisation.
#[derive(Debug, Clone)]
pub struct User {
    /// Id of the organisation as a member.
    pub msp_id: String,
    /// Certificate, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
}

/// Where a peer listens.
#[derive(Debug, Clone)]
pub struct PeerAt {
    /// `host:port`.
    pub address: String,
    /// Roots of its TLS certificate, PEM.
    pub roots: PathBuf,
}

impl Network {
    /// The user `User1` of an organisation.
    ///
    /// # Errors
    /// Where the channel has no such member.
    pub fn user(&self, name: &str) -> Result<User, FabricError> {
        self.identity(name, "User1")
    }

    /// The administrator of an organisation.
    ///
    /// # Errors
    /// Where the channel has no such member.
    pub fn administrator(&self, name: &str) -> Result<User, FabricError> {
        self.identity(name, "Admin")
    }

    fn identity(&self, name: &str, user: &str) -> Result<User, FabricError> {
        let (organisation, _) = self.member(name)?;
        let directory = self.crypto().join(organisation.user(user));
        Ok(User {
            msp_id: organisation.msp_id(),
            certificate: directory.join(organisation.certificate(user)),
            key: directory.join("keystore/priv_sk"),
        })
    }

    /// The peer of an organisation.
    ///
    /// # Errors
    /// Where the channel has no such member.
    pub fn peer(&self, name: &str) -> Result<PeerAt, FabricError> {
        let (organisation, ports) = self.member(name)?;
        Ok(PeerAt {
            address: format!("127.0.0.1:{}", ports.service),
            roots: self.crypto().join(organisation.peer()).join("tls/ca.crt"),
        })
    }

    /// Kills a server as `kill -9` does, and waits until it is gone. One that does not run is gone already.
    ///
    /// # Errors
    /// Where it cannot be killed.
    pub async fn kill(&mut self, name: &str) -> Result<(), FabricError> {
        match self.servers.remove(name) {
            Some(server) => server.kill().await,
            None => Ok(()),
        }
    }

    /// Starts a server again that was killed, with its data and at its address, and waits until it listens.
    ///
    /// # Errors
    /// With the end of its log, where it does not.
    pub async fn start_again(&mut self, name: &str) -> Result<(), FabricError> {
        self.spawn(name)?;
        self.listening(name).await
    }

    /// Starts a server.
    pub(crate) fn spawn(&mut self, name: &str) -> Result<(), FabricError> {
        let (key, program, arguments) = if name == ORDERER {
            (ORDERER, "orderer", &[][..])
        } else {
            (self.member(name)?.0.name, "peer", &["node", "start"][..])
        };
        let home = self.root.join(name);
        let mut command = Command::new(self.binaries.path(program));
        command.args(arguments).env("FABRIC_CFG_PATH", &home);
        self.servers
            .insert(key, Daemon::spawn(&mut command, &home.join("log"))?);
        Ok(())
    }

    /// Waits until a server listens.
    pub(crate) async fn listening(&mut self, name: &str) -> Result<(), FabricError> {
        let port = if name == ORDERER {
            self.orderer.service
        } else {
            self.member(name)?.1.service
        };
        match self.servers.get_mut(name) {
            Some(server) => listening(server, port, name).await,
            None => Err(unknown(name)),
        }
    }

    pub(crate) fn member(&self, name: &str) -> Result<&(Organisation, Ports), FabricError> {
        let member = self
            .members
            .iter()
            .find(|(organisation, _)| organisation.name == name);
        member.ok_or_else(|| unknown(name))
    }
}

fn unknown(name: &str) -> FabricError {
    FabricError::Unknown(name.to_owned())
}
