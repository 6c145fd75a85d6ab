//! A **stand-in for Argo Workflows**, for tests on machines that have no Argo binaries. It is not Argo.
//!
//! It shares no code with Argo. What it does it does as Argo 4.1 was recorded doing it
//! (`tests/fixtures/admission`): its pods equal the recorded ones field by field, which
//! `tests/pods_equal_the_recorded_ones.rs` checks. It runs what jupyterflow emits and a little more (`dag`,
//! `steps`, `container`, `script`, `containerSet`, `retryStrategy`, `onExit`, CronWorkflows), says so where a
//! Workflow asks for anything else, and deletes nothing.
//!
//! - [`workflow`] reads a Workflow, [`pod`] builds the pod of a node, [`engine`] decides what happens next. All
//!   three are pure.
//! - [`controller`] is the thin shell that watches, creates pods and writes status; [`cron`] starts Workflows.
//! - [`exec`] is what runs inside the pods: `init`, `emissary`, `wait`, `kill`.

pub mod controller;
pub mod cron;
pub mod engine;
pub mod exec;
pub mod go_json;
pub mod names;
pub mod pod;
pub mod status;
pub mod workflow;
