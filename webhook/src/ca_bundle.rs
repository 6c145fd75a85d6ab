//! Keeps `caBundle` of both webhook configurations at what the webhook's replicas publish ([`crate::certificates`]): the union
//! of valid CA certificates of live pods. Run by the provisioner's leader.
//!
//! [`bundle`] decides, [`maintain()`] watches and patches, on a change only; whatever somebody else wrote into `caBundle` is
//! repaired. An empty union is never written: no replica could be reached by it anyway, and the former one may still be right.

mod maintain;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::certificates::pod_of_entry;

pub use maintain::{CaBundleOptions, maintain};

/// An entry whose pod is gone stays this long: views of pods lag, containers restart.
pub const DEAD_POD_GRACE: Duration = Duration::from_secs(60);
/// More CAs than any deployment has replicas, rotation included.
const MOST_CERTIFICATES: usize = 64;

/// What to trust and what to throw away.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bundle {
    /// CA certificates, PEM, in the order of their keys.
    pub pem: String,
    /// Keys of the ConfigMap that nobody needs any more.
    pub prune: Vec<String>,
}

/// Since when pods that published something have been gone.
pub type Absences = BTreeMap<String, SystemTime>;

/// Decides from the published entries and the live pods. `absences` is the caller's memory between calls.
#[must_use]
pub fn bundle(
    entries: &BTreeMap<String, String>,
    live_pods: &BTreeSet<String>,
    absences: &mut Absences,
    now: SystemTime,
) -> Bundle {
    absences.retain(|pod, _| !live_pods.contains(pod));
    let mut bundle = Bundle::default();
    let mut count = 0;
    for (key, pem) in entries {
        let Some(pod) = pod_of_entry(key) else {
            tracing::warn!(
                key,
                "an entry of the CA ConfigMap is named like none of ours; it is not trusted"
            );
            continue;
        };
        if !live_pods.contains(pod) {
            let since = *absences.entry(pod.to_owned()).or_insert(now);
            if now.duration_since(since).unwrap_or_default() >= DEAD_POD_GRACE {
                bundle.prune.push(key.clone());
                continue;
            }
        }
        match ca_certificate(pem, now) {
            Ok(canonical) if count < MOST_CERTIFICATES => {
                bundle.pem.push_str(&canonical);
                count += 1;
            }
            Ok(_) => tracing::warn!(
                key,
                "more than {MOST_CERTIFICATES} CAs are published; this one is not trusted"
            ),
            Err(NotACa::Expired) => bundle.prune.push(key.clone()),
            Err(error) => tracing::warn!(key, %error, "an entry of the CA ConfigMap is not trusted"),
        }
    }
    bundle
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
enum NotACa {
    #[error("it is not one PEM certificate")]
    Unreadable,
    #[error("it is not a CA certificate")]
    NotCa,
    #[error("it has expired")]
    Expired,
}

/// The entry's text, if it is exactly one CA certificate that is valid now. Text around it is refused, since the API server
/// would read it too.
fn ca_certificate(pem: &str, now: SystemTime) -> Result<String, NotACa> {
    let text = pem.trim();
    let one = text.starts_with("-----BEGIN CERTIFICATE-----")
        && text.ends_with("-----END CERTIFICATE-----")
        && text.matches("-----BEGIN").count() == 1;
    if !one {
        return Err(NotACa::Unreadable);
    }
    let der = CertificateDer::from_pem_slice(text.as_bytes()).map_err(|_| NotACa::Unreadable)?;
    let (rest, certificate) = X509Certificate::from_der(&der).map_err(|_| NotACa::Unreadable)?;
    if !rest.is_empty() {
        return Err(NotACa::Unreadable);
    }
    if !certificate.is_ca() {
        return Err(NotACa::NotCa);
    }
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    if certificate.validity().not_after.timestamp() <= i64::try_from(seconds).unwrap_or(i64::MAX) {
        return Err(NotACa::Expired);
    }
    Ok(format!("{text}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificates::{Authority, entry_key};

    const DAY: Duration = Duration::from_secs(86_400);

    fn published(pods: &[&str]) -> BTreeMap<String, String> {
        pods.iter()
            .map(|pod| {
                let ca = Authority::make("w.s.svc", DAY).unwrap();
                (entry_key(pod, ca.serial()), ca.pem().to_owned())
            })
            .collect()
    }

    fn pods(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|n| (*n).to_owned()).collect()
    }

    fn count(bundle: &Bundle) -> usize {
        CertificateDer::pem_slice_iter(bundle.pem.as_bytes())
            .map(Result::unwrap)
            .count()
    }

    #[test]
    fn all_cas_of_live_pods_are_trusted_two_of_one_pod_too() {
        let mut entries = published(&["a", "b"]);
        entries.extend(published(&["a"]));
        let bundle = bundle(
            &entries,
            &pods(&["a", "b"]),
            &mut Absences::new(),
            SystemTime::now(),
        );
        assert_eq!(count(&bundle), 3);
        assert!(bundle.prune.is_empty());
    }

    #[test]
    fn a_dead_pods_ca_goes_after_a_grace_and_stays_if_the_pod_comes_back() {
        let entries = published(&["a", "b"]);
        let mut absences = Absences::new();
        let start = SystemTime::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(count(&bundle(&entries, &pods(&["a"]), &mut absences, at(0))), 2);
        assert_eq!(
            count(&bundle(&entries, &pods(&["a", "b"]), &mut absences, at(50))),
            2
        );
        assert_eq!(count(&bundle(&entries, &pods(&["a"]), &mut absences, at(70))), 2);
        let last = bundle(&entries, &pods(&["a"]), &mut absences, at(130));
        assert_eq!(count(&last), 1);
        assert_eq!(last.prune.len(), 1);
        assert_eq!(pod_of_entry(&last.prune[0]), Some("b"));
    }

    #[test]
    fn an_expired_ca_is_pruned() {
        let entries = published(&["a"]);
        let bundle = bundle(
            &entries,
            &pods(&["a"]),
            &mut Absences::new(),
            SystemTime::now() + DAY * 2,
        );
        assert_eq!(bundle.pem, "");
        assert_eq!(bundle.prune.len(), 1);
    }

    #[test]
    fn what_is_not_one_ca_certificate_is_not_trusted() {
        let good = published(&["a"]).into_values().next().unwrap();
        let leaf = rcgen::generate_simple_self_signed(vec!["w.s.svc".into()])
            .unwrap()
            .cert
            .pem();
        let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
        for bad in [
            String::new(),
            "text".into(),
            leaf,
            key.clone(),
            format!("{good}{good}"),
            format!("{good}{key}"),
        ] {
            let entries = [(entry_key("a", "0123456789abcdef"), bad)].into();
            let bundle = bundle(&entries, &pods(&["a"]), &mut Absences::new(), SystemTime::now());
            assert_eq!(bundle, Bundle::default());
        }
    }

    #[test]
    fn a_key_that_is_none_of_ours_is_left_alone_and_not_trusted() {
        let good = published(&["a"]).into_values().next().unwrap();
        let entries = [("ca.crt".to_owned(), good)].into();
        let bundle = bundle(&entries, &pods(&["a"]), &mut Absences::new(), SystemTime::now());
        assert_eq!(bundle, Bundle::default());
    }
}
