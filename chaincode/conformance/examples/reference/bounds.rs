//! The bounds of what callers send. Each field that its type alone does not bound has to be here.

use leasehold_chaincode::limit;

/// What may be in a field of a command or type, or of a type that is a text.
///
/// # Panics
/// Where nothing is said of it.
pub fn bounds(of: &str, field: &str) -> String {
    let entry = format!("1 to {} characters in one line", limit::LIST_ENTRY_CHARS);
    let list = format!("at most {} entries", limit::LIST_ENTRIES);
    let entries = format!("{list}, each {entry}");
    let several = format!("1 to {} entries, each once", limit::LIST_ENTRIES);
    let reason = format!("1 to {} characters in one line", limit::REASON_CHARS);
    let hash = "64 lower-case hexadecimal digits".to_owned();
    let keys = format!("at most {}, each id once", limit::PUBLIC_KEYS);
    let seconds = format!("{} to {}", limit::MIN_TTL_SECONDS, limit::MAX_TTL_SECONDS);
    match (of, field) {
        ("Ciphertext", "") => format!("4 to {} characters of padded base64", limit::CIPHERTEXT_CHARS),
        ("DatasetRef", "") => "a `DatasetId` or a `DatasetName`".to_owned(),
        ("Admission", "only") => format!("at most {}", limit::POLICY_ORGANISATIONS),
        ("register_dataset", "name") => "`DatasetName`".to_owned(),
        ("register_cluster" | "retire_cluster", "name") | ("lease", "cluster") => "`ClusterName`".to_owned(),
        ("register_dataset" | "take_dataset", "key_version") => "from 1".to_owned(),
        ("replace_volume", "key_version") => "from what it is".to_owned(),
        ("offer_dataset", "to") | ("vote_on_suspension", "organisation") => "`Msp`".to_owned(),
        ("lease" | "renew", "ttl_seconds") => {
            format!("{} to the dataset's longest lease", limit::MIN_TTL_SECONDS)
        }
        ("record_trace", "key") => format!("1 to {} visible ASCII characters", limit::TRACE_KEY_CHARS),
        ("join_consortium" | "amend_organisation", "broker") => {
            format!("at most {} characters", limit::ADDRESS_CHARS)
        }
        ("join_consortium" | "amend_organisation" | "register_cluster", "keys") => keys,
        ("Metadata", "title") => format!("1 to {} characters in one line", limit::TITLE_CHARS),
        ("Metadata", "description") => {
            format!(
                "at most {} characters, lines and tabs among them",
                limit::DESCRIPTION_CHARS
            )
        }
        ("Metadata", "keywords" | "identifiers" | "formats") | ("Policy" | "lease", "groups") => entries,
        ("Metadata", "creators") => list,
        ("Action", "resources" | "results") => format!("{list}, each id once"),
        ("Metadata", "publication_year") => "1000 to 9999".to_owned(),
        ("Metadata", "size_bytes" | "file_count") => "any".to_owned(),
        ("Metadata", "licence" | "publisher" | "version" | "language")
        | ("Creator" | "Tool", _)
        | ("Resource", "id")
        | ("Action", "application" | "model") => entry,
        ("Digest", "value") => "as many lower-case hexadecimal digits as its type has".to_owned(),
        ("Policy", "max_ttl_seconds" | "place_seconds") => seconds,
        ("Policy", "most_shared") => format!("at most {}", limit::MOST_SHARED),
        ("Policy", "most_waiting") => format!("at most {}", limit::MOST_WAITING),
        ("Code", _) => hash,
        ("Finding", "code") => format!(
            "1 to {} lower-case letters, digits or underscores",
            limit::FINDING_CODE_CHARS
        ),
        ("Finding", "message") => {
            format!("at most {} characters in one line", limit::FINDING_MESSAGE_CHARS)
        }
        ("PublicKey", "id") => format!(
            "1 to {} letters, digits, dots, hyphens or underscores",
            limit::KEY_ID_CHARS
        ),
        ("PublicKey", "spki") => "as long as a key of its algorithm, which it begins as".to_owned(),
        ("Pod", "uid") => format!("1 to {} letters, digits or hyphens", limit::POD_UID_CHARS),
        ("Action", "details") => reason,
        ("Action", "dataset") => "`DatasetId`".to_owned(),
        ("Action", "datasets") => format!("{several}: `DatasetId`"),
        ("Action", "pods") => several,
        ("Action", "models") => format!("{several}, each {entry}"),
        (_, "dataset") => "a `DatasetId` or a `DatasetName`".to_owned(),
        (_, "lease") => "`LeaseId`".to_owned(),
        (_, "subject") => "`Subject`".to_owned(),
        (_, "reason") => reason,
        _ => panic!("the bounds of {field} of {of} are not said"),
    }
}
