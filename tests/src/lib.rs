//! A real Kubernetes cluster for tests, as a typed fixture.
//!
//! [`Cluster::start`] gives a one-node cluster of its own, in namespaces of its own, and takes it
//! down when it is dropped. A test that returns early or panics gets events, pods and logs dumped
//! first. [`with_cluster`] is the usual way in:
//!
//! ```no_run
//! use leasehold_tests::{TestResult, with_cluster};
//!
//! #[test]
//! fn the_api_server_answers() -> TestResult {
//!     with_cluster("the_api_server_answers", async |cluster| {
//!         let version = cluster.client()?.apiserver_version().await?;
//!         assert_eq!(version.minor, "35");
//!         Ok(())
//!     })
//! }
//! ```
//!
//! With `LEASEHOLD_TEST_KUBECONFIG` the same tests use an existing cluster, except for what needs
//! the node itself. Starting a cluster needs root; one at a time is plenty for a small machine, so
//! run such tests with `--test-threads=1`.

mod argo;
pub mod cluster;
pub mod demo;
mod error;
pub mod journey;
mod wait;

pub use argo::Argo;
pub use cluster::{Cluster, Image, Output, with_cluster};
pub use error::Error;
pub use wait::wait_for;

/// What a test over a cluster returns: any error ends it, after a dump of the cluster.
pub type TestResult<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;
