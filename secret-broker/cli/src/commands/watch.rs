//! `--watch`: what is there, and then what changes, until the command is ended.

use leasehold_broker_client::people::{LeasesWanted, PeopleError};
use leasehold_broker_wire::rest::{CatalogueChange, Lease};

use super::Session;
use crate::args::Format;
use crate::failure::Failure;
use crate::output::{self, DATASET, LEASE};

impl Session<'_> {
    pub(super) async fn watch_leases(&mut self, wanted: &LeasesWanted) -> Result<(), Failure> {
        // Listening comes first: what happens while the list is read is told afterwards.
        let mut events = self.broker.listen("leases");
        loop {
            let heard = events.next(self.patience).await?;
            match heard.kind.as_str() {
                "opened" if self.has_begun => {}
                "opened" | "lost" => {
                    self.has_begun = true;
                    self.leases(wanted).await?;
                    self.out.flush()?;
                }
                "lease" => {
                    if let Some(lease) = heard.about::<Lease>().filter(|lease| fits(lease, wanted)) {
                        output::update(self.out, self.format, &lease, &LEASE)?;
                        self.out.flush()?;
                    }
                }
                _ => {}
            }
        }
    }

    pub(super) async fn watch_datasets(&mut self) -> Result<(), Failure> {
        let mut events = self.broker.listen("catalogue");
        loop {
            let heard = events.next(self.patience).await?;
            match heard.kind.as_str() {
                "opened" if self.has_begun => {}
                "opened" | "lost" => {
                    self.has_begun = true;
                    self.list_datasets(None).await?;
                    self.out.flush()?;
                }
                "catalogue" => {
                    if let Some(change) = heard.about::<CatalogueChange>() {
                        self.show_changed(&change.dataset).await?;
                        self.out.flush()?;
                    }
                }
                _ => {}
            }
        }
    }

    async fn show_changed(&mut self, id: &str) -> Result<(), Failure> {
        match self.broker.dataset(id).await {
            Ok(dataset) => output::update(self.out, self.format, &dataset, &DATASET)?,
            Err(PeopleError::Refused(problem)) if problem.status == 404 => {
                if matches!(self.format, Format::Table | Format::Wide) {
                    let id: String = id.chars().filter(char::is_ascii_alphanumeric).collect();
                    writeln!(self.out, "dataset {id} is no longer in the catalogue")?;
                }
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

fn fits(lease: &Lease, wanted: &LeasesWanted) -> bool {
    let state = wanted.state.as_ref().is_none_or(|state| *state == lease.state);
    let dataset = wanted.dataset.as_ref();
    state && dataset.is_none_or(|dataset| *dataset == lease.dataset || *dataset == lease.dataset_id)
}
