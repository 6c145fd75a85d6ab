//! The identities under which the broker submits: the one of this moment, and those before it since the start, for transactions whose
//! id was made with their certificate.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use fabric_gateway_client::{Contract, Credentials, Deadlines, Gateway, IdentityError, Nonce, TransactionId};
use leasehold_chaincode::TxId;
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use super::profile::Profile;

/// Certificates that are kept beside the present one.
const FORMER: usize = 4;
/// Between two looks whether the files have changed.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// An identity and what is asked as it.
#[derive(Debug)]
pub(super) struct Identity {
    certificate: String,
    pub(super) gateway: Gateway,
    /// For what must be known at once or not at all.
    pub(super) quick: Gateway,
    pub(super) contract: Contract,
}

/// The nonce of a submission's n-th transaction. Ids of submissions are used once, so that no nonce is used for two transactions.
pub(super) fn nonce(id: &TxId, number: u32) -> Nonce {
    let mut hash = Sha256::new();
    hash.update(b"leasehold submission\0");
    hash.update(id.as_str().as_bytes());
    hash.update([0]);
    hash.update(number.to_be_bytes());
    let digest: [u8; 32] = hash.finalize().into();
    let mut nonce = Nonce::default();
    for (to, from) in nonce.iter_mut().zip(digest) {
        *to = from;
    }
    nonce
}

impl Identity {
    fn new(gateway: &Gateway, credentials: Credentials, profile: &Profile) -> Arc<Self> {
        let certificate = credentials.identity().certificate().to_owned();
        let gateway = gateway.acting_as(credentials);
        let second = Duration::from_secs(1);
        let quick = gateway.with_deadlines(Deadlines {
            connect: second,
            attempt: second,
            evaluate: second * 2,
            endorse: second * 2,
            submit: second * 2,
            commit: second * 5,
        });
        Arc::new(Self {
            certificate,
            contract: gateway.contract(&profile.channel, &profile.chaincode),
            gateway,
            quick,
        })
    }

    /// The id of a submission's n-th transaction.
    pub(super) fn transaction(&self, id: &TxId, number: u32) -> TransactionId {
        self.contract.transaction_id(&nonce(id, number))
    }
}

/// The newest first; never empty.
pub(super) struct Identities {
    gateway: Gateway,
    profile: Profile,
    present: RwLock<(Arc<Identity>, Vec<Arc<Identity>>)>,
}

impl Identities {
    pub(super) fn new(gateway: Gateway, credentials: Credentials, profile: Profile) -> Self {
        let first = Identity::new(&gateway, credentials, &profile);
        Self {
            gateway,
            profile,
            present: RwLock::new((first, Vec::new())),
        }
    }

    /// The contract's name on the channel.
    pub(super) fn chaincode(&self) -> &str {
        &self.profile.chaincode
    }

    pub(super) fn present(&self) -> Arc<Identity> {
        Arc::clone(&self.present.read().unwrap_or_else(PoisonError::into_inner).0)
    }

    /// The identity with which a submission's first transaction has this id.
    pub(super) fn of(&self, id: &TxId, transaction: &TxId) -> Option<Arc<Identity>> {
        let identities = self.present.read().unwrap_or_else(PoisonError::into_inner);
        let mut all = std::iter::once(&identities.0).chain(&identities.1);
        all.find(|identity| identity.transaction(id, 0).as_str() == transaction.as_str())
            .cloned()
    }

    /// Goes over to what is in the files, if that is another certificate.
    async fn renew(&self) -> Result<bool, IdentityError> {
        let credentials = self.profile.credentials().read().await?;
        if credentials.identity().certificate() == self.present().certificate {
            return Ok(false);
        }
        let next = Identity::new(&self.gateway, credentials, &self.profile);
        let mut identities = self.present.write().unwrap_or_else(PoisonError::into_inner);
        let former = std::mem::replace(&mut identities.0, next);
        identities.1.insert(0, former);
        identities.1.truncate(FORMER);
        Ok(true)
    }

    /// Looks at the files now and then, until shutdown.
    pub(super) async fn keep_fresh(&self, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK_AGAIN) => {}
                () = shutdown.cancelled() => return,
            }
            match self.renew().await {
                Ok(true) => tracing::info!("the broker's certificate on the channel was renewed"),
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(%error, "the broker's identity on the channel cannot be read; going on with the former")
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_two_transactions_share_a_nonce_and_the_same_one_has_it_again() {
        let id = |text: &str| TxId::new(text).unwrap();
        let nonces: HashSet<_> = ["a", "b", "a0"]
            .into_iter()
            .flat_map(|text| (0..64).map(move |number| nonce(&id(text), number)))
            .collect();
        assert_eq!(nonces.len(), 3 * 64);
        assert_eq!(nonce(&id("a"), 1), nonce(&id("a"), 1));
    }

    fn issue(directory: &std::path::Path) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        std::fs::write(directory.join("tls.crt"), params.self_signed(&key).unwrap().pem()).unwrap();
        std::fs::write(directory.join("tls.key"), key.serialize_pem()).unwrap();
    }

    #[tokio::test]
    async fn after_a_renewal_what_was_named_with_the_former_certificate_still_belongs_to_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("profile.yaml");
        let text = "channel: c\nmsp: UiSMSP\ncertificate: tls.crt\nkey: tls.key\npeers: [{ address: 'peer:7051', plaintext: true }]\n";
        std::fs::write(&path, text).unwrap();
        issue(directory.path());
        let profile = Profile::read(&path, &leasehold_chaincode::Msp::new("UiSMSP").unwrap()).unwrap();
        let credentials = profile.credentials().read().await.unwrap();
        let gateway = Gateway::new(profile.config().unwrap(), credentials.clone()).unwrap();
        let identities = Identities::new(gateway, credentials, profile);
        let id = TxId::new("operation").unwrap();
        let transaction = |identity: &Identity| TxId::new(identity.transaction(&id, 0).as_str()).unwrap();
        let before = transaction(&identities.present());
        assert!(!identities.renew().await.unwrap(), "the files are the same");
        issue(directory.path());
        assert!(identities.renew().await.unwrap());
        let after = transaction(&identities.present());
        assert_ne!(before, after);
        for named in [&before, &after] {
            let found = identities.of(&id, named).unwrap();
            assert_eq!(transaction(&found), *named);
        }
        assert!(identities.of(&id, &TxId::new("0".repeat(64)).unwrap()).is_none());
        std::fs::write(directory.path().join("tls.key"), "half of it").unwrap();
        assert!(identities.renew().await.is_err());
        assert_eq!(
            transaction(&identities.present()),
            after,
            "it goes on with what it has"
        );
    }
}
