//! The whole way of a dataset on a real cluster, as the people on it go it: Leasehold installed by its chart, an owner
//! who registers, a researcher whom JupyterHub spawned, workflows by jupyterflow, the end of the lease.
//!
//! The demo narrates it, the end-to-end tests take it apart. [`Site`] is the installed cluster, [`Steward`] the owner's
//! data steward at a command line outside the cluster, [`Hub`] a real JupyterHub, [`Notebook`] the researcher's terminal.

mod hub;
mod narrator;
mod notebook;
mod process;
mod site;
mod steward;

pub use self::{
    hub::Hub,
    narrator::Narrator,
    notebook::{Notebook, Run},
    process::Component,
    site::{OWNERS_ROOT, SYSTEM_NAMESPACE, Site, USERS_NAMESPACE},
    steward::Steward,
};
