//! One function per command: ask, wait if wanted, print.

mod datasets;
mod leases;
mod watch;

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::CommandFactory as _;
use leasehold_broker_client::people::{Endpoint, LeasesWanted, PeopleClient, PeopleError};
use leasehold_broker_wire::names::DATASETS_DIRECTORY;
use leasehold_broker_wire::rest::{Operation, RequestLease, Skeleton};

use crate::args::{Args, Command, DatasetsCommand, Format, SkeletonCommand, Waiting};
use crate::failure::Failure;
use crate::output::{self, ME, OPERATION};
use crate::progress::Progress;
use crate::skeleton;
use watch::Watched;

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
    /// Whether what is watched was listed before.
    has_begun: bool,
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
        has_begun: false,
        out,
        err,
    };
    match args.command {
        Command::Whoami => session.whoami().await,
        Command::Datasets { command } => match command {
            DatasetsCommand::List { watch: true, .. } => session.watch(Watched::Datasets).await,
            DatasetsCommand::List { search, .. } => session.list_datasets(search.as_deref()).await,
            DatasetsCommand::Show { dataset } => session.show_dataset(&dataset).await,
            DatasetsCommand::Line { dataset } => session.line(&dataset).await,
            DatasetsCommand::Register { file, waiting } => session.register(&file, waiting).await,
            DatasetsCommand::Amend {
                dataset,
                file,
                waiting,
            } => session.amend(&dataset, &file, waiting).await,
            DatasetsCommand::Rotate { dataset, waiting } => session.rotate(&dataset, waiting).await,
            DatasetsCommand::Receipts { dataset } => session.receipts(dataset.as_deref()).await,
            DatasetsCommand::Remove { dataset, waiting } => session.remove(&dataset, waiting).await,
        },
        Command::Lease {
            dataset,
            ttl,
            mode,
            queue,
            waiting,
        } => {
            let request = RequestLease {
                dataset,
                ttl_seconds: ttl.map(|ttl| ttl.as_secs()),
                mode: mode.map(Into::into),
                wait: queue,
            };
            session.lease(&request, waiting).await
        }
        Command::Renew { lease, ttl, waiting } => session.renew(&lease, ttl, waiting).await,
        Command::Release { lease, waiting } => session.release(&lease, waiting).await,
        Command::Approve { lease, waiting } => session.approve(&lease, waiting).await,
        Command::Deny {
            lease,
            reason,
            waiting,
        } => session.deny(&lease, reason, waiting).await,
        Command::Revoke {
            lease,
            reason,
            waiting,
        } => session.revoke(&lease, reason, waiting).await,
        Command::DeclareEnded {
            lease,
            reason,
            waiting,
        } => session.declare_ended(&lease, reason, waiting).await,
        Command::Leases {
            state,
            dataset,
            watch,
        } => {
            let state = state.map(|state| state.word().to_owned());
            let wanted = LeasesWanted { state, dataset };
            if watch {
                session.watch(Watched::Leases(&wanted)).await
            } else {
                session.leases(&wanted).await
            }
        }
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

    async fn operation(&mut self, id: &str) -> Result<(), Failure> {
        let operation = self.broker.operation(id).await?;
        Ok(output::details(self.out, self.format, &operation, &OPERATION)?)
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
