//! Lists, each read to its end, page by page.

use std::collections::HashMap;

use http::Method;
use leasehold_broker_wire::rest::{Dataset, KeyReceipt, Lease, List, Place};
use serde::de::DeserializeOwned;

use super::{PeopleClient, PeopleError};

/// Which leases are wanted: all, or only those of a state, of a dataset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeasesWanted {
    /// `requested`, `waiting`, `active`, `ending` or `ended`.
    pub state: Option<String>,
    /// Id or name.
    pub dataset: Option<String>,
}

impl PeopleClient {
    /// The catalogue by name, or what of it some words fit, the best first.
    ///
    /// # Errors
    /// See [`PeopleError`].
    pub async fn datasets(&self, words: Option<&str>) -> Result<Vec<Dataset>, PeopleError> {
        let words: Vec<_> = words.map(|words| ("q", words)).into_iter().collect();
        self.pages(&["datasets"], &words).await
    }

    /// Who waits for a dataset, by id or name.
    ///
    /// # Errors
    /// See [`PeopleError`].
    pub async fn line(&self, id_or_name: &str) -> Result<Vec<Place>, PeopleError> {
        Ok(self
            .get::<List<Place>>(&["datasets", id_or_name, "line"])
            .await?
            .items)
    }

    /// Receipts of destroyed data keys, the oldest first; of one dataset, by id, where it is named.
    ///
    /// # Errors
    /// See [`PeopleError`].
    pub async fn key_receipts(&self, dataset: Option<&str>) -> Result<Vec<KeyReceipt>, PeopleError> {
        let of: Vec<_> = dataset.map(|id| ("dataset", id)).into_iter().collect();
        self.pages(&["key-receipts"], &of).await
    }

    /// The caller's leases, the last first; a steward's also those of their datasets.
    ///
    /// # Errors
    /// See [`PeopleError`].
    pub async fn leases(&self, wanted: &LeasesWanted) -> Result<Vec<Lease>, PeopleError> {
        let filters = [("state", &wanted.state), ("dataset", &wanted.dataset)];
        let filters: Vec<_> = filters
            .iter()
            .filter_map(|(name, value)| Some((*name, value.as_deref()?)))
            .collect();
        let mut leases: Vec<Lease> = self.pages(&["leases"], &filters).await?;
        // One that passed on while the list was read is in it twice; what was read last is how it is.
        let mut latest = HashMap::new();
        for (index, lease) in leases.iter().enumerate() {
            latest.insert(lease.id.clone(), index);
        }
        let mut index = 0..;
        leases.retain(|lease| latest.get(&lease.id).copied() == index.next());
        leases.sort_by(|one, other| {
            other
                .asked_at
                .cmp(&one.asked_at)
                .then_with(|| one.id.cmp(&other.id))
        });
        Ok(leases)
    }

    /// All pages of a list.
    async fn pages<T: DeserializeOwned>(
        &self,
        path: &[&str],
        filters: &[(&str, &str)],
    ) -> Result<Vec<T>, PeopleError> {
        let mut all = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let mut url = self.url(path)?;
            let from = after.as_deref().map(|after| ("after", after));
            let pairs = filters.iter().copied().chain(from);
            url.query_pairs_mut().extend_pairs(pairs);
            let page: List<T> = self.send(Method::GET, url, None::<&()>, None).await?;
            all.extend(page.items);
            // One that leads to itself would never end.
            if page.next.is_none() || page.next == after {
                return Ok(all);
            }
            after = page.next;
        }
    }
}
