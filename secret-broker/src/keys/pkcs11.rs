//! Key-encryption keys in a hardware module, over PKCS#11: they are made in it and cannot leave it.
//!
//! A key-encryption key is two objects of one token: AES-256 with the ring's label, and a key for HMAC-SHA-256 with `-mac` after it. The
//! composition is the same as everywhere ([`crate::crypto`]), its two halves are the module's: `CKM_AES_CBC_PAD` and `CKM_SHA256_HMAC`,
//! which every module has. The tag is checked in the module before anything is decrypted there.
//!
//! The module's calls block, so they are made on a few threads that do nothing else, each with a session of its own, and their caller waits no
//! longer than a deadline. A call that never returns keeps its thread: a module that hangs takes these and no others.

mod module;

use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};
use zeroize::Zeroizing;

use crate::crypto::{self, Context, CryptoError};
use crate::secret::Secret;
use module::{Module, Seat};

/// How long a caller waits, its turn included.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long who lets a token go waits for its threads.
const AT_THE_END: Duration = Duration::from_secs(1);
/// Threads, and calls that are under way.
const AT_ONCE: usize = 4;

type Job = Box<dyn FnOnce(&Module, &mut Seat) + Send>;

/// Which module and which token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pkcs11Settings {
    /// The module's library.
    pub module: PathBuf,
    /// The token's label.
    pub token: String,
    /// A file that holds the user's PIN.
    pub pin_file: PathBuf,
}

/// Why the hardware module cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Pkcs11Error {
    /// The library is none, or of another machine.
    #[error(
        "could not load the PKCS#11 module {module}: {reason}; check --pkcs11-module and the libraries that it needs"
    )]
    Load {
        /// Its path.
        module: PathBuf,
        /// What the loader said.
        reason: String,
    },
    /// No slot has it.
    #[error(
        "the PKCS#11 module has no token with label `{token}`, but {found}; check --pkcs11-token, and that the token is there"
    )]
    NoToken {
        /// What was looked for.
        token: String,
        /// What there is.
        found: String,
    },
    /// Two slots have it.
    #[error("the PKCS#11 module has several tokens with label `{0}`; give each another one")]
    SeveralTokens(String),
    /// The PIN's file cannot be read.
    #[error("could not read the PIN from {path}: {source}; check --pkcs11-pin-file")]
    PinFile {
        /// Its path.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The token does not take the PIN.
    #[error(
        "the token `{0}` refuses the PIN, and is not tried again with it; correct the file of --pkcs11-pin-file"
    )]
    WrongPin(String),
    /// One more wrong PIN would lock the token.
    #[error(
        "the token `{0}` has one try of its PIN left, or none: the broker does not use it up; log in with the right PIN by the module's own tool first"
    )]
    LastTry(String),
    /// No object has the label.
    #[error(
        "the token has no key `{0}`; restore it from the module's backup, or correct that line of the key ring"
    )]
    NoKey(String),
    /// Several objects have it.
    #[error("the token has several keys `{0}`; the ring cannot say which it means")]
    SeveralKeys(String),
    /// It could be read out.
    #[error(
        "the key `{label}` could leave the module, or came into it from outside: its attribute {attribute}; make a new one with `keys rotate` and destroy this one"
    )]
    NotConfined {
        /// Its label.
        label: String,
        /// Which attribute says so.
        attribute: &'static str,
    },
    /// The module did not answer.
    #[error("the PKCS#11 module did not answer within {DEADLINE:?}; look at the module")]
    Deadline,
    /// The envelope is not authentic.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// Whatever else it says.
    #[error("the PKCS#11 module failed: {0}; look at the module's own log")]
    Module(#[from] cryptoki::error::Error),
}

impl Pkcs11Error {
    /// Whether the same call may succeed later.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        match self {
            Self::NoToken { .. } | Self::Deadline | Self::Module(_) | Self::LastTry(_) => true,
            Self::Load { .. }
            | Self::SeveralTokens(_)
            | Self::PinFile { .. }
            | Self::WrongPin(_)
            | Self::NoKey(_)
            | Self::SeveralKeys(_)
            | Self::NotConfined { .. }
            | Self::Crypto(_) => false,
        }
    }
}

/// A token of a hardware module. Its threads end with it.
#[derive(Debug)]
pub struct Token {
    jobs: Option<Sender<Job>>,
    places: Arc<Semaphore>,
    /// Nothing is sent: it ends with the last thread.
    ended: Mutex<Receiver<()>>,
}

impl Drop for Token {
    /// Waits a moment until the threads have closed their sessions: a module that is unloaded by the end of the process meanwhile may crash it.
    fn drop(&mut self) {
        drop(self.jobs.take());
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _either = ended.recv_timeout(AT_THE_END);
    }
}

impl Token {
    /// Nothing is loaded before the first call.
    #[must_use]
    pub fn new(settings: Pkcs11Settings) -> Self {
        let module = Arc::new(Module::new(settings));
        let (jobs, queue) = mpsc::channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        let (alive, ended) = mpsc::channel::<()>();
        for _ in 0..AT_ONCE {
            let (module, queue, alive) = (Arc::clone(&module), Arc::clone(&queue), alive.clone());
            std::thread::spawn(move || {
                serve(&module, &queue);
                drop(module);
                drop(alive);
            });
        }
        Self {
            jobs: Some(jobs),
            places: Arc::new(Semaphore::new(AT_ONCE)),
            ended: Mutex::new(ended),
        }
    }

    /// Makes both objects of a key.
    ///
    /// # Errors
    /// [`Pkcs11Error`].
    pub async fn make(&self, label: &str) -> Result<(), Pkcs11Error> {
        let label = label.to_owned();
        self.call(move |module, seat| module.make(seat, &label)).await
    }

    /// Refuses a key that is not there or could leave the module.
    ///
    /// # Errors
    /// [`Pkcs11Error`].
    pub async fn check(&self, label: &str) -> Result<(), Pkcs11Error> {
        let label = label.to_owned();
        self.call(move |module, seat| module.check(seat, &label)).await
    }

    /// Destroys what there is of a key. Yields whether there was anything.
    ///
    /// # Errors
    /// [`Pkcs11Error`].
    pub async fn destroy(&self, label: &str) -> Result<bool, Pkcs11Error> {
        let label = label.to_owned();
        self.call(move |module, seat| module.destroy(seat, &label)).await
    }

    /// Encrypts and authenticates in the module.
    ///
    /// # Errors
    /// [`Pkcs11Error`].
    pub async fn encrypt(
        &self,
        label: &str,
        context: &Context<'_>,
        plaintext: &[u8],
    ) -> Result<Vec<u8>, Pkcs11Error> {
        let iv = crypto::random_iv()?;
        let (label, aad) = (label.to_owned(), context.associated_data());
        let plaintext = Zeroizing::new(plaintext.to_vec());
        let (ciphertext, tag) = self
            .call(move |module, seat| module.encrypt(seat, &label, iv, &aad, &plaintext))
            .await?;
        Ok(crypto::join(context, &iv, &ciphertext, &tag))
    }

    /// Authenticates and decrypts in the module.
    ///
    /// # Errors
    /// [`Pkcs11Error`].
    pub async fn decrypt(
        &self,
        label: &str,
        context: &Context<'_>,
        envelope: &[u8],
    ) -> Result<Secret<Vec<u8>>, Pkcs11Error> {
        let parts = crypto::parts(context, envelope)?;
        let (iv, tag, ciphertext) = (*parts.iv, *parts.tag, parts.ciphertext.to_vec());
        let (label, aad) = (label.to_owned(), context.associated_data());
        self.call(move |module, seat| module.decrypt(seat, &label, iv, &aad, &ciphertext, &tag))
            .await
    }

    async fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Module, &mut Seat) -> Result<T, Pkcs11Error> + Send + 'static,
    ) -> Result<T, Pkcs11Error> {
        let called = async {
            let place = Arc::clone(&self.places).acquire_owned().await.ok()?;
            let (answer, answered) = oneshot::channel();
            let job: Job = Box::new(move |module, seat| {
                let outcome = call(module, seat);
                // Given back when the call returns, whether or not anybody still waits for it.
                drop(place);
                let _nobody_waits = answer.send(outcome);
            });
            self.jobs.as_ref()?.send(job).ok()?;
            answered.await.ok()
        };
        match tokio::time::timeout(DEADLINE, called).await {
            Ok(Some(outcome)) => outcome,
            Ok(None) | Err(_) => Err(Pkcs11Error::Deadline),
        }
    }
}

fn serve(module: &Module, queue: &Mutex<Receiver<Job>>) {
    let mut seat = Seat::default();
    loop {
        // The lock is for one at a time to wait, and let go before the call.
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = next else { return };
        job(module, &mut seat);
    }
}
