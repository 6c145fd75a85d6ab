//! Where Fabric's programs are.

use std::path::PathBuf;

/// Names the directory.
const VARIABLE: &str = "LEASEHOLD_FABRIC_BIN";
const PROGRAMS: [&str; 6] = [
    "orderer",
    "peer",
    "configtxgen",
    "cryptogen",
    "osnadmin",
    "configtxlator",
];

/// What a test prints that cannot run over real Fabric.
pub const SKIPPED: &str = "SKIPPED: real Fabric: LEASEHOLD_FABRIC_BIN is not set";

/// A directory with all programs.
#[derive(Debug, Clone)]
pub struct Binaries {
    directory: PathBuf,
}

impl Binaries {
    /// The directory that the environment names; none where it names none.
    ///
    /// # Errors
    /// Where it names one in which a program is missing: that is a mistake, not a reason to skip.
    pub fn find() -> Result<Option<Self>, String> {
        let Some(directory) = std::env::var_os(VARIABLE)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
        else {
            return Ok(None);
        };
        let missing: Vec<&str> = PROGRAMS
            .into_iter()
            .filter(|name| !directory.join(name).is_file())
            .collect();
        if missing.is_empty() {
            Ok(Some(Self { directory }))
        } else {
            Err(format!(
                "{VARIABLE} is {}, which has no {}",
                directory.display(),
                missing.join(", ")
            ))
        }
    }

    pub(crate) fn path(&self, program: &str) -> PathBuf {
        self.directory.join(program)
    }
}
