//! `leasehold-secret-broker audit …`: an auditor's work on what the broker decided. What it finds goes to standard output as JSON, why
//! it failed to standard error. It may run while the broker does.
//!
//! Exit codes: 0 done, and the records are as they were written; 1 they are not, or something failed; 2 wrong usage.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand, ValueEnum};

use crate::audit::{self, Book, Filter, Head, Record, SealKey, ocsf};
use crate::config::Pkcs11Args;
use crate::keys::KeyRing;

const PAGE: u32 = 1_000;

/// Work on the audit.
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// The broker's directory, with `audit.db` in it.
    #[arg(
        id = "audit_data_dir", // the service has a flag of that name
        long = "data-dir",
        env = "LEASEHOLD_DATA_DIR",
        default_value = "/var/lib/leasehold",
        global = true,
        value_name = "DIRECTORY"
    )]
    data_dir: PathBuf,
    /// What to do.
    #[command(subcommand)]
    work: AuditWork,
}

#[derive(Debug, Subcommand)]
enum AuditWork {
    /// Check that no record was changed, taken out or put in; names the first that was
    Verify {
        /// The key ring [default: `<data-dir>/keys`]; whoever has the file and not the ring cannot make another past
        #[arg(
            id = "audit_kek_file",
            long = "kek-file",
            env = "LEASEHOLD_KEK_FILE",
            value_name = "FILE"
        )]
        kek_file: Option<PathBuf>,
        #[command(flatten)]
        pkcs11: Pkcs11Args,
        /// Check the chain without the key ring: a past that was made anew as a whole is not noticed, unless by --head
        #[arg(long, conflicts_with = "audit_kek_file")]
        without_ring: bool,
        /// A head that was noted elsewhere (`audit head`, or the broker's log): shows whether records were cut off
        #[arg(long = "head", value_name = "NUMBER:HASH")]
        heads: Vec<Head>,
    },
    /// Print the last record's number and hash, to note elsewhere
    Head,
    /// Write records to standard output, one a line
    Export {
        /// As they are kept and hashed, or as events of the Open Cybersecurity Schema Framework
        #[arg(long, value_enum, default_value_t = Format::Jsonl)]
        format: Format,
        /// Records after this number
        #[arg(long, default_value_t = 0, value_name = "NUMBER")]
        after: u64,
        /// Records of this time and later, RFC 3339
        #[arg(long, value_name = "TIME")]
        since: Option<DateTime<Utc>>,
        /// Records before this time, RFC 3339
        #[arg(long, value_name = "TIME")]
        until: Option<DateTime<Utc>>,
        /// Records of this pseudonym or ServiceAccount
        #[arg(long)]
        who: Option<String>,
        /// Records about this dataset, lease or operation
        #[arg(long, value_name = "ID")]
        object: Option<String>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Jsonl,
    Ocsf,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Does the work.
pub async fn run(args: AuditArgs) -> ExitCode {
    match work(args.work, &args.data_dir).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell where standard error is closed too.
            drop(writeln!(io::stderr(), "error: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn work(work: AuditWork, data_dir: &Path) -> Result<(), Failure> {
    let path = data_dir.join("audit.db");
    if !path.exists() {
        return Err(format!(
            "there is no audit in {}; check --data-dir, or run this where the broker's volume is",
            data_dir.display()
        )
        .into());
    }
    let book = Book::open(&path).await?;
    let done = match work {
        AuditWork::Verify {
            kek_file,
            pkcs11,
            without_ring,
            heads,
        } => {
            let kek_file = kek_file.unwrap_or_else(|| data_dir.join("keys"));
            let ring = (!without_ring).then_some((kek_file.as_path(), &pkcs11));
            verify(&book, ring, &heads).await
        }
        AuditWork::Head => {
            let head = book.head().await?;
            writeln!(io::stdout(), "{head}").map_err(Failure::from)
        }
        AuditWork::Export {
            format,
            after,
            since,
            until,
            who,
            object,
        } => {
            let filter = Filter {
                after,
                since_ms: since.map(|time| time.timestamp_millis()),
                until_ms: until.map(|time| time.timestamp_millis()),
                who,
                object,
            };
            export(&book, filter, format).await
        }
    };
    book.close().await;
    done
}

async fn verify(book: &Book, ring: Option<(&Path, &Pkcs11Args)>, heads: &[Head]) -> Result<(), Failure> {
    let seal: Option<SealKey> = match ring {
        Some((path, pkcs11)) => {
            let ring = KeyRing::load(path, pkcs11.settings()?.as_ref()).await?;
            Some(ring.audit_seal())
        }
        None => None,
    };
    let verified = audit::verify(book, seal.as_ref(), heads).await?;
    writeln!(io::stdout(), "{}", serde_json::to_string(&verified)?)?;
    Ok(())
}

async fn export(book: &Book, mut filter: Filter, format: Format) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    loop {
        let page = book.page(&filter, PAGE).await?;
        for row in page.rows {
            match format {
                Format::Jsonl => writeln!(out, "{}", row.record)?,
                Format::Ocsf => {
                    let record: Record = serde_json::from_str(&row.record)?;
                    writeln!(out, "{}", ocsf::event(&record))?;
                }
            }
        }
        match page.next {
            Some(next) => filter.after = next,
            None => return Ok(out.flush()?),
        }
    }
}
