//! Registering and retiring datasets. Anyone of the consortium may register; what is registered is its owner's alone.

use super::draft::Draft;
use super::{Failure, Outcome};
use crate::command::Ciphertext;
use crate::event::EventKind;
use crate::id::{DatasetId, DatasetName};
use crate::record::{Dataset, DatasetStatus, Volume};
use crate::refusal::Refusal;
use crate::state::StateReader;
use crate::{key, limit};

/// A registration as it was sent.
pub(super) struct Registration<'a> {
    pub(super) name: &'a str,
    pub(super) title: &'a str,
    pub(super) description: &'a str,
    pub(super) max_ttl_seconds: u64,
    pub(super) volume_ciphertext: &'a Ciphertext,
    pub(super) key_version: u32,
}

impl Registration<'_> {
    pub(super) fn register<S: StateReader + ?Sized>(
        self,
        mut draft: Draft<'_, S>,
    ) -> Result<Outcome, Failure> {
        let name = self.check()?;
        let owner = draft.context.caller.clone();
        let id = DatasetId::derive(&draft.context.tx_id);
        if draft.state.get(&key::dataset_name(&name))?.is_some() {
            return Err(Refusal::DatasetNameTaken { name: name.into() }.into());
        }
        if draft.state.get(&key::dataset(&id))?.is_some() {
            return Err(Refusal::TransactionReused {
                tx_id: draft.context.tx_id.to_string(),
            }
            .into());
        }
        let dataset = Dataset {
            id: id.clone(),
            name,
            owner,
            title: self.title.to_owned(),
            description: self.description.to_owned(),
            max_ttl_seconds: self.max_ttl_seconds,
            registered_at_ms: draft.context.timestamp_ms,
            retired_at_ms: None,
        };
        let volume = Volume {
            ciphertext: self.volume_ciphertext.clone(),
            key_version: self.key_version,
        };
        draft.put(key::dataset(&id), &dataset)?;
        draft.put(key::volume(&id), &volume)?;
        draft.put_index(key::dataset_name(&dataset.name), id.as_str());
        draft.put_index(key::dataset_owner(&dataset.owner, &dataset.name), id.as_str());
        let status = DatasetStatus {
            revision: 0,
            fencing_token: 0,
            lease: None,
            finding: None,
        };
        draft.finish_dataset(status, dataset, EventKind::DatasetRegistered {})
    }

    fn check(&self) -> Result<DatasetName, Refusal> {
        let name = DatasetName::new(self.name)
            .map_err(|error| Refusal::invalid("name", format!("expected {}", error.expected)))?;
        if self.title.trim().is_empty() {
            return Err(Refusal::invalid("title", "a title is needed"));
        }
        bounded("title", self.title, limit::TITLE_CHARS)?;
        if self.title.chars().any(char::is_control) {
            return Err(Refusal::invalid(
                "title",
                "expected one line without control characters",
            ));
        }
        bounded("description", self.description, limit::DESCRIPTION_CHARS)?;
        if self
            .description
            .chars()
            .any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t'))
        {
            return Err(Refusal::invalid(
                "description",
                "expected text without control characters",
            ));
        }
        if !(limit::MIN_TTL_SECONDS..=limit::MAX_TTL_SECONDS).contains(&self.max_ttl_seconds) {
            let reason = format!(
                "expected {} to {} seconds",
                limit::MIN_TTL_SECONDS,
                limit::MAX_TTL_SECONDS
            );
            return Err(Refusal::invalid("max_ttl_seconds", reason));
        }
        if !is_base64(&self.volume_ciphertext.0) {
            let reason = format!(
                "expected 4 to {} characters of padded base64",
                limit::CIPHERTEXT_CHARS
            );
            return Err(Refusal::invalid("volume_ciphertext", reason));
        }
        if self.key_version == 0 {
            return Err(Refusal::invalid("key_version", "expected 1 or more"));
        }
        Ok(name)
    }
}

/// Retires a dataset. Its record and history stay; its name, and its volume's ciphertext, leave the state.
pub(super) fn remove<S: StateReader + ?Sized>(
    mut draft: Draft<'_, S>,
    reference: &str,
) -> Result<Outcome, Failure> {
    let (mut dataset, status) = draft.dataset(reference)?;
    if dataset.owner != draft.context.caller {
        return Err(Refusal::NotOwner {
            owner: dataset.owner.into(),
        }
        .into());
    }
    if let Some(lease) = status.lease {
        return Err(Refusal::DatasetLeased {
            name: dataset.name.into(),
            lease: lease.into(),
        }
        .into());
    }
    dataset.retired_at_ms = Some(draft.context.timestamp_ms);
    draft.put(key::dataset(&dataset.id), &dataset)?;
    draft.delete(key::volume(&dataset.id));
    draft.delete(key::dataset_name(&dataset.name));
    draft.delete(key::dataset_owner(&dataset.owner, &dataset.name));
    draft.finish_dataset(status, dataset, EventKind::DatasetRetired {})
}

/// Refuses a text of more than `chars` characters without counting all of a huge one.
pub(super) fn bounded(field: &str, text: &str, chars: usize) -> Result<(), Refusal> {
    if text.chars().nth(chars).is_some() {
        return Err(Refusal::invalid(
            field,
            format!("expected at most {chars} characters"),
        ));
    }
    Ok(())
}

fn is_base64(text: &str) -> bool {
    let digits = text.trim_end_matches('=');
    !digits.is_empty()
        && text.len() <= limit::CIPHERTEXT_CHARS
        && text.len().is_multiple_of(4)
        && text.len() - digits.len() <= 2
        && digits
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'))
}
