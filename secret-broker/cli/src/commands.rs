//! One function per command: ask, wait if wanted, print.

use std::io::{Read as _, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::CommandFactory as _;
use leasehold_broker_client::people::{Endpoint, PeopleClient, PeopleError};
use leasehold_broker_wire::names::DATASETS_DIRECTORY;
use leasehold_broker_wire::rest::{Lease, Operation, RegisterDataset, RequestLease, Skeleton};

use crate::args::{Args, Command, DatasetsCommand, Format, SkeletonCommand, Waiting};
use crate::failure::Failure;
use crate::output::{self, DATASET, LEASE, ME, OPERATION};
use crate::progress::Progress;
use crate::skeleton;

/// A description that is longer than the broker takes is refused by the broker; this only bounds memory.
const MAX_REGISTRATION_BYTES: u64 = 1 << 20;
/// A write that nobody answered is sent again after these pauses, under the same key.
const RETRY_AFTER: [Duration; 3] = [
    Duration::from_millis(300),
    Duration::from_secs(1),
    Duration::from_secs(3),
];

/// What every command needs.
struct Session<'a> {
    broker: PeopleClient,
    format: Format,
    patience: Duration,
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
}

pub(crate) async fn run(args: Args, out: &mut dyn Write, err: &mut dyn Write) -> Result<(), Failure> {
    if let Command::Completion { shell } = args.command {
        clap_complete::generate(shell, &mut Args::command(), "leasehold", out);
        return Ok(());
    }
    let broker = connect(args.url, args.token_file, args.ca_file)?;
    let mut session = Session {
        broker,
        format: args.output,
        patience: args.timeout,
        out,
        err,
    };
    match args.command {
        Command::Whoami => session.whoami().await,
        Command::Datasets { command } => match command {
            DatasetsCommand::List => session.list_datasets().await,
            DatasetsCommand::Show { dataset } => session.show_dataset(&dataset).await,
            DatasetsCommand::Register { file, waiting } => session.register(&file, waiting).await,
            DatasetsCommand::Remove { dataset, waiting } => session.remove(&dataset, waiting).await,
        },
        Command::Lease {
            dataset,
            ttl,
            waiting,
        } => session.lease(dataset, ttl, waiting).await,
        Command::Release { lease, waiting } => session.release(&lease, waiting).await,
        Command::Leases => session.leases().await,
        Command::Operation { id } => session.operation(&id).await,
        Command::Skeleton {
            command: SkeletonCommand::Sync { home, .. },
        } => session.sync_skeleton(home).await,
        Command::Completion { .. } => Ok(()),
    }
}

fn connect(
    url: Option<String>,
    token_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
) -> Result<PeopleClient, Failure> {
    let missing = |what: &str, flag: &str, variable: &str| {
        Failure::Usage(format!(
            "no {what} is given: set {flag} or {variable} (a Leasehold notebook has it set)"
        ))
    };
    let url = url.ok_or_else(|| missing("broker", "--url", "LEASEHOLD_URL"))?;
    let token_file =
        token_file.ok_or_else(|| missing("token file", "--token-file", "LEASEHOLD_TOKEN_FILE"))?;
    Ok(PeopleClient::new(Endpoint {
        url,
        ca_file,
        token_file,
    })?)
}

impl Session<'_> {
    async fn whoami(&mut self) -> Result<(), Failure> {
        let me = self.broker.me().await?;
        Ok(output::details(self.out, self.format, &me, &ME)?)
    }

    async fn list_datasets(&mut self) -> Result<(), Failure> {
        let datasets = self.broker.datasets().await?;
        Ok(output::list(
            self.out,
            self.format,
            &datasets,
            &DATASET,
            "No datasets in the catalogue.",
        )?)
    }

    async fn show_dataset(&mut self, dataset: &str) -> Result<(), Failure> {
        let dataset = self.broker.dataset(dataset).await?;
        Ok(output::details(self.out, self.format, &dataset, &DATASET)?)
    }

    async fn leases(&mut self) -> Result<(), Failure> {
        let leases = self.broker.leases().await?;
        Ok(output::list(
            self.out,
            self.format,
            &leases,
            &LEASE,
            "You hold no leases.",
        )?)
    }

    async fn operation(&mut self, id: &str) -> Result<(), Failure> {
        let operation = self.broker.operation(id).await?;
        Ok(output::details(self.out, self.format, &operation, &OPERATION)?)
    }

    async fn register(&mut self, file: &Path, waiting: Waiting) -> Result<(), Failure> {
        let dataset = read_registration(file)?;
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

    async fn remove(&mut self, dataset: &str, waiting: Waiting) -> Result<(), Failure> {
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

    async fn lease(
        &mut self,
        dataset: String,
        ttl: Option<Duration>,
        waiting: Waiting,
    ) -> Result<(), Failure> {
        let request = RequestLease {
            dataset,
            ttl_seconds: ttl.map(|ttl| ttl.as_secs()),
        };
        let key = new_key();
        let operation = sent(|| self.broker.lease(&request, &key)).await?;
        let what = format!("a lease of {}", request.dataset);
        let Some(operation) = self.finished(operation, waiting, &what).await? else {
            return Ok(());
        };
        let id = result(&operation, "lease").ok_or_else(|| {
            Failure::Usage(format!(
                "operation {} granted a lease without an id; see `leasehold leases`",
                operation.id
            ))
        })?;
        let lease = {
            let mut progress = Progress::new(self.err);
            progress.say(&format!("waiting for {} to be mountable", request.dataset));
            self.broker.wait_for_mount(id, self.patience).await?
        };
        output::row(self.out, self.format, &lease, &LEASE)?;
        mountable(&lease)?;
        let skeleton = self.broker.skeleton(id).await?;
        self.lay_in_own_home(&skeleton)
    }

    async fn release(&mut self, lease: &str, waiting: Waiting) -> Result<(), Failure> {
        let held = self.broker.leases().await?;
        let id = which_lease(lease, &held)?;
        let key = new_key();
        let operation = sent(|| self.broker.release(&id, &key)).await?;
        let Some(_) = self
            .finished(operation, waiting, &format!("lease {id} to be released"))
            .await?
        else {
            return Ok(());
        };
        let lease = self.broker.lease_by_id(&id).await?;
        match self.format {
            Format::Table | Format::Wide => writeln!(self.out, "lease/{id} of {} released", lease.dataset)?,
            _ => output::row(self.out, self.format, &lease, &LEASE)?,
        }
        Ok(())
    }

    async fn sync_skeleton(&mut self, home: PathBuf) -> Result<(), Failure> {
        let skeletons = tokio::time::timeout(self.patience, self.broker.skeletons())
            .await
            .map_err(|_| PeopleError::TimedOut {
                what: "the answer of the secret broker".to_owned(),
                look: "whoami".to_owned(),
                waited: self.patience,
            })??;
        let report = skeleton::sync(&home, &skeletons)?;
        if matches!(self.format, Format::Table | Format::Wide) {
            writeln!(
                self.out,
                "{} of {} datasets laid in {}, {} removed",
                report.laid,
                skeletons.len(),
                home.join(DATASETS_DIRECTORY).display(),
                report.removed
            )?;
        }
        report.into_result(&home)
    }

    /// Where a skeleton has been laid in this home before, this one is laid too; elsewhere nothing is made unasked.
    fn lay_in_own_home(&mut self, skeleton: &Skeleton) -> Result<(), Failure> {
        let home = std::env::var_os("HOME")
            .map(PathBuf::from)
            .filter(|home| home.is_absolute());
        match home {
            Some(home) if home.join(DATASETS_DIRECTORY).is_dir() => {
                let report = skeleton::add(&home, skeleton)?;
                writeln!(
                    self.err,
                    "its directories are in {}; jobs of your workflows find the data there",
                    home.join(DATASETS_DIRECTORY).join(&skeleton.dataset).display()
                )?;
                report.into_result(&home)
            }
            _ => Ok(writeln!(
                self.err,
                "to see its directories, run `leasehold skeleton sync --home ~` in your notebook"
            )?),
        }
    }

    /// The finished operation, or none (and the operation printed) where waiting is not wanted.
    async fn finished(
        &mut self,
        operation: Operation,
        waiting: Waiting,
        what: &str,
    ) -> Result<Option<Operation>, Failure> {
        if !waiting.wanted() {
            output::row(self.out, self.format, &operation, &OPERATION)?;
            return Ok(None);
        }
        let mut progress = Progress::new(self.err);
        progress.say(&format!("waiting for {what}"));
        Ok(Some(
            self.broker
                .wait_for_operation(&operation.id, self.patience)
                .await?,
        ))
    }
}

/// Sends a write; where nobody answers, again, since its key makes it happen once.
async fn sent<F: Future<Output = Result<Operation, PeopleError>>>(
    send: impl Fn() -> F,
) -> Result<Operation, PeopleError> {
    for pause in RETRY_AFTER {
        match send().await {
            Err(PeopleError::Unreachable { .. }) => tokio::time::sleep(pause).await,
            answer => return answer,
        }
    }
    send().await
}

fn new_key() -> String {
    uuid::Uuid::new_v4().to_string()
}

fn result<'a>(operation: &'a Operation, kind: &str) -> Option<&'a str> {
    operation.result.as_ref()?.get(kind)?.as_str()
}

fn mountable(lease: &Lease) -> Result<(), Failure> {
    let (dataset, id) = (lease.dataset.clone(), lease.id.clone());
    if lease.state != "active" {
        return Err(Failure::Ended { dataset, lease: id });
    }
    match lease.mount.as_str() {
        "failed" => Err(Failure::Unmountable {
            dataset,
            lease: id,
            finding: lease.finding.as_ref().map_or_else(
                || "the node gave no reason".to_owned(),
                |finding| format!("{} ({})", finding.message, finding.code),
            ),
        }),
        _ => Ok(()),
    }
}

/// `reference` is a lease's id or the name or id of a dataset with one active lease.
fn which_lease(reference: &str, leases: &[Lease]) -> Result<String, Failure> {
    if leases.iter().any(|lease| lease.id == reference) {
        return Ok(reference.to_owned());
    }
    let mut active = leases.iter().filter(|lease| {
        lease.state == "active" && (lease.dataset == reference || lease.dataset_id == reference)
    });
    match (active.next(), active.next()) {
        (Some(lease), None) => Ok(lease.id.clone()),
        (Some(_), Some(_)) => Err(Failure::Usage(format!(
            "{reference} has several active leases; name one by its id (`leasehold leases`)"
        ))),
        // Not in the list, so the broker has the word: it may be the id of an old lease.
        (None, _) if is_lease_id(reference) => Ok(reference.to_owned()),
        (None, _) => Err(Failure::Usage(format!(
            "you hold no active lease of {reference} (`leasehold leases`)"
        ))),
    }
}

fn is_lease_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn read_registration(file: &Path) -> Result<RegisterDataset, Failure> {
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
            "{}{place} does not describe a dataset: {}",
            file.display(),
            mistake(&error.to_string())
        ))
    };
    // The first reading refuses a key that stands twice, of which the second would keep the last.
    serde_yaml::from_str::<serde_yaml::Value>(&text).map_err(wrong)?;
    serde_yaml::from_str(&text).map_err(wrong)
}

/// What a parser said, unless it may quote a value: the file holds a credential.
fn mistake(said: &str) -> &str {
    if said.starts_with("missing field") || said.starts_with("unknown field") {
        said
    } else {
        "it takes name, title, volume, and optionally description and max_ttl_seconds"
    }
}
