//! `argo-standin-exec`: a stand-in for Argo's argoexec, for tests. It is not Argo.
//!
//! Link it statically, for it runs in images that may hold no C library:
//! `cargo rustc -p leasehold-argo-standin --bin argo-standin-exec -- -C target-feature=+crt-static`

use std::process::ExitCode;

use clap::Parser as _;
use leasehold_argo_standin::exec::{self, EXECUTOR_FAILED, Options};

fn main() -> ExitCode {
    match exec::run(Options::parse()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            // The emissary shares its standard error with the user's command, so no logger is set up.
            eprintln!("argo-standin-exec: {error}");
            // Kubelet copies it into the pod's status, and the controller from there into the node's message.
            let _ = std::fs::write("/dev/termination-log", error.to_string());
            ExitCode::from(EXECUTOR_FAILED)
        }
    }
}
