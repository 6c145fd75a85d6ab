//! What can be typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use leasehold_broker_wire::rest;

/// Lease datasets of other organisations, and register your own.
#[derive(Debug, Parser)]
#[command(name = "leasehold", version, about, after_help = EXIT_CODES)]
pub struct Args {
    /// The secret broker of your organisation, https://…
    #[arg(long, env = "LEASEHOLD_URL", global = true, value_name = "URL")]
    pub url: Option<String>,
    /// File that holds your token
    #[arg(long, env = "LEASEHOLD_TOKEN_FILE", global = true, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// PEM file with the broker's CA certificate [default: this machine's trust store]
    #[arg(long, env = "LEASEHOLD_CA_FILE", global = true, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// How to print
    #[arg(
        short,
        long,
        value_enum,
        default_value_t,
        global = true,
        value_name = "FORMAT"
    )]
    pub output: Format,
    /// How long to wait for what is under way, such as 90s, 15m, 2h
    #[arg(long, default_value = "60s", value_parser = duration, global = true, value_name = "TIME")]
    pub timeout: Duration,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str =
    "Exit codes: 0 done, 1 refused, 2 wrong usage, 3 broker unreachable, 4 not finished in time";

impl Args {
    /// Whether a failure is only worth a warning.
    pub(crate) fn is_best_effort(&self) -> bool {
        matches!(
            self.command,
            Command::Skeleton {
                command: SkeletonCommand::Sync {
                    best_effort: true,
                    ..
                }
            }
        )
    }
}

/// How answers are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned columns
    #[default]
    Table,
    /// More columns
    Wide,
    /// As the broker says it
    Json,
    /// The same as YAML
    Yaml,
    /// kind/name, one per line
    Name,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show who the broker takes you for
    Whoami,
    /// Look at the catalogue, or change your organisation's part of it
    #[command(alias = "dataset")]
    Datasets {
        #[command(subcommand)]
        command: DatasetsCommand,
    },
    /// Lease a dataset; waits until it can be mounted
    Lease {
        /// Name or id of the dataset
        #[arg(value_parser = reference)]
        dataset: String,
        /// For how long, such as 90s, 15m, 2h, 1d [default: the dataset's longest lease]
        #[arg(long, value_parser = duration, value_name = "TIME")]
        ttl: Option<Duration>,
        /// Alone, or beside others [default: alone where the dataset's terms have it]
        #[arg(long, value_enum, value_name = "MODE")]
        mode: Option<Mode>,
        /// Stand in the line where it cannot be yours at once
        #[arg(long)]
        queue: bool,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Keep a lease for longer, while nobody waits for the dataset
    Renew {
        /// Name of the dataset, or id of the lease
        #[arg(value_parser = reference)]
        lease: String,
        /// For how long from now, such as 90s, 15m, 2h, 1d [default: the dataset's longest lease]
        #[arg(long, value_parser = duration, value_name = "TIME")]
        ttl: Option<Duration>,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Give a lease back, leave the line, or withdraw a request
    Release {
        /// Name of the dataset, or id of the lease
        #[arg(value_parser = reference)]
        lease: String,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// List your leases; for data stewards also those of your organisation's datasets
    Leases {
        /// Only those in this state
        #[arg(long, value_enum, value_name = "STATE")]
        state: Option<LeaseState>,
        /// Only those of this dataset, by name or id
        #[arg(long, value_parser = reference, value_name = "DATASET")]
        dataset: Option<String>,
        /// Go on with those that change, until interrupted
        #[arg(long)]
        watch: bool,
    },
    /// Grant a lease that was asked for (data stewards)
    Approve {
        /// Id of the lease
        #[arg(value_parser = reference)]
        lease: String,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Refuse a lease that was asked for (data stewards)
    Deny {
        /// Id of the lease
        #[arg(value_parser = reference)]
        lease: String,
        /// One line for who asked; the whole consortium can read it
        #[arg(long, value_name = "TEXT")]
        reason: String,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// End somebody's lease now, with the pods that use it (data stewards)
    Revoke {
        /// Id of the lease
        #[arg(value_parser = reference)]
        lease: String,
        /// One line for its holder; the whole consortium can read it
        #[arg(long, value_name = "TEXT")]
        reason: String,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Count a lease as ended whose cluster has not confirmed its end for an hour (data stewards)
    DeclareEnded {
        /// Id of the lease
        #[arg(value_parser = reference)]
        lease: String,
        /// One line for the record; the whole consortium can read it
        #[arg(long, value_name = "TEXT")]
        reason: String,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Show what became of a write
    Operation {
        /// Its id
        #[arg(value_parser = reference)]
        id: String,
    },
    /// Keep the empty directories of leased datasets in a home
    Skeleton {
        #[command(subcommand)]
        command: SkeletonCommand,
    },
    /// Print a script that completes commands in your shell
    Completion {
        /// Which shell
        shell: Shell,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum DatasetsCommand {
    /// List the catalogue
    #[command(alias = "ls")]
    List {
        /// Only those in which these words stand, or begin; the best first
        #[arg(long, value_name = "WORDS")]
        search: Option<String>,
        /// Go on with what changes, until interrupted
        #[arg(long, conflicts_with = "search")]
        watch: bool,
    },
    /// Show one dataset
    #[command(alias = "get")]
    Show {
        /// Name or id
        #[arg(value_parser = reference)]
        dataset: String,
    },
    /// Register a dataset of your organisation (data stewards)
    Register {
        /// YAML or JSON file with name, title, description, max_ttl_seconds, policy and volume; - for standard input
        #[arg(short, long, value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Change words or terms of a dataset of your organisation; granted leases keep theirs (data stewards)
    Amend {
        /// Name or id
        #[arg(value_parser = reference)]
        dataset: String,
        /// YAML or JSON file with what changes of title, description, max_ttl_seconds and policy; - for standard input
        #[arg(short, long, value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Encrypt the details of a dataset of your organisation under another data key (data stewards)
    Rotate {
        /// Name or id
        #[arg(value_parser = reference)]
        dataset: String,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Show what data keys were destroyed, and what allowed it (data stewards, auditors)
    Receipts {
        /// Id of one dataset, also of a removed one [default: all]
        #[arg(value_parser = reference)]
        dataset: Option<String>,
    },
    /// Show who waits for a dataset
    Line {
        /// Name or id
        #[arg(value_parser = reference)]
        dataset: String,
    },
    /// Remove a dataset of your organisation (data stewards)
    #[command(alias = "rm")]
    Remove {
        /// Name or id
        #[arg(value_parser = reference)]
        dataset: String,
        #[command(flatten)]
        waiting: Waiting,
    },
}

/// Whether a lease keeps others out.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Mode {
    /// Nobody else has it
    Exclusive,
    /// Others may have it too
    Shared,
}

impl From<Mode> for rest::Mode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Exclusive => Self::Exclusive,
            Mode::Shared => Self::Shared,
        }
    }
}

/// How far a lease is.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum LeaseState {
    /// Its owner has to approve it
    Requested,
    /// In the line
    Waiting,
    /// May be mounted
    Active,
    /// Being taken down
    Ending,
    /// Over
    Ended,
}

impl LeaseState {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Waiting => "waiting",
            Self::Active => "active",
            Self::Ending => "ending",
            Self::Ended => "ended",
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum SkeletonCommand {
    /// Make the directories of what you lease below HOME/datasets, remove those of what you no longer lease
    Sync {
        /// The home directory
        #[arg(long, value_name = "DIR")]
        home: PathBuf,
        /// Exit 0 with a warning when anything fails
        #[arg(long)]
        best_effort: bool,
    },
}

#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Waiting {
    /// Wait until it is done; the default
    #[arg(long, conflicts_with = "no_wait")]
    wait: bool,
    /// Return as soon as the broker has accepted it, and print the operation
    #[arg(long)]
    no_wait: bool,
}

impl Waiting {
    pub(crate) fn wanted(self) -> bool {
        !self.no_wait
    }
}

/// A name or id: what could mean another path of the API is refused before it is sent.
fn reference(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if !text.is_empty() && text.len() <= 64 && text.bytes().all(allowed) {
        Ok(text.to_owned())
    } else {
        Err("a name or id has up to 64 lower-case letters, digits and hyphens".to_owned())
    }
}

/// `90s`, `15m`, `2h`, `1d`, or seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|last: char| last.is_ascii_alphabetic());
    let seconds_each = match text.get(digits.len()..) {
        Some("" | "s") => 1,
        Some("m") => 60,
        Some("h") => 60 * 60,
        Some("d") => 24 * 60 * 60,
        _ => return Err("the unit is none of s, m, h, d".to_owned()),
    };
    let count: u64 = digits
        .parse()
        .map_err(|_| "not a whole number with a unit, such as 90s or 2h".to_owned())?;
    count
        .checked_mul(seconds_each)
        .map(Duration::from_secs)
        .ok_or_else(|| "too long".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_commands_are_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn times_have_a_unit_or_are_seconds() {
        for (text, seconds) in [
            ("0", 0),
            ("90", 90),
            ("90s", 90),
            ("15m", 900),
            ("2h", 7200),
            ("1d", 86_400),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in [
            "",
            "h",
            "1.5h",
            "-1s",
            "2 h",
            "2w",
            "1h30m",
            "999999999999999999d",
            "١h",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_reference_is_one_path_segment() {
        for text in ["uis-texts", "0a1b", &"f".repeat(64)] {
            assert!(reference(text).is_ok(), "{text}");
        }
        for text in ["", "..", ".", "a/b", "a%2fb", "a?b", "A", "ü", &"f".repeat(65)] {
            assert!(reference(text).is_err(), "{text}");
        }
    }
}
