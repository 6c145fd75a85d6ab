//! `--watch`: what is there, and then what changes, until the command is ended.

use leasehold_broker_client::people::{Heard, LeasesWanted, PeopleError};
use leasehold_broker_wire::rest::{CatalogueChange, Lease};

use super::Session;
use crate::args::Format;
use crate::failure::Failure;
use crate::output::{self, DATASET, LEASE};

/// What is watched.
#[derive(Clone, Copy)]
pub(super) enum Watched<'w> {
    Leases(&'w LeasesWanted),
    Datasets,
}

impl Session<'_> {
    pub(super) async fn watch(&mut self, what: Watched<'_>) -> Result<(), Failure> {
        // Listening comes first: what happens while the list is read is told afterwards.
        let mut events = self.broker.listen(match what {
            Watched::Leases(_) => "leases",
            Watched::Datasets => "catalogue",
        });
        loop {
            let heard = events.next(self.patience).await?;
            match heard.kind.as_str() {
                "opened" if self.has_begun => continue,
                "opened" | "lost" => {
                    self.has_begun = true;
                    match what {
                        Watched::Leases(wanted) => self.leases(wanted).await?,
                        Watched::Datasets => self.list_datasets(None).await?,
                    }
                }
                _ => self.tell(what, &heard).await?,
            }
            self.out.flush()?;
        }
    }

    async fn tell(&mut self, what: Watched<'_>, heard: &Heard) -> Result<(), Failure> {
        match (what, heard.kind.as_str()) {
            (Watched::Leases(wanted), "lease") => {
                if let Some(lease) = heard.about::<Lease>().filter(|lease| fits(lease, wanted)) {
                    output::update(self.out, self.format, &lease, &LEASE)?;
                }
            }
            (Watched::Datasets, "catalogue") => {
                if let Some(change) = heard.about::<CatalogueChange>() {
                    self.show_changed(&change.dataset).await?;
                }
            }
            _ => {}
        }
        Ok(())
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
