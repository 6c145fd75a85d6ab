//! The calls themselves, which block: a thread keeps its session for the next call, and where the module or the token was away meanwhile,
//! everything is opened anew and the call made once more.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::SystemTime;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Function, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use zeroize::Zeroizing;

use super::{Pkcs11Error, Pkcs11Settings};
use crate::crypto::CryptoError;
use crate::secret::Secret;

const AES_BYTES: usize = 32;
const MAC_BYTES: usize = 32;

/// The module with what is open of it.
pub(super) struct Module {
    settings: Pkcs11Settings,
    /// Read by whoever is in a call, written by whoever closes the module.
    calls: RwLock<()>,
    open: Mutex<Open>,
}

/// What became of a try.
struct Tried<T> {
    outcome: Result<T, Pkcs11Error>,
    epoch: u64,
    reopen: bool,
}

#[derive(Default)]
struct Open {
    context: Option<Pkcs11>,
    /// Counts how often everything was opened anew, so that several who find it gone do that once.
    epoch: u64,
    /// The PIN that the token refused: each try with it brings the token nearer to its lock.
    refused_pin: Option<(Zeroizing<String>, Option<SystemTime>)>,
}

/// A thread's own session, logged in. Sessions stay on the thread that opened them.
#[derive(Default)]
pub(super) struct Seat(Option<(u64, Session)>);

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Module").field(&self.settings).finish()
    }
}

/// The two objects of a key.
struct Pair {
    cipher: ObjectHandle,
    mac: ObjectHandle,
}

impl Module {
    pub(super) fn new(settings: Pkcs11Settings) -> Self {
        Self {
            settings,
            calls: RwLock::new(()),
            open: Mutex::new(Open::default()),
        }
    }

    pub(super) fn encrypt(
        &self,
        seat: &mut Seat,
        label: &str,
        iv: [u8; 16],
        aad: &[u8],
        plaintext: &[u8],
    ) -> Result<(Vec<u8>, Vec<u8>), Pkcs11Error> {
        self.with_session(seat, |session| {
            let pair = pair(session, label)?;
            let ciphertext = session.encrypt(&Mechanism::AesCbcPad(iv), pair.cipher, plaintext)?;
            let tag = session.sign(
                &Mechanism::Sha256Hmac,
                pair.mac,
                &authenticated(aad, &iv, &ciphertext),
            )?;
            Ok((ciphertext, tag))
        })
    }

    pub(super) fn decrypt(
        &self,
        seat: &mut Seat,
        label: &str,
        iv: [u8; 16],
        aad: &[u8],
        ciphertext: &[u8],
        tag: &[u8],
    ) -> Result<Secret<Vec<u8>>, Pkcs11Error> {
        self.with_session(seat, |session| {
            let pair = pair(session, label)?;
            let covered = authenticated(aad, &iv, ciphertext);
            match session.verify(&Mechanism::Sha256Hmac, pair.mac, &covered, tag) {
                Ok(()) => {}
                Err(Error::Pkcs11(RvError::SignatureInvalid | RvError::SignatureLenRange, _)) => {
                    return Err(CryptoError::NotAuthentic.into());
                }
                Err(error) => return Err(error.into()),
            }
            let plaintext = session.decrypt(&Mechanism::AesCbcPad(iv), pair.cipher, ciphertext)?;
            Ok(Secret::new(plaintext))
        })
    }

    /// Both objects, which cannot be read out, nor ever be made so.
    pub(super) fn make(&self, seat: &mut Seat, label: &str) -> Result<(), Pkcs11Error> {
        self.with_session(seat, |session| {
            for named in [label.to_owned(), mac_label(label)] {
                if !find(session, &named)?.is_empty() {
                    return Err(Pkcs11Error::SeveralKeys(named));
                }
            }
            let confined = |label: &str, bytes: usize| -> Result<Vec<Attribute>, Pkcs11Error> {
                Ok(vec![
                    Attribute::Token(true),
                    Attribute::Private(true),
                    Attribute::Sensitive(true),
                    Attribute::Extractable(false),
                    Attribute::Label(label.as_bytes().to_vec()),
                    Attribute::ValueLen(bytes.try_into()?),
                ])
            };
            let mut cipher = confined(label, AES_BYTES)?;
            cipher.extend([Attribute::Encrypt(true), Attribute::Decrypt(true)]);
            session.generate_key(&Mechanism::AesKeyGen, &cipher)?;
            let mut mac = confined(&mac_label(label), MAC_BYTES)?;
            mac.extend([Attribute::Sign(true), Attribute::Verify(true)]);
            session.generate_key(&Mechanism::GenericSecretKeyGen, &mac)?;
            check_confined(session, label)
        })
    }

    pub(super) fn check(&self, seat: &mut Seat, label: &str) -> Result<(), Pkcs11Error> {
        self.with_session(seat, |session| check_confined(session, label))
    }

    pub(super) fn destroy(&self, seat: &mut Seat, label: &str) -> Result<bool, Pkcs11Error> {
        // Where it is opened anew in the middle, what went before counts.
        let found = AtomicBool::new(false);
        self.with_session(seat, |session| {
            for named in [label.to_owned(), mac_label(label)] {
                for object in find(session, &named)? {
                    session.destroy_object(object)?;
                    found.store(true, Ordering::Relaxed);
                }
            }
            Ok(found.load(Ordering::Relaxed))
        })
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a call on a session that is logged in; once more, with everything opened anew, where module or token were away.
    fn with_session<T>(
        &self,
        seat: &mut Seat,
        call: impl Fn(&Session) -> Result<T, Pkcs11Error>,
    ) -> Result<T, Pkcs11Error> {
        let Tried {
            outcome,
            epoch,
            reopen,
        } = self.try_once(seat, &call);
        let Err(error) = &outcome else { return outcome };
        if !reopen {
            return outcome;
        }
        tracing::warn!(%error, "the PKCS#11 module is not what it was; opening it anew");
        self.forget(epoch);
        let again = self.try_once(seat, &call);
        if again.reopen {
            self.forget(again.epoch);
        }
        again.outcome
    }

    fn try_once<T>(&self, seat: &mut Seat, call: &impl Fn(&Session) -> Result<T, Pkcs11Error>) -> Tried<T> {
        let _calling = self.calls.read().unwrap_or_else(PoisonError::into_inner);
        let mut open = self.lock();
        let epoch = open.epoch;
        let session = match self.session(&mut open, seat) {
            Ok(session) => session,
            Err(error) => {
                // Not after a wrong PIN: that would cost another try.
                let reopen = matches!(error, Pkcs11Error::NoToken { .. } | Pkcs11Error::Module(_));
                let outcome = Err(error);
                return Tried {
                    outcome,
                    epoch,
                    reopen,
                };
            }
        };
        drop(open);
        let outcome = call(&session);
        let reopen = matches!(&outcome, Err(Pkcs11Error::Module(error)) if is_gone(error));
        // After an error of the module a session may be in the middle of something.
        if !matches!(outcome, Err(Pkcs11Error::Module(_))) {
            seat.0 = Some((epoch, session));
        }
        Tried {
            outcome,
            epoch,
            reopen,
        }
    }

    /// Lets go of everything that was opened in this epoch, while nobody is in a call: a module may do anything otherwise.
    fn forget(&self, epoch: u64) {
        let _nobody_calls = self.calls.write().unwrap_or_else(PoisonError::into_inner);
        let mut open = self.lock();
        if open.epoch != epoch {
            return;
        }
        open.epoch += 1;
        // Slots are found when a module is initialised: one that stays so does not see that a token is back.
        if let Some(context) = open.context.take()
            && let Err(error) = context.finalize()
        {
            tracing::debug!(%error, "the PKCS#11 module could not be closed");
        }
    }

    fn session(&self, open: &mut Open, seat: &mut Seat) -> Result<Session, Pkcs11Error> {
        match seat.0.take() {
            Some((epoch, session)) if epoch == open.epoch => return Ok(session),
            // It ended with the module, and its number may be another's by now: it must not be closed.
            Some((_, ended)) => std::mem::forget(ended),
            None => {}
        }
        let context = match &open.context {
            Some(context) => context.clone(),
            None => {
                let context = self.load()?;
                open.context = Some(context.clone());
                context
            }
        };
        self.log_in(open, &context)
    }

    fn load(&self) -> Result<Pkcs11, Pkcs11Error> {
        let failed = |error: Error| Pkcs11Error::Load {
            module: self.settings.module.clone(),
            reason: error.to_string(),
        };
        let context = Pkcs11::new(&self.settings.module).map_err(failed)?;
        match context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, Function::Initialize)) => {
                Ok(context)
            }
            Err(error) => Err(failed(error)),
        }
    }

    fn log_in(&self, open: &mut Open, context: &Pkcs11) -> Result<Session, Pkcs11Error> {
        let label = &self.settings.token;
        let path = &self.settings.pin_file;
        let pin = std::fs::read_to_string(path).map_err(|source| Pkcs11Error::PinFile {
            path: path.clone(),
            source,
        })?;
        let text = Zeroizing::new(pin);
        let written_at = std::fs::metadata(path).and_then(|file| file.modified()).ok();
        if open
            .refused_pin
            .as_ref()
            .is_some_and(|(refused, at)| *refused == text && *at == written_at)
        {
            return Err(Pkcs11Error::WrongPin(label.clone()));
        }
        let slot = self.slot(context)?;
        let info = context.get_token_info(slot)?;
        if info.user_pin_final_try() || info.user_pin_locked() {
            return Err(Pkcs11Error::LastTry(label.clone()));
        }
        let pin = AuthPin::new(text.trim_end_matches(['\r', '\n']).into());
        let session = context.open_rw_session(slot)?;
        match session.login(UserType::User, Some(&pin)) {
            // All sessions of a process share one login.
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(session),
            Err(Error::Pkcs11(RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange, _)) => {
                open.refused_pin = Some((text, written_at));
                Err(Pkcs11Error::WrongPin(label.clone()))
            }
            Err(Error::Pkcs11(RvError::PinLocked, _)) => Err(Pkcs11Error::LastTry(label.clone())),
            Err(error) => Err(error.into()),
        }
    }

    fn slot(&self, context: &Pkcs11) -> Result<Slot, Pkcs11Error> {
        let token = &self.settings.token;
        let mut with_label = Vec::new();
        let mut labels = Vec::new();
        for slot in context.get_slots_with_initialized_token()? {
            let label = context.get_token_info(slot)?.label().trim_end().to_owned();
            if label == *token {
                with_label.push(slot);
            }
            labels.push(format!("`{label}`"));
        }
        match with_label.as_slice() {
            [slot] => Ok(*slot),
            [] => Err(Pkcs11Error::NoToken {
                token: token.clone(),
                found: match labels.is_empty() {
                    true => "no token at all".to_owned(),
                    false => labels.join(", "),
                },
            }),
            _ => Err(Pkcs11Error::SeveralTokens(token.clone())),
        }
    }
}

/// Whether the session, the token or the module is not what it was, so that opening it anew may help.
fn is_gone(error: &Error) -> bool {
    matches!(
        error,
        Error::Pkcs11(
            RvError::CryptokiNotInitialized
                | RvError::DeviceError
                | RvError::DeviceRemoved
                | RvError::GeneralError
                | RvError::FunctionFailed
                | RvError::ObjectHandleInvalid
                | RvError::KeyHandleInvalid
                | RvError::OperationActive
                | RvError::SessionClosed
                | RvError::SessionHandleInvalid
                | RvError::TokenNotPresent
                | RvError::TokenNotRecognized
                | RvError::UserNotLoggedIn,
            _
        )
    )
}

fn mac_label(label: &str) -> String {
    format!("{label}-mac")
}

/// What the tag covers: RFC 7518 §5.2.2.1.
fn authenticated(aad: &[u8], iv: &[u8], ciphertext: &[u8]) -> Vec<u8> {
    let bits = (aad.len() as u64 * 8).to_be_bytes();
    [aad, iv, ciphertext, &bits].concat()
}

fn find(session: &Session, label: &str) -> Result<Vec<ObjectHandle>, Error> {
    session.find_objects(&[
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::Label(label.as_bytes().to_vec()),
    ])
}

fn one(session: &Session, label: &str) -> Result<ObjectHandle, Pkcs11Error> {
    match find(session, label)?.as_slice() {
        [object] => Ok(*object),
        [] => Err(Pkcs11Error::NoKey(label.to_owned())),
        _ => Err(Pkcs11Error::SeveralKeys(label.to_owned())),
    }
}

fn pair(session: &Session, label: &str) -> Result<Pair, Pkcs11Error> {
    Ok(Pair {
        cipher: one(session, label)?,
        mac: one(session, &mac_label(label))?,
    })
}

fn check_confined(session: &Session, label: &str) -> Result<(), Pkcs11Error> {
    let pair = pair(session, label)?;
    for (object, label) in [(pair.cipher, label.to_owned()), (pair.mac, mac_label(label))] {
        let types = [
            AttributeType::Sensitive,
            AttributeType::Extractable,
            AttributeType::AlwaysSensitive,
            AttributeType::NeverExtractable,
            AttributeType::Local,
        ];
        let attributes = session.get_attributes(object, &types)?;
        let attribute = if !attributes.contains(&Attribute::Sensitive(true)) {
            "CKA_SENSITIVE is not true"
        } else if !attributes.contains(&Attribute::Extractable(false)) {
            "CKA_EXTRACTABLE is not false"
        // A module need not have these, and must not deny them: the key may have been outside, now or before.
        } else if attributes.contains(&Attribute::AlwaysSensitive(false)) {
            "CKA_ALWAYS_SENSITIVE is false"
        } else if attributes.contains(&Attribute::NeverExtractable(false)) {
            "CKA_NEVER_EXTRACTABLE is false"
        } else if attributes.contains(&Attribute::Local(false)) {
            "CKA_LOCAL is false"
        } else {
            continue;
        };
        return Err(Pkcs11Error::NotConfined { label, attribute });
    }
    Ok(())
}
