//! Tokens of SoftHSM 2: each a directory, made anew for a test.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::object::{Attribute, ObjectHandle};
use cryptoki::session::{Session, UserType};
use leasehold_secret_broker::keys::pkcs11::Pkcs11Settings;

pub const PIN: &str = "a-pin-of-the-tests-73519";

/// Where Debian has it, and where others do.
pub fn library() -> Option<PathBuf> {
    let places = [
        "/usr/lib/softhsm/libsofthsm2.so",
        "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
        "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
        "/usr/local/lib/softhsm/libsofthsm2.so",
    ];
    places.iter().map(PathBuf::from).find(|path| path.exists())
}

/// Writes a configuration whose tokens are in this directory.
pub fn configuration(directory: &Path) -> PathBuf {
    let tokens = directory.join("tokens");
    std::fs::create_dir(&tokens).unwrap();
    let configuration = directory.join("softhsm2.conf");
    let text = format!(
        "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
        tokens.display()
    );
    std::fs::write(&configuration, text).unwrap();
    configuration
}

fn tokens() -> PathBuf {
    let configuration = PathBuf::from(std::env::var_os("SOFTHSM2_CONF").unwrap());
    configuration.parent().unwrap().join("tokens")
}

/// A token with a user's PIN.
pub struct Token {
    pub settings: Pkcs11Settings,
    directory: PathBuf,
    away: Cell<bool>,
    _pin: tempfile::TempDir,
}

impl Token {
    pub fn new(library: &Path) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let label = format!("leasehold {}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let directories = || -> Vec<PathBuf> {
            let entries = std::fs::read_dir(tokens()).unwrap();
            entries.map(|entry| entry.unwrap().path()).collect()
        };
        let before = directories();
        let made = Command::new("softhsm2-util")
            .args(["--init-token", "--free", "--so-pin", "an-so-pin-of-the-tests"])
            .args(["--label", &label, "--pin", PIN, "--module"])
            .arg(library)
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let directory = directories()
            .into_iter()
            .find(|path| !before.contains(path))
            .unwrap();
        // A module that is initialised already has not seen it.
        let _not_initialised = Pkcs11::new(library).unwrap().finalize();
        let pin = tempfile::tempdir().unwrap();
        let pin_file = pin.path().join("pin");
        std::fs::write(&pin_file, format!("{PIN}\n")).unwrap();
        Self {
            settings: Pkcs11Settings {
                module: library.to_owned(),
                token: label,
                pin_file,
            },
            directory,
            away: Cell::new(false),
            _pin: pin,
        }
    }

    /// As when the module is unplugged.
    pub fn take_away(&self) {
        assert!(!self.away.replace(true));
        std::fs::rename(&self.directory, tokens().with_file_name("away")).unwrap();
    }

    pub fn bring_back(&self) {
        assert!(self.away.replace(false));
        std::fs::rename(tokens().with_file_name("away"), &self.directory).unwrap();
    }

    /// A session that is logged in, beside the broker's own.
    pub fn session(&self) -> Session {
        let context = Pkcs11::new(&self.settings.module).unwrap();
        match context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
            Err(error) => panic!("{error}"),
        }
        let slots = context.get_slots_with_initialized_token().unwrap();
        let has_label = |slot: &&_| context.get_token_info(**slot).unwrap().label() == self.settings.token;
        let slot = slots.iter().find(has_label).unwrap();
        let session = context.open_rw_session(*slot).unwrap();
        match session.login(UserType::User, Some(&PIN.to_owned().into())) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => session,
            Err(error) => panic!("{error}"),
        }
    }
}

pub fn objects(session: &Session, label: &str) -> Vec<ObjectHandle> {
    let template = [Attribute::Label(label.as_bytes().to_vec())];
    session.find_objects(&template).unwrap()
}
