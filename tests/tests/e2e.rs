//! The promises of the README on a real cluster: everything installed by the chart, a real JupyterHub, jupyterflow from
//! PyPI, Argo Workflows where `LEASEHOLD_ARGO_BIN` is set and a stand-in for it elsewhere.
//!
//! All tests of this file share one cluster, and each has people and datasets of its own. Run with `--test-threads=1`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers outside of #[test] functions end a test at the first surprise, too"
)]

#[path = "e2e/bad_data.rs"]
mod bad_data;
#[path = "e2e/canary.rs"]
mod canary;
#[path = "e2e/crashes.rs"]
mod crashes;
#[path = "e2e/flow.rs"]
mod flow;
#[path = "e2e/refusals.rs"]
mod refusals;
#[path = "e2e/sharing.rs"]
mod sharing;
#[path = "e2e/stage.rs"]
mod stage;
