//! Which versions of the key-encryption key the broker wraps with: those that it has known, and those that one of them vouches for.
//!
//! Whoever can write the ring's file and has no key of it could add a version of their own, which would wrap every data key from then on.
//! So each new version is endorsed in the file by the one that was the newest before, and by no other: in an envelope that only that key makes
//! stand the version, where it is, and an envelope that only the new key makes. What was accepted once is noted in the key store, sealed by the
//! ring; there the versions of a ring from before there were endorsements are noted as they are found, once.

use std::collections::BTreeSet;

use super::ring_file::{Place, RingFile};
use super::service::{KeyError, Services};
use super::{KeyRingError, crypto};
use crate::crypto::Context;
use crate::secret::Secret;

/// What each key encrypts to be known by.
const CHECKED: &[u8] = b"leasehold key check";

/// A version that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownKek {
    /// Which one.
    pub version: u32,
    /// An envelope that only this key makes.
    pub check: Vec<u8>,
    /// That it was accepted.
    pub seal: Vec<u8>,
    /// Whether it was retired since.
    pub is_retired: bool,
}

const fn context(purpose: &'static str, key_version: u32) -> Context<'static> {
    Context {
        purpose,
        organisation: "",
        dataset: "",
        key_version,
    }
}

/// The envelope by which an older key vouches for a new one.
pub(super) async fn endorse(
    services: &Services,
    (by, older): (u32, &Place),
    (version, place): (u32, &Place),
) -> Result<Vec<u8>, KeyError> {
    let check = check(services, version, place).await?;
    let message = [names(version, place), check].concat();
    services.wrap(older, &context("endorsement", by), &message).await
}

/// What a version is called, unambiguously.
fn names(version: u32, place: &Place) -> Vec<u8> {
    let label = match place {
        Place::Ring(_) => "",
        Place::Pkcs11(label) => label.as_str(),
    };
    let mut out = version.to_be_bytes().to_vec();
    for part in [place.name(), label] {
        out.extend_from_slice(&(part.len() as u64).to_be_bytes());
        out.extend_from_slice(part.as_bytes());
    }
    out
}

async fn check(services: &Services, version: u32, place: &Place) -> Result<Vec<u8>, KeyError> {
    services
        .wrap(place, &context("key-check", version), CHECKED)
        .await
}

async fn is_key(services: &Services, version: u32, place: &Place, check: &[u8]) -> Result<bool, KeyError> {
    let opened = services
        .unwrap(place, &context("key-check", version), check)
        .await;
    Ok(opened_or_not(opened)?.is_some_and(|opened| opened.expose() == CHECKED))
}

fn opened_or_not(opened: Result<Secret<Vec<u8>>, KeyError>) -> Result<Option<Secret<Vec<u8>>>, KeyError> {
    match opened {
        Ok(opened) => Ok(Some(opened)),
        Err(KeyError::Crypto(_) | KeyError::Pkcs11(super::pkcs11::Pkcs11Error::Crypto(_))) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a version is endorsed by the newest before it that is accepted. An older one may be had from an old copy of the ring.
async fn is_endorsed(
    services: &Services,
    file: &RingFile,
    accepted: &BTreeSet<u32>,
    (version, place): (u32, &Place),
) -> Result<bool, KeyError> {
    let Some(envelope) = file.endorsements.get(&version) else {
        return Ok(false);
    };
    let by = crypto::key_version(envelope)?;
    if accepted.range(..version).next_back() != Some(&by) {
        return Ok(false);
    }
    let Some(older) = file.keks.get(&by) else {
        return Ok(false);
    };
    let opened = services
        .unwrap(older, &context("endorsement", by), envelope)
        .await;
    let Some(opened) = opened_or_not(opened)? else {
        return Ok(false);
    };
    match opened.expose().strip_prefix(names(version, place).as_slice()) {
        Some(check) => is_key(services, version, place, check).await,
        None => Ok(false),
    }
}

/// Accepts every version of a ring or refuses it. Yields those that are not known yet, to be noted.
pub(super) async fn accept(
    services: &Services,
    file: &RingFile,
    known: &[KnownKek],
    seal: impl Fn(u32, &[u8]) -> Vec<u8>,
) -> Result<Vec<KnownKek>, KeyRingError> {
    let is_sealed = |known: &&KnownKek| known.seal == seal(known.version, &known.check);
    // Those too that the file has no longer: taking the newest out must not let an older one vouch.
    let mut accepted: BTreeSet<u32> = known
        .iter()
        .filter(is_sealed)
        .map(|known| known.version)
        .collect();
    let mut new = Vec::new();
    for (version, place) in &file.keks {
        let version = *version;
        let failed = |source| KeyRingError::Key { version, source };
        let sealed = known
            .iter()
            .filter(is_sealed)
            .find(|known| known.version == version);
        if let Some(known) = sealed {
            let is_same = is_key(services, version, place, &known.check).await;
            if !is_same.map_err(failed)? {
                return Err(KeyRingError::Refused(format!(
                    "version {version} of the key ring is another key than it was: restore its line"
                )));
            }
        } else {
            // A ring that nobody has looked at yet is taken as it is.
            let is_accepted = known.is_empty()
                || is_endorsed(services, file, &accepted, (version, place))
                    .await
                    .map_err(failed)?;
            if !is_accepted {
                return Err(KeyRingError::Refused(format!(
                    "version {version} of the key ring is not endorsed by the newest before it that this broker knows: somebody else may have put it there; take its line out, and add versions with `keys rotate`"
                )));
            }
            let check = check(services, version, place).await.map_err(failed)?;
            new.push(KnownKek {
                version,
                seal: seal(version, &check),
                check,
                is_retired: false,
            });
        }
        accepted.insert(version);
    }
    for version in retired(file, known) {
        if !new.is_empty() {
            return Err(KeyRingError::Refused(format!(
                "the key ring has version {version}, which was retired, beside one that is new: take its line out, as `keys retire {version}` does, and the new one's too if somebody put it back"
            )));
        }
        tracing::error!(
            version,
            "the key ring has a version that was retired: if nobody put it back, its retirement was cut off; end it with `keys retire`"
        );
    }
    Ok(new)
}

/// Versions of a ring that were retired.
pub(super) fn retired(file: &RingFile, known: &[KnownKek]) -> Vec<u32> {
    let gone = known.iter().filter(|known| known.is_retired);
    gone.map(|known| known.version)
        .filter(|version| file.keks.contains_key(version))
        .collect()
}
