//! Where the row of a key lies in a file's table of the state: what is written together lies together.
//!
//! The contract's keys begin with a kind and go on with an id, so that the rows of one dataset would lie in as many pages as there are
//! kinds of them. A place begins with the id instead, and what changes with every lease is next to each other there. It promises that
//! each key has one place and each place is that of one key, and that keys of one kind and id keep their order.
//!
//! A place is a text that is packed ([`super::short`]); in files of an earlier version it is that text.

use super::short;

/// What the places of a dataset's rows begin with, of a lease's, and of those that begin like these without being any.
const DATASET: char = '@';
const LEASE: char = '=';
const OTHER: char = '!';

/// A kind of keys that go on with an id.
struct Kind {
    word: &'static str,
    group: char,
    /// Of the id.
    digits: usize,
    /// Sorts the kind among the rows of one id.
    letter: char,
}

const fn dataset(letter: char, word: &'static str) -> Kind {
    Kind {
        word,
        group: DATASET,
        digits: 64,
        letter,
    }
}

const fn lease(letter: char, word: &'static str) -> Kind {
    Kind {
        word,
        group: LEASE,
        digits: 32,
        letter,
    }
}

/// A dataset's history ends where its record, its status and the last of its leases are: each lease reads and writes these.
const KINDS: [Kind; 11] = [
    dataset('a', "volume"),
    dataset('b', "code"),
    dataset('c', "trace-dataset"),
    dataset('d', "history"),
    dataset('e', "dataset"),
    dataset('f', "dataset-status"),
    dataset('g', "lease-dataset"),
    dataset('h', "lease-holder"),
    lease('a', "lease"),
    lease('b', "lease-history"),
    lease('c', "trace-lease"),
];

/// The place of a key.
#[must_use]
pub fn of(key: &str) -> Vec<u8> {
    short::pack(&text(key))
}

/// The key of a place; none where it is that of no key.
pub(in crate::ledger) fn key(place: &[u8]) -> Option<String> {
    key_of_text(&short::unpacked(place)?)
}

/// The places of the keys from one to another; none where they do not lie together.
pub(super) fn range(start: &str, end: &str) -> Option<(Vec<u8>, Vec<u8>)> {
    let (start, end) = text_range(start, end)?;
    Some((short::pack(&start), short::pack(&end)))
}

/// Whether the value of a key is a line of history, which is long and never changes: it is in a table of its own, and the row of the
/// state has its id.
pub(in crate::ledger) fn is_line(key: &str) -> bool {
    key.starts_with("history/")
}

/// The place of a key before it is packed.
pub(in crate::ledger) fn text(key: &str) -> String {
    match split(key) {
        Some((kind, id, rest)) if rest.is_empty() || rest.starts_with('/') => kind.place(id, rest),
        _ if key.starts_with([DATASET, LEASE, OTHER]) => format!("{OTHER}{key}"),
        _ => key.to_owned(),
    }
}

/// The key of a place that is not packed; none where it is that of no key.
pub(in crate::ledger) fn key_of_text(place: &str) -> Option<String> {
    let mut rest = place.chars();
    let key = match rest.next() {
        Some(OTHER) => rest.as_str().to_owned(),
        Some(group @ (DATASET | LEASE)) => {
            let digits = if group == DATASET { 64 } else { 32 };
            let (id, rest) = rest.as_str().split_at_checked(digits)?;
            let mut rest = rest.chars();
            let letter = rest.next()?;
            let kind = KINDS
                .iter()
                .find(|kind| (kind.group, kind.letter) == (group, letter))?;
            let rest = rest.as_str();
            let is_kept_apart = id.bytes().all(hexadecimal) && (rest.is_empty() || rest.starts_with('/'));
            return is_kept_apart.then(|| [kind.word, "/", id, rest].concat());
        }
        _ => place.to_owned(),
    };
    // Nothing else may be said to be this key.
    (text(&key) == place).then_some(key)
}

fn text_range(start: &str, end: &str) -> Option<(String, String)> {
    if let (Some((kind, id, from)), Some((other, same, to))) = (split(start), split(end))
        && (kind.word, id) == (other.word, same)
    {
        return Some((kind.place(id, from), kind.place(id, to)));
    }
    let lies_apart = |kind: &Kind| {
        let (first, after) = (format!("{}/", kind.word), format!("{}0", kind.word));
        first.as_str() < end && after.as_str() > start
    };
    let plain = start.starts_with(|first: char| first.is_ascii_lowercase());
    (plain && !KINDS.iter().any(lies_apart)).then(|| (start.to_owned(), end.to_owned()))
}

impl Kind {
    fn place(&self, id: &str, rest: &str) -> String {
        let mut place = String::with_capacity(id.len().saturating_add(rest.len()).saturating_add(2));
        place.push(self.group);
        place.push_str(id);
        place.push(self.letter);
        place.push_str(rest);
        place
    }
}

/// Kind, id and what follows, where a key begins with these.
fn split(key: &str) -> Option<(&'static Kind, &str, &str)> {
    let (word, after) = key.split_once('/')?;
    let kind = KINDS.iter().find(|kind| kind.word == word)?;
    let (id, rest) = after.split_at_checked(kind.digits)?;
    id.bytes().all(hexadecimal).then_some((kind, id, rest))
}

fn hexadecimal(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn dataset(digit: char) -> String {
        String::from(digit).repeat(64)
    }

    #[test]
    fn the_rows_of_a_dataset_and_of_a_lease_lie_together() {
        let (one, two, lease) = (dataset('1'), dataset('2'), "3".repeat(32));
        let mut places: Vec<_> = [
            format!("lease-holder/{one}/UiSMSP/{two}"),
            format!("dataset-status/{two}"),
            format!("history/{one}/00000000000000000001"),
            format!("dataset/{one}"),
            format!("lease/{lease}"),
            "consortium".to_owned(),
            format!("lease-history/{lease}/00000000000000000001"),
            format!("dataset-status/{one}"),
        ]
        .iter()
        .map(|key| of(key))
        .collect();
        places.sort();
        let keys: Vec<_> = places.iter().filter_map(|place| key(place)).collect();
        assert_eq!(
            keys,
            [
                format!("lease/{lease}"),
                format!("lease-history/{lease}/00000000000000000001"),
                format!("history/{one}/00000000000000000001"),
                format!("dataset/{one}"),
                format!("dataset-status/{one}"),
                format!("lease-holder/{one}/UiSMSP/{two}"),
                format!("dataset-status/{two}"),
                "consortium".to_owned(),
            ]
        );
    }

    #[test]
    fn a_place_that_no_key_has_is_no_other_keys() {
        let (one, short) = (dataset('1'), "1".repeat(63));
        for place in [
            format!("dataset/{one}"),
            format!("@{one}"),
            format!("@{one}z"),
            format!("@{one}ex"),
            format!("@{short}e"),
            format!("={one}a"),
            "!dataset".to_owned(),
            format!("!dataset/{one}"),
        ] {
            assert_eq!(key(&short::pack(&place)), None, "{place}");
        }
        assert_eq!(key(&of("dataset/short")).as_deref(), Some("dataset/short"));
    }

    #[test]
    fn a_range_is_of_one_dataset_or_lease_or_of_keys_that_lie_as_they_are() {
        let one = dataset('1');
        let all = |prefix: &str| range(&format!("{prefix}/"), &format!("{prefix}0"));
        for (prefix, first) in [
            (format!("history/{one}"), format!("@{one}d/")),
            (
                format!("lease-history/{}", "3".repeat(32)),
                format!("={}b/", "3".repeat(32)),
            ),
            ("lease-state/active".to_owned(), "lease-state/active/".to_owned()),
            ("dataset-name".to_owned(), "dataset-name/".to_owned()),
        ] {
            let (start, end) = all(&prefix).unwrap();
            assert_eq!(start, short::pack(&first));
            let inside = of(&format!("{prefix}/x"));
            assert!(start < inside && inside < end, "{prefix}");
        }
        for (start, end) in [
            ("history/", "history0"),
            ("", "b"),
            ("a", "z"),
            ("lease/1", "lease/2"),
        ] {
            assert_eq!(range(start, end), None, "{start} {end}");
        }
    }

    fn keys() -> impl Strategy<Value = String> {
        prop_oneof![
            "(dataset|history|lease-holder|lease|lease-history|volume|other|@|=|!)(/[0-9a-f]{31,33}|/[0-9a-g]{64})?(/[a-z0-9/]{0,6}|[a-z!@=]{0,3})",
            "[!@=/a-z0-9]{0,12}",
        ]
    }

    proptest! {
        #[test]
        fn each_key_has_a_place_of_its_own(keys in prop::collection::btree_set(keys(), 1..40)) {
            let places: BTreeSet<_> = keys.iter().map(|key| of(key)).collect();
            prop_assert_eq!(places.len(), keys.len());
            let back: BTreeSet<_> = places.iter().filter_map(|place| key(place)).collect();
            prop_assert_eq!(back, keys);
        }

        #[test]
        fn a_range_has_the_places_of_its_keys_and_no_others(
            from in "[a-z0-9/]{0,4}", to in "[a-z0-9/]{0,4}", inside in "[a-z0-9/]{0,4}"
        ) {
            for prefix in [format!("history/{}/", dataset('1')), "lease-state/active/".to_owned()] {
                let [start, end, key] = [&from, &to, &inside].map(|rest| format!("{prefix}{rest}"));
                let (first, after) = range(&start, &end).unwrap();
                let place = of(&key);
                prop_assert_eq!(first <= place && place < after, start <= key && key < end);
            }
        }

        #[test]
        fn keys_of_one_kind_and_id_keep_their_order(one in "[a-z0-9/]{0,8}", two in "[a-z0-9/]{0,8}") {
            let key = |rest: &str| format!("history/{}/{rest}", dataset('1'));
            prop_assert_eq!(of(&key(&one)).cmp(&of(&key(&two))), one.cmp(&two));
        }
    }
}
