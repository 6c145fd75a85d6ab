//! What the catalogue shows, and what data stewards change in it.

use std::io::Read as _;
use std::path::Path;

use leasehold_broker_wire::rest::RegisterDataset;
use serde::de::DeserializeOwned;

use super::{Session, new_key, result, sent};
use crate::args::{Format, Waiting};
use crate::failure::Failure;
use crate::output::{self, DATASET, OPERATION, PLACE, RECEIPT};

/// A description that is longer than the broker takes is refused by the broker; this only bounds memory.
const MAX_REGISTRATION_BYTES: u64 = 1 << 20;

impl Session<'_> {
    pub(super) async fn list_datasets(&mut self, search: Option<&str>) -> Result<(), Failure> {
        let datasets = self.broker.datasets(search).await?;
        Ok(output::list(
            self.out,
            self.format,
            &datasets,
            &DATASET,
            if search.is_some() {
                "No dataset has these words."
            } else {
                "No datasets in the catalogue."
            },
        )?)
    }

    pub(super) async fn show_dataset(&mut self, dataset: &str) -> Result<(), Failure> {
        let dataset = self.broker.dataset(dataset).await?;
        Ok(output::details(self.out, self.format, &dataset, &DATASET)?)
    }

    pub(super) async fn line(&mut self, dataset: &str) -> Result<(), Failure> {
        let places = self.broker.line(dataset).await?;
        Ok(output::list(
            self.out,
            self.format,
            &places,
            &PLACE,
            "Nobody waits for it.",
        )?)
    }

    pub(super) async fn register(&mut self, file: &Path, waiting: Waiting) -> Result<(), Failure> {
        let dataset: RegisterDataset = read(
            file,
            "a dataset",
            "it takes name, title, volume, and optionally description, max_ttl_seconds and policy",
        )?;
        let key = new_key();
        let operation = sent(|| self.broker.register(&dataset, &key)).await?;
        let what = format!("dataset {} to be on the ledger", dataset.name);
        let Some(operation) = self.finished(operation, waiting, &what).await? else {
            return Ok(());
        };
        let id = result(&operation, "dataset").unwrap_or(&dataset.name);
        let registered = self.broker.dataset(id).await?;
        Ok(output::row(self.out, self.format, &registered, &DATASET)?)
    }

    pub(super) async fn amend(
        &mut self,
        dataset: &str,
        file: &Path,
        waiting: Waiting,
    ) -> Result<(), Failure> {
        let change = read(
            file,
            "what changes of a dataset",
            "it takes title, description, max_ttl_seconds and policy, each as wanted",
        )?;
        let key = new_key();
        let operation = sent(|| self.broker.amend(dataset, &change, &key)).await?;
        let what = format!("the change of {dataset} to be on the ledger");
        if self.finished(operation, waiting, &what).await?.is_none() {
            return Ok(());
        }
        let amended = self.broker.dataset(dataset).await?;
        Ok(output::row(self.out, self.format, &amended, &DATASET)?)
    }

    pub(super) async fn rotate(&mut self, dataset: &str, waiting: Waiting) -> Result<(), Failure> {
        let key = new_key();
        let operation = sent(|| self.broker.rotate(dataset, &key)).await?;
        let what = format!("the new ciphertext of {dataset} to be on the ledger");
        let Some(operation) = self.finished(operation, waiting, &what).await? else {
            return Ok(());
        };
        match self.format {
            Format::Table | Format::Wide => writeln!(self.out, "dataset/{dataset} rotated")?,
            _ => output::row(self.out, self.format, &operation, &OPERATION)?,
        }
        Ok(())
    }

    pub(super) async fn receipts(&mut self, dataset: Option<&str>) -> Result<(), Failure> {
        let receipts = self.broker.key_receipts(dataset).await?;
        let none = "No data key was destroyed.";
        Ok(output::list(self.out, self.format, &receipts, &RECEIPT, none)?)
    }

    pub(super) async fn remove(&mut self, dataset: &str, waiting: Waiting) -> Result<(), Failure> {
        let key = new_key();
        let operation = sent(|| self.broker.remove(dataset, &key)).await?;
        let Some(operation) = self
            .finished(operation, waiting, &format!("dataset {dataset} to go"))
            .await?
        else {
            return Ok(());
        };
        match self.format {
            Format::Table | Format::Wide => writeln!(self.out, "dataset/{dataset} removed")?,
            _ => output::row(self.out, self.format, &operation, &OPERATION)?,
        }
        Ok(())
    }
}

/// A document that people wrote: `what` it describes, and what it `takes`, for whom it does not.
fn read<T: DeserializeOwned>(file: &Path, what: &str, takes: &str) -> Result<T, Failure> {
    let unreadable =
        |error: std::io::Error| Failure::Usage(format!("cannot read {}: {error}", file.display()));
    let reader: Box<dyn std::io::Read> = if file == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(file).map_err(unreadable)?)
    };
    let mut text = String::new();
    let read = reader
        .take(MAX_REGISTRATION_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    if read as u64 > MAX_REGISTRATION_BYTES {
        return Err(Failure::Usage(format!("{} is larger than 1 MiB", file.display())));
    }
    let wrong = |error: serde_yaml::Error| {
        let place = error.location().map_or_else(String::new, |at| {
            format!(" line {} column {}", at.line(), at.column())
        });
        Failure::Usage(format!(
            "{}{place} does not describe {what}: {}",
            file.display(),
            mistake(&error.to_string(), takes)
        ))
    };
    // The first reading refuses a key that stands twice, of which the second would keep the last.
    serde_yaml::from_str::<serde_yaml::Value>(&text).map_err(wrong)?;
    serde_yaml::from_str(&text).map_err(wrong)
}

/// What a parser said, unless it may quote a value: the file holds a credential.
fn mistake<'a>(said: &'a str, takes: &'a str) -> &'a str {
    let is_path = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_lowercase() || b"_.".contains(&byte))
    };
    let reason = said
        .split_once(": ")
        .filter(|(path, _)| is_path(path))
        .map_or(said, |(_, reason)| reason);
    if reason.starts_with("missing field") || reason.starts_with("unknown field") {
        said
    } else {
        takes
    }
}
