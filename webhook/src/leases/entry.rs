//! What the broker says of one lease or person, parsed at the edge: everything that later becomes an object name, a mount
//! path or an expiry has been checked here, so that a wrong broker cannot make the webhook mount a wrong path.

use std::fmt;

use leasehold_broker_wire::{machines, names};

/// Identifies a lease; prints as 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseId([u8; 16]);

impl LeaseId {
    /// Reads 32 lower-case hex digits.
    ///
    /// # Errors
    /// Anything else.
    pub fn parse(text: &str) -> Result<Self, InvalidEntry> {
        let mut id = [0; 16];
        let lower = !text.bytes().any(|b| b.is_ascii_uppercase());
        if lower && hex::decode_to_slice(text, &mut id).is_ok() {
            Ok(Self(id))
        } else {
            Err(InvalidEntry {
                what: "lease",
                field: "lease_id",
                value: text.into(),
            })
        }
    }

    /// Name of the PersistentVolume, the claim, the Secret and the pod volume of this lease.
    #[must_use]
    pub fn claim_name(self) -> String {
        names::claim_name(&self.to_string())
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = [0; 32];
        hex::encode_to_slice(self.0, &mut digits).map_err(|_| fmt::Error)?;
        f.write_str(std::str::from_utf8(&digits).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where a lease stands. An ended lease is not in the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseState {
    /// May be mounted until it expires.
    Active,
    /// No new mounts; the provisioner takes it down.
    Ending,
}

/// What the node said of the lease's volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mount {
    /// Nothing yet.
    Pending,
    /// It can be mounted.
    Ready,
    /// It can't; the sentence says why.
    Failed(Box<str>),
}

/// One lease that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Its id.
    pub id: LeaseId,
    /// Hex id of the dataset.
    pub dataset_id: Box<str>,
    /// Directory below `<home>/datasets`: a DNS label, checked.
    pub dataset_name: Box<str>,
    /// The organisation that owns the dataset.
    pub owner: Box<str>,
    /// Pseudonym of the holder.
    pub subject: Box<str>,
    /// Where it stands.
    pub state: LeaseState,
    /// When it was granted, broker's clock, milliseconds since the epoch.
    pub granted_at_ms: i64,
    /// When it ends by itself, same clock.
    pub expires_at_ms: i64,
    /// The dataset's policy: no pod may be given longer. At least 1.
    pub max_ttl_seconds: i64,
    /// Grows with every grant of the dataset.
    pub fencing_token: u64,
    /// What the node said of its volume.
    pub mount: Mount,
    /// Why it is ending; empty while active.
    pub end_cause: Box<str>,
}

impl Lease {
    /// May be mounted at this time of the broker's clock.
    #[must_use]
    pub fn is_active(&self, broker_now_ms: i64) -> bool {
        self.state == LeaseState::Active && broker_now_ms < self.expires_at_ms
    }
}

/// A ServiceAccount by name and uid. A recreated one of the same name is a different one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceAccount {
    /// Its namespace.
    pub namespace: Box<str>,
    /// Its name.
    pub name: Box<str>,
    /// Its uid.
    pub uid: Box<str>,
}

/// A person's home volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    /// Name of the claim.
    pub claim: Box<str>,
    /// Directory within the claim; empty is its root.
    pub sub_path: Box<str>,
    /// Where it is mounted: absolute and normalised, without a trailing slash.
    pub mount_path: Box<str>,
}

/// A person and the two ServiceAccounts that act for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// Pseudonym.
    pub subject: Box<str>,
    /// Creates Workflows.
    pub notebook: ServiceAccount,
    /// Their pods run as this one.
    pub executor: ServiceAccount,
    /// Home volume.
    pub home: Home,
}

/// A lease or binding that no correct broker sends.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "the broker sent a {what} whose {field} is not valid: {value:?}; it is left out of the view, check that broker and webhook are of one release"
)]
pub struct InvalidEntry {
    what: &'static str,
    field: &'static str,
    value: String,
}

impl TryFrom<machines::Lease> for Lease {
    type Error = InvalidEntry;

    fn try_from(lease: machines::Lease) -> Result<Self, InvalidEntry> {
        let invalid = |field, value: String| InvalidEntry {
            what: "lease",
            field,
            value,
        };
        let id = LeaseId::parse(&lease.lease_id)?;
        if !is_label(&lease.dataset_name, 40) {
            return Err(invalid("dataset_name", lease.dataset_name));
        }
        if lease.subject.is_empty() {
            return Err(invalid("subject", lease.subject));
        }
        if lease.max_ttl_seconds < 1 {
            return Err(invalid("max_ttl_seconds", lease.max_ttl_seconds.to_string()));
        }
        let state = match machines::LeaseState::try_from(lease.state) {
            Ok(machines::LeaseState::Active) => LeaseState::Active,
            Ok(machines::LeaseState::Ending) => LeaseState::Ending,
            _ => return Err(invalid("state", lease.state.to_string())),
        };
        let mount = match machines::MountState::try_from(lease.mount) {
            Ok(machines::MountState::Ready) => Mount::Ready,
            Ok(machines::MountState::Failed) => Mount::Failed(lease.mount_message.into()),
            Ok(machines::MountState::Pending | machines::MountState::Unspecified) => Mount::Pending,
            Err(_) => return Err(invalid("mount", lease.mount.to_string())),
        };
        Ok(Self {
            id,
            dataset_id: lease.dataset_id.into(),
            dataset_name: lease.dataset_name.into(),
            owner: lease.owner.into(),
            subject: lease.subject.into(),
            state,
            granted_at_ms: lease.granted_at_ms,
            expires_at_ms: lease.expires_at_ms,
            max_ttl_seconds: lease.max_ttl_seconds,
            fencing_token: lease.fencing_token,
            mount,
            end_cause: lease.end_cause.into(),
        })
    }
}

impl TryFrom<machines::Binding> for Binding {
    type Error = InvalidEntry;

    fn try_from(binding: machines::Binding) -> Result<Self, InvalidEntry> {
        let invalid = |field, value: String| InvalidEntry {
            what: "binding",
            field,
            value,
        };
        let account = |field, account: Option<machines::ServiceAccount>| match account {
            Some(a) if !a.namespace.is_empty() && !a.name.is_empty() && !a.uid.is_empty() => {
                Ok(ServiceAccount {
                    namespace: a.namespace.into(),
                    name: a.name.into(),
                    uid: a.uid.into(),
                })
            }
            other => Err(invalid(field, format!("{other:?}"))),
        };
        let notebook = account("notebook", binding.notebook)?;
        let executor = account("executor", binding.executor)?;
        let Some(home) = binding.home else {
            return Err(invalid("home", String::new()));
        };
        if home.claim.is_empty() || home.claim.starts_with(names::CLAIM_PREFIX) {
            return Err(invalid("home.claim", home.claim));
        }
        if !is_absolute_and_normal(&home.mount_path) {
            return Err(invalid("home.mount_path", home.mount_path));
        }
        if binding.subject.is_empty() {
            return Err(invalid("subject", binding.subject));
        }
        Ok(Self {
            subject: binding.subject.into(),
            notebook,
            executor,
            home: Home {
                claim: home.claim.into(),
                sub_path: home.sub_path.into(),
                mount_path: home.mount_path.into(),
            },
        })
    }
}

fn is_label(name: &str, longest: usize) -> bool {
    !name.is_empty()
        && name.len() <= longest
        && !name.starts_with('-')
        && !name.ends_with('-')
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn is_absolute_and_normal(path: &str) -> bool {
    let Some(rest) = path.strip_prefix('/') else {
        return false;
    };
    !rest.is_empty()
        && !path.contains('\0')
        && rest
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != "..")
}
