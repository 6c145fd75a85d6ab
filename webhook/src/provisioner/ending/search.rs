//! Where the search for pods stands: which claims are sought in which namespaces, whose turn it is, and where it goes on.
//! Pure: the time is an argument.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// A claim that nobody has asked for since is sought no more.
const SOUGHT_FOR: Duration = Duration::from_secs(30);
/// Between two searches through the whole of a namespace.
const REST: Duration = Duration::from_secs(1);

/// What is sought, and how far.
#[derive(Debug, Default)]
pub(super) struct Search {
    namespaces: HashMap<String, Namespace>,
}

#[derive(Debug, Default)]
struct Namespace {
    /// Claims, and when each was asked for last.
    claims: HashMap<String, Instant>,
    /// Where the next turn goes on; none: from the start.
    next: Option<String>,
    /// When its last turn began.
    turned_at: Option<Instant>,
    /// When it had last been searched to its end.
    whole_at: Option<Instant>,
}

impl Search {
    /// From now on the claim is sought in these namespaces.
    pub(super) fn seek(&mut self, claim: &str, namespaces: &[String], now: Instant) {
        for namespace in namespaces {
            let of_namespace = self.namespaces.entry(namespace.clone()).or_default();
            of_namespace.claims.insert(claim.to_owned(), now);
        }
        for namespace in self.namespaces.values_mut() {
            namespace
                .claims
                .retain(|_, asked_at| now.duration_since(*asked_at) <= SOUGHT_FOR);
        }
        self.namespaces
            .retain(|_, namespace| !namespace.claims.is_empty());
    }

    /// Whether the claim is sought there.
    pub(super) fn seeks(&self, namespace: &str, claim: &str) -> bool {
        self.namespaces
            .get(namespace)
            .is_some_and(|namespace| namespace.claims.contains_key(claim))
    }

    /// The namespace that has waited longest for a turn, and where to go on in it.
    pub(super) fn begin_turn(&mut self, now: Instant) -> Option<(String, Option<String>)> {
        let rested = |namespace: &Namespace| {
            namespace.next.is_some()
                || namespace
                    .whole_at
                    .is_none_or(|whole_at| now.duration_since(whole_at) >= REST)
        };
        let (name, namespace) = self
            .namespaces
            .iter_mut()
            .filter(|(_, namespace)| rested(namespace))
            .min_by_key(|(_, namespace)| namespace.turned_at)?;
        namespace.turned_at = Some(now);
        Some((name.clone(), namespace.next.clone()))
    }

    /// A page has been gone through; none follows: the namespace's end.
    pub(super) fn came_to(&mut self, namespace: &str, next: Option<String>, now: Instant) {
        if let Some(namespace) = self.namespaces.get_mut(namespace) {
            if next.is_none() {
                namespace.whole_at = Some(now);
            }
            namespace.next = next;
        }
    }

    /// The place where the next turn would go on is no more.
    pub(super) fn start_over(&mut self, namespace: &str) {
        if let Some(namespace) = self.namespaces.get_mut(namespace) {
            namespace.next = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn a_namespace_that_never_comes_to_its_end_keeps_no_other_from_its_turn() {
        let mut search = Search::default();
        let t = Instant::now();
        let mut turns = Vec::new();
        for second in 0..6 {
            let now = t + Duration::from_secs(second);
            search.seek("c1", &names(&["endless"]), now);
            search.seek("c2", &names(&["small"]), now);
            let (namespace, _) = search.begin_turn(now).unwrap();
            let more = (namespace == "endless").then(|| format!("page {second}"));
            search.came_to(&namespace, more, now);
            turns.push(namespace);
        }
        assert_eq!(
            turns.iter().filter(|turn| *turn == "small").count(),
            3,
            "{turns:?}"
        );
    }

    #[test]
    fn a_turn_goes_on_where_the_last_one_stopped_and_starts_over_when_that_is_no_more() {
        let mut search = Search::default();
        let t = Instant::now();
        search.seek("c", &names(&["hub"]), t);
        assert_eq!(search.begin_turn(t), Some(("hub".into(), None)));
        search.came_to("hub", Some("page 7".into()), t);
        assert_eq!(search.begin_turn(t), Some(("hub".into(), Some("page 7".into()))));
        search.start_over("hub");
        assert_eq!(search.begin_turn(t), Some(("hub".into(), None)));
    }

    #[test]
    fn a_searched_namespace_rests_for_a_moment() {
        let mut search = Search::default();
        let t = Instant::now();
        search.seek("c", &names(&["hub"]), t);
        search.came_to("hub", None, t);
        assert_eq!(search.begin_turn(t + REST / 2), None);
        assert!(search.begin_turn(t + REST).is_some());
    }

    #[test]
    fn a_claim_is_sought_only_as_long_as_somebody_asks_for_it() {
        let mut search = Search::default();
        let t = Instant::now();
        search.seek("c1", &names(&["hub"]), t);
        assert!(search.seeks("hub", "c1") && !search.seeks("hub", "c2") && !search.seeks("other", "c1"));
        search.seek("c2", &names(&["hub"]), t + SOUGHT_FOR + REST);
        assert!(!search.seeks("hub", "c1") && search.seeks("hub", "c2"));
    }
}
