//! Admission for Leasehold: stamps Workflows with whose they are, injects leased claims into their pods, refuses the rest;
//! and the provisioner that turns leases into claims.
//!
//! [`review`] decides from a request and a view, without I/O; [`admission`] puts TLS and deadlines around it; [`watches`] keeps
//! the views fed. [`provisioner`] is a process of its own.

pub mod admission;
pub mod ca_bundle;
pub mod certificates;
pub mod leases;
pub mod probe;
pub mod provisioner;
pub mod review;
pub mod stamps;
pub mod watches;
