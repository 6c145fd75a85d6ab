//! The commands that attempts are.

use crate::attempt::{Attempt, Did, MSPS};
use crate::dataset::Volume;
use crate::model::Model;
use leasehold_chaincode::{
    Action, Admission, Ciphertext, Code, Command, Creator, Digest, Finding, HashType, KeyAlgorithm, Metadata,
    MountReport, Outputs, Pod, Policy, PublicKey, Resource, ResourceType, Tool,
};

const NAMES: [&str; crate::attempt::NAMES] = ["texts", "scans", "waves"];
pub(crate) const CLUSTERS: [&str; crate::attempt::CLUSTERS] = ["main", "second"];
pub(crate) const BROKERS: [&str; crate::attempt::BROKERS] = ["https://a.example", "https://b.example:8443"];
const CIPHERTEXTS: [&str; 2] = ["bm90aGluZyB0byByZWFk", "AAAA"];
pub(crate) const TTL_SECONDS: u64 = 60;
pub(crate) const TTL_MS: i64 = 60_000;
const GROUP: &str = "oceanographers";

/// Terms of five kinds: for one alone, for several with a line, only with the owner's approval, for some organisations and never
/// alone, for one group.
pub(crate) fn policy(which: usize) -> Policy {
    let base = Policy {
        place_seconds: TTL_SECONDS,
        ..Policy::exclusive(TTL_SECONDS)
    };
    match which {
        0 => base,
        1 => Policy {
            most_shared: 2,
            most_waiting: 2,
            ..base
        },
        2 => Policy {
            most_shared: 1,
            most_waiting: 1,
            approve_leases: true,
            ..base
        },
        3 => Policy {
            organisations: Admission::Only(vec![MSPS[1].parse().unwrap(), MSPS[2].parse().unwrap()]),
            exclusive: false,
            most_shared: 3,
            most_waiting: 1,
            ..base
        },
        _ => Policy {
            groups: vec![GROUP.to_owned()],
            most_waiting: 3,
            approve_code: true,
            outputs: Outputs::Quarantine,
            ..base
        },
    }
}

/// Descriptions, one with every field.
pub(crate) fn description(which: usize) -> Metadata {
    let base = Metadata {
        title: "Texts".to_owned(),
        ..Metadata::default()
    };
    match which {
        0 => base,
        1 => Metadata {
            description: "Three files of lorem ipsum".to_owned(),
            ..base
        },
        _ => Metadata {
            title: "Waves off Utsira, 1998 to 2004".to_owned(),
            description: "Heights and periods,\nevery twenty minutes".to_owned(),
            keywords: vec!["waves".to_owned(), "North Sea".to_owned()],
            licence: Some("CC-BY-4.0".to_owned()),
            identifiers: vec!["doi:10.1000/182".to_owned()],
            creators: vec![Creator {
                name: "Institute of Oceanography".to_owned(),
                identifier: Some("https://ror.org/04q12yn84".to_owned()),
                affiliation: None,
            }],
            resource_type: Some(ResourceType::Dataset),
            publisher: Some("Institute of Oceanography".to_owned()),
            publication_year: Some(2_026),
            version: Some("2.1".to_owned()),
            language: Some("en".to_owned()),
            formats: vec!["text/csv".to_owned()],
            size_bytes: Some(u64::MAX),
            file_count: Some(3),
            content_digest: Some(digest()),
        },
    }
}

pub(crate) fn ciphertext(volume: Volume) -> Ciphertext {
    Ciphertext(CIPHERTEXTS[volume.which].to_owned())
}

pub(crate) fn code(which: usize) -> Code {
    Code {
        image_sha256: "12".repeat(32),
        command_sha256: format!("{which:02x}").repeat(32),
    }
}

pub(crate) fn person(who: usize) -> String {
    format!("{who:02x}").repeat(32)
}

fn digest() -> Digest {
    Digest {
        hash_type: HashType::Sha256,
        value: "ab".repeat(32),
    }
}

fn resources() -> Vec<Resource> {
    vec![Resource {
        id: "1".to_owned(),
        digest: digest(),
    }]
}

/// The command of an attempt, as things stand.
pub(crate) fn command(model: &Model, attempt: &Attempt) -> Command {
    let reason = || "because".to_owned();
    match *attempt {
        Attempt::Join => Command::JoinConsortium {
            broker: BROKERS[0].to_owned(),
            keys: Vec::new(),
        },
        Attempt::Amend(broker) => Command::AmendOrganisation {
            broker: Some(BROKERS[broker].to_owned()),
            keys: None,
        },
        Attempt::Suspend => Command::SuspendOrganisation { reason: reason() },
        Attempt::Resume => Command::ResumeOrganisation {},
        Attempt::Vote(msp, suspend) => Command::VoteOnSuspension {
            organisation: MSPS[msp].to_owned(),
            suspend,
            reason: reason(),
        },
        Attempt::RegisterCluster(cluster, keyed) => Command::RegisterCluster {
            name: CLUSTERS[cluster].to_owned(),
            keys: if keyed { vec![a_key()] } else { Vec::new() },
        },
        Attempt::RetireCluster(cluster) => Command::RetireCluster {
            name: CLUSTERS[cluster].to_owned(),
        },
        Attempt::Trace(key, who, did) => Command::RecordTrace {
            key: key.to_string(),
            subject: person(who),
            action: action(model, did),
        },
        Attempt::Register(..)
        | Attempt::Describe(..)
        | Attempt::Replace(..)
        | Attempt::Offer(..)
        | Attempt::Take(..)
        | Attempt::Remove(..)
        | Attempt::Code(..) => of_dataset(attempt),
        _ => of_lease(model, attempt),
    }
}

fn of_dataset(attempt: &Attempt) -> Command {
    let named = |name: usize| NAMES[name].to_owned();
    match *attempt {
        Attempt::Register(name, terms) => Command::RegisterDataset {
            name: named(name),
            metadata: description(0),
            policy: policy(terms),
            volume_ciphertext: ciphertext(Volume::FIRST),
            key_version: Volume::FIRST.key_version,
        },
        Attempt::Describe(name, said, terms) => Command::AmendDataset {
            dataset: named(name),
            metadata: said.map(description),
            policy: terms.map(policy),
        },
        Attempt::Replace(name, volume) => Command::ReplaceVolume {
            dataset: named(name),
            volume_ciphertext: ciphertext(volume),
            key_version: volume.key_version,
        },
        Attempt::Offer(name, to) => Command::OfferDataset {
            dataset: named(name),
            to: to.map(|to| MSPS[to].to_owned()),
        },
        Attempt::Take(name, volume) => Command::TakeDataset {
            dataset: named(name),
            volume_ciphertext: ciphertext(volume),
            key_version: volume.key_version,
        },
        Attempt::Remove(name, force) => Command::RemoveDataset {
            dataset: named(name),
            force,
        },
        Attempt::Code(name, which, true) => Command::ApproveCode {
            dataset: named(name),
            code: code(which),
        },
        Attempt::Code(name, which, false) => Command::WithdrawCode {
            dataset: named(name),
            code: code(which),
        },
        ref other => panic!("{other:?} is about no dataset"),
    }
}

fn of_lease(model: &Model, attempt: &Attempt) -> Command {
    let lease = |back| lease_id(model, back);
    let reason = || "because".to_owned();
    match *attempt {
        Attempt::Lease(ref ask) => Command::Lease {
            dataset: NAMES[ask.name].to_owned(),
            subject: person(ask.person),
            mode: Some(ask.mode),
            ttl_seconds: Some(TTL_SECONDS),
            groups: ask.in_group.then(|| GROUP.to_owned()).into_iter().collect(),
            wait: ask.wait,
            cluster: ask.cluster.map(|cluster| CLUSTERS[cluster].to_owned()),
        },
        Attempt::Approve(back) => Command::ApproveLease { lease: lease(back) },
        Attempt::Deny(back) => Command::DenyLease {
            lease: lease(back),
            reason: reason(),
        },
        Attempt::Renew(back, who) => Command::Renew {
            lease: lease(back),
            subject: person(who),
            ttl_seconds: None,
        },
        Attempt::Release(back, who) => Command::Release {
            lease: lease(back),
            subject: person(who),
        },
        Attempt::Revoke(back) => Command::Revoke {
            lease: lease(back),
            reason: reason(),
        },
        Attempt::Expire(back) => Command::Expire { lease: lease(back) },
        Attempt::Confirm(back) => Command::ConfirmEnd { lease: lease(back) },
        Attempt::Declare(back) => Command::DeclareEnded {
            lease: lease(back),
            reason: reason(),
        },
        Attempt::Report(back, ready) => Command::ReportMount {
            lease: lease(back),
            report: report(ready),
        },
        ref other => panic!("{other:?} is about no lease"),
    }
}

fn lease_id(model: &Model, back: usize) -> String {
    let known = model.recent(back);
    known.map_or_else(|| "0".repeat(32), |at| model.leases[at].id.clone())
}

fn action(model: &Model, did: Did) -> Action {
    let dataset = model.dataset_id(did);
    let application = "segmenter".to_owned();
    match did {
        Did::Create(_) => Action::CreateDataset {
            dataset,
            resources: resources(),
        },
        Did::Update(_) => Action::UpdateDataset {
            dataset,
            details: "a file more".to_owned(),
            resources: Vec::new(),
        },
        Did::Use(_) => Action::UseDatasets {
            datasets: vec![dataset],
            tool: Some(Tool {
                name: "xarray".to_owned(),
                version: None,
            }),
        },
        Did::Train(_) => Action::CreateModel {
            application,
            model: "m-1".to_owned(),
            digest: Some(digest()),
            datasets: vec![dataset],
        },
        Did::UseModel(which) => Action::UseModels {
            application,
            models: vec![format!("m-{which}")],
        },
        Did::Run(back) => Action::Run {
            lease: lease_id(model, back),
            pods: vec![Pod {
                uid: "a".to_owned(),
                code: code(0),
            }],
            results: resources(),
        },
    }
}

/// The DER of a point of zeros, which nobody looks at.
fn a_key() -> PublicKey {
    let algorithm = KeyAlgorithm::P256;
    PublicKey {
        id: "a".to_owned(),
        algorithm,
        spki: format!("{:A<122}==", algorithm.prefix()),
    }
}

fn report(ready: bool) -> MountReport {
    if ready {
        return MountReport::Ready {};
    }
    MountReport::Failed {
        finding: Finding {
            code: "path_missing".to_owned(),
            message: "the dataset's directory is not on its node".to_owned(),
        },
    }
}
