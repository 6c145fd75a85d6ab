//! The bounds of everything that a caller may send. A ledger is for ever: what is not bounded here is not accepted.

/// Longest title, characters.
pub const TITLE_CHARS: usize = 200;
/// Longest description, characters.
pub const DESCRIPTION_CHARS: usize = 4_000;
/// Longest volume ciphertext, characters of base64.
pub const CIPHERTEXT_CHARS: usize = 64 * 1024;
/// Longest MSP id, characters.
pub const MSP_CHARS: usize = 64;
/// Longest name of a dataset or cluster, characters: it is a directory and part of an annotation.
pub const NAME_CHARS: usize = 40;
/// Longest transaction id, characters (Fabric's have 64, UUIDs 36).
pub const TX_ID_CHARS: usize = 128;
/// Longest code of a finding, characters.
pub const FINDING_CODE_CHARS: usize = 64;
/// Longest message of a finding, characters.
pub const FINDING_MESSAGE_CHARS: usize = 500;
/// Shortest lease, seconds.
pub const MIN_TTL_SECONDS: u64 = 10;
/// Longest lease, seconds: thirty days.
pub const MAX_TTL_SECONDS: u64 = 30 * 24 * 60 * 60;
/// Latest transaction time that is believed: the end of the year 9999.
pub const MAX_TIMESTAMP_MS: i64 = 253_402_300_799_999;
/// Most keywords, identifiers, formats, creators or groups in a list.
pub const LIST_ENTRIES: usize = 64;
/// Longest of them, characters; also longest licence, publisher, version or language, and each text of a creator.
pub const LIST_ENTRY_CHARS: usize = 200;
/// Most organisations that a policy names.
pub const POLICY_ORGANISATIONS: usize = 256;
/// Most people who have a dataset at the same time.
pub const MOST_SHARED: u32 = 64;
/// Longest line.
pub const MOST_WAITING: u32 = 100;
/// Longest reason of an owner, characters.
pub const REASON_CHARS: usize = 500;
/// How long a cluster has for confirming an end before the owner may declare it, milliseconds: one hour.
pub const CONFIRMATION_MS: i64 = 60 * 60 * 1_000;
/// Most organisations in the consortium.
pub const ORGANISATIONS: u32 = 256;
/// Most clusters of an organisation that are in service.
pub const CLUSTERS: usize = 32;
/// Most public keys of an organisation, and of a cluster: the current ones and those that are rotated in.
pub const PUBLIC_KEYS: usize = 8;
/// Longest id of a public key, characters.
pub const KEY_ID_CHARS: usize = 64;
/// Longest broker address, characters.
pub const ADDRESS_CHARS: usize = 300;
/// Fewest organisations that suspend another one, however small the consortium is.
pub const LEAST_VOTES: usize = 2;
/// Longest key of a trace, characters.
pub const TRACE_KEY_CHARS: usize = 128;
/// Longest UID of a pod, characters.
pub const POD_UID_CHARS: usize = 64;
