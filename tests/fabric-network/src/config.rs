//! The files that Fabric's programs read. They are JSON, which is YAML too.

use std::path::Path;

use serde_json::{Value, json};

/// Name of the channel.
pub(crate) const CHANNEL: &str = "channel";
/// Profile in `configtx.yaml`.
pub(crate) const PROFILE: &str = "Channel";
const ORDERER_DOMAIN: &str = "orderer.test";

/// An organisation: its name, and what follows from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Organisation {
    pub(crate) name: &'static str,
}

impl Organisation {
    pub(crate) fn msp_id(&self) -> String {
        format!("{}MSP", self.name)
    }

    fn domain(&self) -> String {
        format!("{}.test", self.name.to_lowercase())
    }

    /// Below the directory of what cryptogen made.
    pub(crate) fn directory(&self) -> String {
        format!("peerOrganizations/{}", self.domain())
    }

    pub(crate) fn peer(&self) -> String {
        format!("{}/peers/peer0.{}", self.directory(), self.domain())
    }

    pub(crate) fn user(&self, name: &str) -> String {
        format!("{}/users/{name}@{}/msp", self.directory(), self.domain())
    }

    /// Below the directory of [`Organisation::user`].
    pub(crate) fn certificate(&self, user: &str) -> String {
        format!("signcerts/{user}@{}-cert.pem", self.domain())
    }
}

/// Below the directory of what cryptogen made.
pub(crate) fn orderer_directory() -> String {
    format!("ordererOrganizations/{ORDERER_DOMAIN}")
}

pub(crate) fn orderer_node() -> String {
    format!("{}/orderers/orderer.{ORDERER_DOMAIN}", orderer_directory())
}

/// Ports of one server.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ports {
    pub(crate) service: u16,
    /// The orderer's administration; a peer's side for chaincodes that dial it, which ours do not.
    pub(crate) second: u16,
    pub(crate) operations: u16,
}

fn local(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// For cryptogen: the orderer's keys, and those of the organisations.
pub(crate) fn crypto(organisations: &[Organisation]) -> Value {
    let peers = organisations.iter().map(peer_organisation).collect::<Vec<_>>();
    json!({
        "OrdererOrgs": [{
            "Name": "Orderer", "Domain": ORDERER_DOMAIN, "EnableNodeOUs": true,
            "Specs": [{ "Hostname": "orderer", "SANS": ["127.0.0.1"] }],
        }],
        "PeerOrgs": peers,
    })
}

/// For cryptogen: the keys of one more organisation.
pub(crate) fn crypto_of_one(organisation: &Organisation) -> Value {
    json!({ "PeerOrgs": [peer_organisation(organisation)] })
}

fn peer_organisation(organisation: &Organisation) -> Value {
    json!({
        "Name": organisation.name, "Domain": organisation.domain(), "EnableNodeOUs": true,
        "Template": { "Count": 1, "SANS": ["127.0.0.1"] }, "Users": { "Count": 1 },
    })
}

fn signature(rule: &str) -> Value {
    json!({ "Type": "Signature", "Rule": rule })
}

fn implicit(rule: &str) -> Value {
    json!({ "Type": "ImplicitMeta", "Rule": rule })
}

/// What readers, writers and admins of a group are, and these beside.
fn implicit_policies(others: &[(&str, &str)]) -> Value {
    let usual = [
        ("Readers", "ANY Readers"),
        ("Writers", "ANY Writers"),
        ("Admins", "MAJORITY Admins"),
    ];
    let all = usual
        .iter()
        .chain(others)
        .map(|(name, rule)| ((*name).to_owned(), implicit(rule)));
    Value::Object(all.collect())
}

/// For configtxgen: an organisation as a member of the channel.
pub(crate) fn member(crypto: &Path, organisation: &Organisation, ports: Ports) -> Value {
    let msp = organisation.msp_id();
    json!({
        "Name": msp, "ID": msp, "MSPDir": crypto.join(organisation.directory()).join("msp"),
        "Policies": {
            "Readers": signature(&format!("OR('{msp}.member')")),
            "Writers": signature(&format!("OR('{msp}.member')")),
            "Admins": signature(&format!("OR('{msp}.admin')")),
            "Endorsement": signature(&format!("OR('{msp}.peer')")),
        },
        "AnchorPeers": [{ "Host": "127.0.0.1", "Port": ports.service }],
    })
}

/// For configtxgen: one orderer, blocks after 200 ms, any majority of organisations endorses.
pub(crate) fn configtx(crypto: &Path, organisations: &[(Organisation, Ports)], orderer: Ports) -> Value {
    let members = organisations
        .iter()
        .map(|(organisation, ports)| member(crypto, organisation, *ports));
    let members = members.collect::<Vec<_>>();
    let tls = crypto.join(orderer_node()).join("tls/server.crt");
    let orderer_policies = implicit_policies(&[("BlockValidation", "ANY Writers")]);
    let endorsement = "MAJORITY Endorsement";
    let application_policies = implicit_policies(&[
        ("LifecycleEndorsement", endorsement),
        ("Endorsement", endorsement),
    ]);
    json!({
        "Profiles": { PROFILE: {
            "Policies": implicit_policies(&[]),
            "Capabilities": { "V3_0": true },
            "Orderer": {
                "OrdererType": "etcdraft",
                "BatchTimeout": "200ms",
                "BatchSize": { "MaxMessageCount": 500, "AbsoluteMaxBytes": "100 MB", "PreferredMaxBytes": "2 MB" },
                "EtcdRaft": {
                    "Consenters": [{
                        "Host": "127.0.0.1", "Port": orderer.service, "ClientTLSCert": tls, "ServerTLSCert": tls,
                    }],
                    "Options": {
                        "TickInterval": "100ms", "ElectionTick": 10, "HeartbeatTick": 1,
                        "MaxInflightBlocks": 5, "SnapshotIntervalSize": "16 MB",
                    },
                },
                "Organizations": [{
                    "Name": "OrdererMSP", "ID": "OrdererMSP", "MSPDir": crypto.join(orderer_directory()).join("msp"),
                    "Policies": {
                        "Readers": signature("OR('OrdererMSP.member')"),
                        "Writers": signature("OR('OrdererMSP.member')"),
                        "Admins": signature("OR('OrdererMSP.admin')"),
                    },
                    "OrdererEndpoints": [local(orderer.service)],
                }],
                "Policies": orderer_policies,
                "Capabilities": { "V2_0": true },
            },
            "Application": {
                "Organizations": members,
                "Policies": application_policies,
                "Capabilities": { "V2_5": true },
            },
        } },
    })
}

fn bccsp() -> Value {
    json!({ "Default": "SW", "SW": { "Hash": "SHA2", "Security": 256 } })
}

/// `orderer.yaml`.
pub(crate) fn orderer(crypto: &Path, data: &Path, ports: Ports) -> Value {
    let node = crypto.join(orderer_node());
    let (certificate, key, root) = (
        node.join("tls/server.crt"),
        node.join("tls/server.key"),
        node.join("tls/ca.crt"),
    );
    json!({
        "General": {
            "ListenAddress": "127.0.0.1", "ListenPort": ports.service,
            "TLS": { "Enabled": true, "PrivateKey": key, "Certificate": certificate, "RootCAs": [root] },
            "Keepalive": { "ServerMinInterval": "60s", "ServerInterval": "7200s", "ServerTimeout": "20s" },
            "Backoff": { "BaseDelay": "1s", "Multiplier": 1.6, "MaxDelay": "2m" },
            "MaxRecvMsgSize": 104_857_600, "MaxSendMsgSize": 104_857_600,
            "Cluster": { "SendBufferSize": 100, "ClientCertificate": certificate, "ClientPrivateKey": key, "RootCAs": [root] },
            "LocalMSPDir": node.join("msp"), "LocalMSPID": "OrdererMSP",
            "BCCSP": bccsp(),
            "Authentication": { "TimeWindow": "15m" },
        },
        "FileLedger": { "Location": data.join("ledger") },
        "Operations": { "ListenAddress": local(ports.operations) },
        "Metrics": { "Provider": "disabled" },
        "Admin": {
            "ListenAddress": local(ports.second),
            "TLS": {
                "Enabled": true, "Certificate": certificate, "PrivateKey": key, "RootCAs": [root],
                "ClientAuthRequired": true, "ClientRootCAs": [root],
            },
        },
        "ChannelParticipation": { "Enabled": true, "MaxRequestBodySize": "10 MB" },
        "Consensus": { "WALDir": data.join("wal"), "SnapDir": data.join("snapshots") },
    })
}

/// `core.yaml` of an organisation's peer. Gossip is quicker than by default: without that, a network takes 20 s to find itself.
pub(crate) fn peer(
    crypto: &Path,
    data: &Path,
    builder: &Path,
    organisation: &Organisation,
    ports: Ports,
) -> Value {
    let node = crypto.join(organisation.peer());
    let named = |name: &str| json!({ "name": name });
    json!({
        "peer": {
            "id": organisation.name, "networkId": "test",
            "listenAddress": local(ports.service), "address": local(ports.service),
            "chaincodeListenAddress": local(ports.second), "chaincodeAddress": local(ports.second),
            "gateway": { "enabled": true, "endorsementTimeout": "30s", "broadcastTimeout": "30s", "dialTimeout": "10s" },
            "keepalive": {
                "interval": "7200s", "timeout": "20s", "minInterval": "60s",
                "client": { "interval": "60s", "timeout": "20s" },
                "deliveryClient": { "interval": "60s", "timeout": "20s" },
            },
            "gossip": {
                "bootstrap": local(ports.service), "externalEndpoint": local(ports.service),
                "useLeaderElection": false, "orgLeader": true,
                "reconnectInterval": "1s", "publishStateInfoInterval": "500ms", "requestStateInfoInterval": "500ms",
                "aliveTimeInterval": "1s",
                "pvtData": {
                    "pullRetryThreshold": "5s", "transientstoreMaxBlockRetention": 20_000, "pushAckTimeout": "3s",
                    "btlPullMargin": 10, "reconcileBatchSize": 10, "reconcileSleepInterval": "1m",
                    "reconciliationEnabled": true,
                    "implicitCollectionDisseminationPolicy": { "requiredPeerCount": 0, "maxPeerCount": 1 },
                },
                "state": { "enabled": false },
            },
            "tls": {
                "enabled": true, "clientAuthRequired": false,
                "cert": { "file": node.join("tls/server.crt") },
                "key": { "file": node.join("tls/server.key") },
                "rootcert": { "file": node.join("tls/ca.crt") },
            },
            "authentication": { "timewindow": "15m" },
            "fileSystemPath": data,
            "BCCSP": bccsp(),
            "mspConfigPath": node.join("msp"), "localMspId": organisation.msp_id(), "localMspType": "bccsp",
            "client": { "connTimeout": "3s" },
            "deliveryclient": {
                "reconnectTotalTimeThreshold": "3600s", "connTimeout": "3s", "reConnectBackoffThreshold": "3600s",
                "policy": "cluster", "blockCensorshipTimeoutKey": "30s", "minimalReconnectInterval": "100ms",
            },
            "handlers": {
                "authFilters": (["DefaultAuth", "ExpirationCheck", "TimeWindowCheck"].map(named)),
                "decorators": [named("DefaultDecorator")],
                "endorsers": { "escc": named("DefaultEndorsement") },
                "validators": { "vscc": named("DefaultValidation") },
            },
            "discovery": { "enabled": true, "authCacheEnabled": true, "authCacheMaxSize": 1000, "authCachePurgeRetentionRatio": 0.75 },
            "limits": { "concurrency": { "endorserService": 2500, "deliverService": 2500, "gatewayService": 500 } },
            "maxRecvMsgSize": 104_857_600, "maxSendMsgSize": 104_857_600,
        },
        "vm": { "endpoint": "" },
        "chaincode": {
            "externalBuilders": [{ "name": "as-a-service", "path": builder }],
            "installTimeout": "60s", "startuptimeout": "60s", "executetimeout": "30s", "mode": "net", "keepalive": 0,
            "system": { "_lifecycle": "enable", "cscc": "enable", "lscc": "enable", "qscc": "enable" },
            "runtimeParams": {
                "useWriteBatch": true, "maxSizeWriteBatch": 1000, "useGetMultipleKeys": true, "maxSizeGetMultipleKeys": 1000,
            },
        },
        "ledger": {
            "state": { "stateDatabase": "goleveldb", "totalQueryLimit": 100_000 },
            "history": { "enableHistoryDatabase": true },
            "pvtdataStore": {
                "collElgProcMaxDbBatchSize": 5000, "collElgProcDbBatchesInterval": 1000,
                "deprioritizedDataReconcilerInterval": "60m", "purgeInterval": 100, "purgedKeyAuditLogging": true,
            },
            "snapshots": { "rootDir": data.join("snapshots") },
        },
        "operations": { "listenAddress": local(ports.operations) },
        "metrics": { "provider": "disabled" },
    })
}
