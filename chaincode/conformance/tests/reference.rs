//! The contract's reference defines what it mentions.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

const REFERENCE: &str = include_str!("../../../docs/contract.md");

/// Of Rust, and the organisation of an example.
const KNOWN: [&str; 6] = ["Option", "Vec", "Box", "BTreeSet", "String", "UiSMSP"];

/// Types in the cells and lists of the reference that are code.
fn mentioned() -> BTreeSet<&'static str> {
    let code = REFERENCE
        .lines()
        .flat_map(|line| line.split('`').skip(1).step_by(2));
    let words =
        code.flat_map(|code| code.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_'));
    let is_type = |word: &&str| {
        word.starts_with(|letter: char| letter.is_ascii_uppercase())
            && word.contains(|letter: char| letter.is_ascii_lowercase())
            && !KNOWN.contains(word)
    };
    words.filter(is_type).collect()
}

#[test]
fn every_type_that_the_reference_mentions_is_defined_there() {
    let defined: BTreeSet<_> = REFERENCE
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .collect();
    let mentioned = mentioned();
    assert!(mentioned.len() > 30, "{mentioned:?}");
    let missing: Vec<_> = mentioned.difference(&defined).collect();
    assert!(
        missing.is_empty(),
        "mentioned in docs/contract.md and not defined: {missing:?}"
    );
    for inner in [
        "Admission",
        "Mode",
        "Outputs",
        "HashType",
        "KeyAlgorithm",
        "Lease",
        "HistoryEntry",
    ] {
        assert!(defined.contains(inner), "{inner}");
    }
}
