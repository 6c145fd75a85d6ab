//! Bounds: what is out of them is refused by the field's name, what is at them is accepted.

use super::with_texts;
use crate::case::{A, Case};
use crate::command::{
    approve_code, code, deny, exclusive, failed, lease, metadata, register, register_with, revoke, with,
};
use leasehold_chaincode::limit;
use serde_json::{Value, json};

/// Id, promise, field, and the command that is refused for it.
type Row = (&'static str, &'static str, &'static str, Value);

pub(super) fn cases() -> Vec<Case> {
    let rows = [names(), descriptions(), terms(), volumes()].concat();
    let mut cases: Vec<_> = rows.into_iter().map(on_empty).collect();
    cases.extend(leases().into_iter().map(on_leased));
    cases.push(at_the_bounds());
    cases.push(asking_at_the_bounds());
    cases
}

fn refused((id, promise, field, command): Row, case: impl Fn(&'static str, &'static str) -> Case) -> Case {
    case(id, promise).then(A.may_not(command, json!({ "code": "invalid_field", "field": field })))
}

fn on_empty(row: Row) -> Case {
    refused(row, Case::new)
}

fn on_leased(row: Row) -> Case {
    refused(row, |id, promise| {
        with_texts(id, promise).then(A.does(lease("texts", 1)).named("a"))
    })
}

fn named(name: &str) -> Value {
    with(register("texts"), json!({ "name": name }))
}

fn names() -> Vec<Row> {
    vec![
        ("b01", "a name is not empty", "name", named("")),
        (
            "b02",
            "a name does not begin with a hyphen",
            "name",
            named("-texts"),
        ),
        ("b03", "a name does not end in a hyphen", "name", named("texts-")),
        ("b04", "a name has no capital letters", "name", named("Texts")),
        ("b05", "a name has no slash", "name", named("a/b")),
        ("b06", "a name is no directory above", "name", named("..")),
        ("b07", "a name is of ASCII", "name", named("täxt")),
        (
            "b08",
            "a name has 40 characters at most",
            "name",
            named(&"a".repeat(limit::NAME_CHARS + 1)),
        ),
    ]
}

fn with_metadata(changes: Value) -> Value {
    with(
        register("texts"),
        json!({ "metadata": with(metadata(), changes) }),
    )
}

fn descriptions() -> Vec<Row> {
    let long_entry = "é".repeat(limit::LIST_ENTRY_CHARS + 1);
    let digest =
        |value: &str| with_metadata(json!({ "content_digest": { "type": "sha-256", "value": value } }));
    let title = "metadata.title";
    vec![
        (
            "b10",
            "a title says something",
            title,
            with_metadata(json!({ "title": "  " })),
        ),
        (
            "b11",
            "a title is one line",
            title,
            with_metadata(json!({ "title": "two\nlines" })),
        ),
        (
            "b12",
            "a title has 200 characters at most",
            title,
            with_metadata(json!({ "title": "é".repeat(limit::TITLE_CHARS + 1) })),
        ),
        (
            "b13",
            "a description has 4000 characters at most",
            "metadata.description",
            with_metadata(json!({ "description": "é".repeat(limit::DESCRIPTION_CHARS + 1) })),
        ),
        (
            "b14",
            "a description has no control characters",
            "metadata.description",
            with_metadata(json!({ "description": "a\u{0}b" })),
        ),
        (
            "b15",
            "there are 64 keywords at most",
            "metadata.keywords",
            with_metadata(json!({ "keywords": vec!["word"; limit::LIST_ENTRIES + 1] })),
        ),
        (
            "b16",
            "a keyword is one line",
            "metadata.keywords",
            with_metadata(json!({ "keywords": ["two\nlines"] })),
        ),
        (
            "b17",
            "an identifier has 200 characters at most",
            "metadata.identifiers",
            with_metadata(json!({ "identifiers": [long_entry] })),
        ),
        (
            "b18",
            "a licence says something",
            "metadata.licence",
            with_metadata(json!({ "licence": "" })),
        ),
        (
            "b19",
            "a year has four digits",
            "metadata.publication_year",
            with_metadata(json!({ "publication_year": 999 })),
        ),
        (
            "b20",
            "a digest is lower-case hexadecimal",
            "metadata.content_digest",
            digest(&"AB".repeat(32)),
        ),
        (
            "b21",
            "a digest has its function's length",
            "metadata.content_digest",
            digest("ab"),
        ),
        (
            "b22",
            "a format is one line",
            "metadata.formats",
            with_metadata(json!({ "formats": ["\u{7}"] })),
        ),
        (
            "b23",
            "a creator has a name",
            "metadata.creators",
            with_metadata(json!({ "creators": [{ "name": " " }] })),
        ),
        (
            "b24",
            "there are 64 creators at most",
            "metadata.creators",
            with_metadata(json!({ "creators": vec![json!({ "name": "a group" }); limit::LIST_ENTRIES + 1] })),
        ),
    ]
}

fn with_policy(changes: Value) -> Value {
    register_with("texts", with(exclusive(), changes))
}

fn terms() -> Vec<Row> {
    vec![
        (
            "b30",
            "no longest lease is below ten seconds",
            "policy.max_ttl_seconds",
            with_policy(json!({ "max_ttl_seconds": limit::MIN_TTL_SECONDS - 1 })),
        ),
        (
            "b31",
            "no lease is longer than thirty days",
            "policy.max_ttl_seconds",
            with_policy(json!({ "max_ttl_seconds": limit::MAX_TTL_SECONDS + 1 })),
        ),
        (
            "b32",
            "a place in the line is kept for ten seconds at least",
            "policy.place_seconds",
            with_policy(json!({ "place_seconds": 1 })),
        ),
        (
            "b33",
            "terms on which nobody could lease are none",
            "policy.most_shared",
            with_policy(json!({ "exclusive": false })),
        ),
        (
            "b34",
            "64 people at most share a dataset",
            "policy.most_shared",
            with_policy(json!({ "most_shared": limit::MOST_SHARED + 1 })),
        ),
        (
            "b35",
            "100 people at most wait",
            "policy.most_waiting",
            with_policy(json!({ "most_waiting": limit::MOST_WAITING + 1 })),
        ),
        (
            "b36",
            "a group is one line",
            "policy.groups",
            with_policy(json!({ "groups": ["two\nlines"] })),
        ),
        (
            "b37",
            "terms name 256 organisations at most",
            "policy.organisations",
            with_policy(json!({ "organisations": { "only": vec!["&A"; limit::POLICY_ORGANISATIONS + 1] } })),
        ),
    ]
}

fn volumes() -> Vec<Row> {
    let with_volume = |text: &str| with(register("texts"), json!({ "volume_ciphertext": text }));
    let field = "volume_ciphertext";
    vec![
        ("b40", "a ciphertext is not empty", field, with_volume("")),
        ("b41", "a ciphertext is padded base64", field, with_volume("AAA")),
        (
            "b42",
            "a ciphertext is not padding alone",
            field,
            with_volume("===="),
        ),
        (
            "b43",
            "what is plainly no ciphertext is refused",
            field,
            with_volume("{\"path\":\"/srv\"}A"),
        ),
        (
            "b44",
            "a ciphertext has 65536 characters at most",
            field,
            with_volume(&"A".repeat(limit::CIPHERTEXT_CHARS + 4)),
        ),
        (
            "b45",
            "versions of keys count from 1",
            "key_version",
            with(register("texts"), json!({ "key_version": 0 })),
        ),
    ]
}

fn leases() -> Vec<Row> {
    let seconds = |seconds: u64| with(lease("texts", 2), json!({ "ttl_seconds": seconds }));
    let message = |text: &str| {
        with(
            failed("a", "path_missing"),
            json!({ "report": { "mount": "failed", "finding": { "code": "path_missing", "message": text } } }),
        )
    };
    let reason = |command: Value, text: &str| with(command, json!({ "reason": text }));
    vec![
        (
            "b50",
            "nobody is leased to by name",
            "subject",
            with(lease("texts", 2), json!({ "subject": "alice@example.com" })),
        ),
        (
            "b51",
            "a pseudonym is lower-case hexadecimal",
            "subject",
            with(lease("texts", 2), json!({ "subject": "AB".repeat(32) })),
        ),
        (
            "b52",
            "a lease lasts ten seconds at least",
            "ttl_seconds",
            seconds(limit::MIN_TTL_SECONDS - 1),
        ),
        (
            "b53",
            "a lease lasts as long as its terms say at most",
            "ttl_seconds",
            seconds(3_601),
        ),
        (
            "b54",
            "no number of seconds overflows",
            "ttl_seconds",
            seconds(u64::MAX),
        ),
        (
            "b55",
            "a person's groups are lines",
            "groups",
            with(lease("texts", 2), json!({ "groups": ["\n"] })),
        ),
        (
            "b56",
            "a finding's code is a code",
            "finding.code",
            failed("a", "Path Missing"),
        ),
        ("b57", "a finding has a code", "finding.code", failed("a", "")),
        (
            "b58",
            "a finding's message is one line",
            "finding.message",
            message("two\nlines"),
        ),
        (
            "b59",
            "a finding's message has 500 characters at most",
            "finding.message",
            message(&"é".repeat(limit::FINDING_MESSAGE_CHARS + 1)),
        ),
        (
            "b60",
            "a lease is revoked for a reason",
            "reason",
            reason(revoke("a"), " "),
        ),
        (
            "b61",
            "a reason has 500 characters at most",
            "reason",
            reason(deny("a"), &"é".repeat(limit::REASON_CHARS + 1)),
        ),
        (
            "b62",
            "code is named by digests",
            "code.image_sha256",
            approve_code("texts", &code("XY", "ab")),
        ),
        (
            "b63",
            "and so is its command",
            "code.command_sha256",
            approve_code(
                "texts",
                &json!({ "image_sha256": "ab".repeat(32), "command_sha256": "sh -c true" }),
            ),
        ),
    ]
}

fn at_the_bounds() -> Case {
    let fields = json!({
        "title": "é".repeat(limit::TITLE_CHARS), "description": "é".repeat(limit::DESCRIPTION_CHARS),
        "keywords": vec!["é".repeat(limit::LIST_ENTRY_CHARS); limit::LIST_ENTRIES],
    });
    let policy = json!({
        "max_ttl_seconds": limit::MAX_TTL_SECONDS, "place_seconds": limit::MIN_TTL_SECONDS,
        "most_shared": limit::MOST_SHARED, "most_waiting": limit::MOST_WAITING,
    });
    let command = json!({
        "metadata": fields, "policy": policy, "volume_ciphertext": "A".repeat(limit::CIPHERTEXT_CHARS),
        "key_version": u32::MAX,
    });
    Case::new("b70", "what is at its bounds is registered").then(A.does(with(register("texts"), command)))
}

fn asking_at_the_bounds() -> Case {
    let policy = json!({ "max_ttl_seconds": limit::MAX_TTL_SECONDS });
    let asked = |person, seconds| with(lease("texts", person), json!({ "ttl_seconds": seconds }));
    Case::new("b71", "the shortest and the longest lease are granted")
        .then(A.does(register_with("texts", policy.clone())))
        .then(A.does(register_with("scans", policy)))
        .then(A.does(asked(1, limit::MAX_TTL_SECONDS)).named("long"))
        .then(A.does(with(
            asked(1, limit::MIN_TTL_SECONDS),
            json!({ "dataset": "@scans" }),
        )))
}
