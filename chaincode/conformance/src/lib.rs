//! What Leasehold's contract promises, as cases that every ledger runs: the contract in memory, the embedded ledger, simulated and
//! real peers of Fabric.
//!
//! A ledger implements [`Bench`] and calls [`run`]:
//!
//! ```no_run
//! # async fn example(bench: impl leasehold_conformance::Bench) {
//! let report = leasehold_conformance::run(&bench).await;
//! println!("{report}");
//! assert!(report.failed.is_empty(), "{report}");
//! # }
//! ```
//!
//! Cases are tables: an id, a promise, steps, and what each step must lead to. They share one ledger and do not meet, since each has
//! datasets and people of its own; so they may run in any order and side by side. What a case needs is read off its steps, what a
//! ledger can do the bench says; a case that needs more is reported as skipped, by its id and with the reason, and never as passed.
//!
//! It leaves to each ledger's own tests what a case cannot see: durability, chains and signatures, races, malformed messages.

mod ask;
mod bench;
mod case;
mod cases;
mod command;
mod placeholder;
mod prelude;
mod report;
mod run;

pub use bench::{Abilities, Accepted, Bench, BenchError, Submission};
pub use case::{Case, Expected, Step, Submit, Who};
pub use cases::cases;
pub use report::Report;
pub use run::{run, run_some};
