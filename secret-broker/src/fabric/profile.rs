//! The profile of a channel: a YAML or JSON file that names channel, peers and the files of this broker's identity. Everything in it is
//! checked at once, and all errors are told together; none of them shows what is in a key's file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use fabric_gateway_client::{ClientCertificate, Config, CredentialFiles, Deadlines, Peer};
use leasehold_chaincode::Msp;
use serde::Deserialize;

/// More than this is no profile and no certificate.
const LARGEST_FILE: u64 = 1 << 20;
/// Longest deadline, seconds.
const LONGEST_SECONDS: u64 = 600;

/// How a channel is reached, and as whom. Paths that are not absolute are below the profile's directory.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// The channel.
    pub channel: String,
    /// The contract's name on it.
    #[serde(default = "leasehold")]
    pub chaincode: String,
    /// Id of the organisation as a member; the same as `--organisation`.
    pub msp: String,
    /// The broker's certificate, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// In the order of preference.
    pub peers: Vec<PeerEntry>,
    /// Shown to peers that want a client's certificate for TLS; none where absent.
    #[serde(default)]
    pub client_tls: Option<ClientTls>,
    /// How long anything may take.
    #[serde(default)]
    pub deadlines: Seconds,
}

/// A peer whose gateway is asked.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerEntry {
    /// `host:port`.
    pub address: String,
    /// Roots of its TLS certificate, PEM.
    #[serde(default)]
    pub roots: Option<PathBuf>,
    /// Name in its TLS certificate where that is not the host of the address.
    #[serde(default)]
    pub server_name: Option<String>,
    /// No TLS at all, where something else encrypts.
    #[serde(default)]
    pub plaintext: bool,
}

/// Certificate and key for mutual TLS.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientTls {
    /// PEM.
    pub certificate: PathBuf,
    /// PEM.
    pub key: PathBuf,
}

/// Deadlines, seconds.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Seconds {
    /// Until a connection stands.
    pub connect_seconds: u64,
    /// One peer's answer; then the next is asked.
    pub attempt_seconds: u64,
    /// A question.
    pub evaluate_seconds: u64,
    /// All endorsements.
    pub endorse_seconds: u64,
    /// Until the ordering service has a transaction.
    pub submit_seconds: u64,
    /// From there until it is in a block.
    pub commit_seconds: u64,
}

impl Default for Seconds {
    /// Less than the broker's own callers wait for it, where somebody waits.
    fn default() -> Self {
        Self {
            connect_seconds: 2,
            attempt_seconds: 4,
            evaluate_seconds: 8,
            endorse_seconds: 15,
            submit_seconds: 30,
            commit_seconds: 60,
        }
    }
}

fn leasehold() -> String {
    "leasehold".to_owned()
}

impl Profile {
    /// Reads a profile and what it names but the identity's files, which are read when the channel is opened.
    ///
    /// # Errors
    /// Everything that is wrong, one sentence each.
    pub fn read(path: &Path, organisation: &Msp) -> Result<Self, Vec<String>> {
        let shown = path.display();
        let text = read(path).map_err(|why| vec![format!("the profile {shown} cannot be read: {why}")])?;
        let text = String::from_utf8(text)
            .map_err(|_| vec![format!("the profile {shown} is no text; write YAML or JSON")])?;
        let base = path.parent().unwrap_or(Path::new("."));
        Self::parse(&text, base, organisation).map_err(|errors| {
            let errors = errors.into_iter();
            errors
                .map(|error| format!("the profile {shown}: {error}"))
                .collect()
        })
    }

    fn parse(text: &str, base: &Path, organisation: &Msp) -> Result<Self, Vec<String>> {
        // A parser shows what it found instead of fields, which may be a key.
        let is_mapping =
            serde_yaml::from_str::<serde_yaml::Value>(text).is_ok_and(|value| value.is_mapping());
        if !is_mapping {
            return Err(vec![
                "it is no mapping of fields in YAML or JSON; write it as docs/ledger.md shows".to_owned(),
            ]);
        }
        let read = serde_path_to_error::deserialize(serde_yaml::Deserializer::from_str(text));
        let mut profile: Self = read.map_err(|error| {
            let (field, why) = (error.path().to_string(), error.inner());
            vec![match field.as_str() {
                "." => format!("{why}; correct it as docs/ledger.md shows"),
                field => format!("`{field}`: {why}; correct it as docs/ledger.md shows"),
            }]
        })?;
        let errors = profile.errors(organisation);
        if !errors.is_empty() {
            return Err(errors);
        }
        profile.certificate = base.join(&profile.certificate);
        profile.key = base.join(&profile.key);
        for roots in profile.peers.iter_mut().filter_map(|peer| peer.roots.as_mut()) {
            *roots = base.join(&roots);
        }
        if let Some(tls) = &mut profile.client_tls {
            tls.certificate = base.join(&tls.certificate);
            tls.key = base.join(&tls.key);
        }
        Ok(profile)
    }

    fn errors(&self, organisation: &Msp) -> Vec<String> {
        let mut errors = Vec::new();
        let mut wrong = |field: &str, why: String| errors.push(format!("`{field}`: {why}"));
        let name = |text: &str| {
            let sane = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
            (1..=249).contains(&text.len()) && text.bytes().all(sane)
        };
        if !name(&self.channel) {
            wrong(
                "channel",
                format!(
                    "`{}` is no channel's name; give the one that your peers joined",
                    self.channel
                ),
            );
        }
        if !name(&self.chaincode) {
            wrong(
                "chaincode",
                format!(
                    "`{}` is no chaincode's name; give the one in its definition",
                    self.chaincode
                ),
            );
        }
        if self.msp != organisation.as_str() {
            let why = format!(
                "it is {}, and the broker runs for {organisation}; give both the same MSP id",
                self.msp
            );
            wrong("msp", why);
        }
        for (field, path) in [("certificate", &self.certificate), ("key", &self.key)] {
            let text = path.to_string_lossy();
            if text.is_empty() || text.contains('\n') || text.contains("-----BEGIN") {
                wrong(field, "it is no path; give the name of a file in PEM".to_owned());
            }
        }
        if self.peers.is_empty() {
            wrong(
                "peers",
                "there is none; give at least one of your own organisation".to_owned(),
            );
        }
        for (number, peer) in self.peers.iter().enumerate() {
            let field = |name: &str| format!("peers[{number}].{name}");
            let address = &peer.address;
            let parts = address.rsplit_once(':');
            if parts.is_none_or(|(host, port)| host.is_empty() || port.parse::<u16>().is_err()) {
                wrong(
                    &field("address"),
                    format!("`{address}` is not host:port; give where the peer listens"),
                );
            }
            if self
                .peers
                .iter()
                .take(number)
                .any(|other| other.address == *address)
            {
                wrong(
                    &field("address"),
                    format!("`{address}` is there twice; leave one out"),
                );
            }
            match (&peer.roots, peer.plaintext) {
                (None, false) => wrong(
                    &field("roots"),
                    "it is missing; give the file with the roots of the peer's TLS certificate, or `plaintext: true`".to_owned(),
                ),
                (Some(_), true) => wrong(&field("plaintext"), "there are roots as well; give one of both".to_owned()),
                _ => {}
            }
        }
        let Seconds {
            connect_seconds,
            attempt_seconds,
            evaluate_seconds,
            endorse_seconds,
            submit_seconds,
            commit_seconds,
        } = self.deadlines;
        for (field, seconds) in [
            ("connect_seconds", connect_seconds),
            ("attempt_seconds", attempt_seconds),
            ("evaluate_seconds", evaluate_seconds),
            ("endorse_seconds", endorse_seconds),
            ("submit_seconds", submit_seconds),
            ("commit_seconds", commit_seconds),
        ] {
            if !(1..=LONGEST_SECONDS).contains(&seconds) {
                wrong(
                    &format!("deadlines.{field}"),
                    format!("{seconds} is out of range; give 1 to {LONGEST_SECONDS}"),
                );
            }
        }
        errors
    }

    /// Where the identity is.
    pub(super) fn credentials(&self) -> CredentialFiles {
        CredentialFiles {
            msp_id: self.msp.clone(),
            certificate: self.certificate.clone(),
            key: self.key.clone(),
        }
    }

    /// What the gateway client needs. Reads roots and, where there is one, the certificate for TLS.
    ///
    /// # Errors
    /// The field, the file, and why it cannot be read.
    pub(super) fn config(&self) -> Result<Config, String> {
        let pem = |field: &str, path: &Path| {
            read(path).map_err(|why| format!("`{field}`: {} cannot be read: {why}", path.display()))
        };
        let mut peers = Vec::with_capacity(self.peers.len());
        for (number, entry) in self.peers.iter().enumerate() {
            let mut peer = match &entry.roots {
                Some(path) => Peer::tls(&entry.address, pem(&format!("peers[{number}].roots"), path)?),
                None => Peer::plain(&entry.address),
            };
            peer.server_name.clone_from(&entry.server_name);
            peers.push(peer);
        }
        let mut config = Config::new(peers);
        if let Some(tls) = &self.client_tls {
            config.client_certificate = Some(ClientCertificate {
                certificate: pem("client_tls.certificate", &tls.certificate)?,
                key: pem("client_tls.key", &tls.key)?,
            });
        }
        let seconds = &self.deadlines;
        config.deadlines = Deadlines {
            connect: Duration::from_secs(seconds.connect_seconds),
            attempt: Duration::from_secs(seconds.attempt_seconds),
            evaluate: Duration::from_secs(seconds.evaluate_seconds),
            endorse: Duration::from_secs(seconds.endorse_seconds),
            submit: Duration::from_secs(seconds.submit_seconds),
            commit: Duration::from_secs(seconds.commit_seconds),
        };
        Ok(config)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let advise = |error: std::io::Error| format!("{error}; check the path and that the broker may read it");
    let length = std::fs::metadata(path).map_err(advise)?.len();
    if length > LARGEST_FILE {
        return Err(format!(
            "it has {length} bytes; a file of this kind has at most {LARGEST_FILE}"
        ));
    }
    std::fs::read(path).map_err(advise)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r"
channel: research
msp: UiSMSP
certificate: identity/tls.crt
key: /identity/tls.key
peers:
  - { address: 'peer0.uis.example:7051', roots: roots/uis.pem }
  - { address: '[::1]:7051', plaintext: true }
deadlines: { evaluate_seconds: 3 }
";

    fn parse(text: &str) -> Result<Profile, Vec<String>> {
        Profile::parse(
            text,
            Path::new("/etc/leasehold/fabric"),
            &Msp::new("UiSMSP").unwrap(),
        )
    }

    #[test]
    fn paths_are_below_the_profile_and_what_is_left_out_has_a_default() {
        let profile = parse(GOOD).unwrap();
        assert_eq!(
            profile.certificate,
            Path::new("/etc/leasehold/fabric/identity/tls.crt")
        );
        assert_eq!(profile.key, Path::new("/identity/tls.key"));
        assert_eq!(
            profile.peers[0].roots.as_deref(),
            Some(Path::new("/etc/leasehold/fabric/roots/uis.pem"))
        );
        assert_eq!(profile.chaincode, "leasehold");
        assert_eq!(profile.deadlines.evaluate_seconds, 3);
        assert_eq!(
            profile.deadlines.commit_seconds,
            Seconds::default().commit_seconds
        );
    }

    #[test]
    fn the_example_file_is_valid() {
        let profile = parse(include_str!("../../fabric-profile.example.yaml")).unwrap();
        assert_eq!(profile.peers.len(), 2);
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once_with_its_field_and_what_to_do() {
        let errors = parse(
            r"
channel: 'a channel'
chaincode: ''
msp: UiOMSP
certificate: ''
key: '-----BEGIN PRIVATE KEY----- sesame'
peers:
  - { address: peer, roots: a.pem, plaintext: true }
  - { address: 'peer:7051' }
  - { address: 'peer:7051', plaintext: true }
deadlines: { submit_seconds: 0, commit_seconds: 601 }
",
        )
        .unwrap_err();
        for part in [
            "`channel`",
            "`chaincode`",
            "`msp`: it is UiOMSP, and the broker runs for UiSMSP",
            "`certificate`: it is no path",
            "`key`: it is no path",
            "`peers[0].address`: `peer` is not host:port",
            "`peers[0].plaintext`",
            "`peers[1].roots`",
            "`peers[2].address`: `peer:7051` is there twice",
            "`deadlines.submit_seconds`: 0 is out of range",
            "`deadlines.commit_seconds`",
        ] {
            assert!(
                errors.iter().any(|e| e.contains(part)),
                "{part} is missing in {errors:#?}"
            );
        }
        assert_eq!(errors.len(), 11, "{errors:#?}");
        assert!(!errors.concat().contains("sesame"), "{errors:#?}");
    }

    #[test]
    fn a_field_that_is_unknown_missing_or_of_another_type_is_named() {
        for (from, to, part) in [
            ("channel: research", "chanel: research", "unknown field `chanel`"),
            ("channel: research", "", "missing field `channel`"),
            ("plaintext: true", "plaintext: perhaps", "`peers[1].plaintext`"),
            (
                "evaluate_seconds: 3",
                "evaluate_seconds: soon",
                "`deadlines.evaluate_seconds`",
            ),
            ("evaluate_seconds: 3", "patience: 3", "unknown field `patience`"),
        ] {
            let errors = parse(&GOOD.replace(from, to)).unwrap_err();
            assert!(errors[0].contains(part), "{part}: {errors:?}");
        }
    }

    #[test]
    fn a_file_that_is_absent_is_named_and_a_keys_content_is_never_shown() {
        let directory = tempfile::tempdir().unwrap();
        let organisation = Msp::new("UiSMSP").unwrap();
        let path = directory.path().join("profile.yaml");
        let errors = Profile::read(&path, &organisation).unwrap_err();
        assert!(
            errors[0].contains("profile.yaml") && errors[0].contains("check the path"),
            "{errors:?}"
        );
        std::fs::write(&path, GOOD).unwrap();
        let profile = Profile::read(&path, &organisation).unwrap();
        let error = profile.config().unwrap_err();
        assert!(
            error.contains("`peers[0].roots`") && error.contains("uis.pem"),
            "{error}"
        );
        // Somebody points to the key where the profile is expected.
        std::fs::write(&path, "-----BEGIN PRIVATE KEY-----\nsesame\n").unwrap();
        let errors = Profile::read(&path, &organisation).unwrap_err();
        assert!(!errors.concat().contains("sesame"), "{errors:?}");
    }
}
