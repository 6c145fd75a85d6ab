//! The broker beside **real** parties that say who people are: Keycloak and JupyterHub, as processes of the tests' own.
//!
//! `LEASEHOLD_KEYCLOAK` is the directory of a Keycloak distribution, `LEASEHOLD_HUB_VENV` that of a Python environment with JupyterHub; the
//! Makefile sets both. What is not there is skipped, and says so.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout
)]

#[allow(dead_code, reason = "shared with the other tests")]
#[path = "../broker/fixture.rs"]
mod fixture;
mod hub;
#[allow(dead_code, reason = "shared with the other tests")]
#[path = "../broker/issuer.rs"]
mod issuer;
mod keycloak;

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// Not a test of the usual harness: what is skipped must not be counted as passed.
#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let _already = rustls::crypto::ring::default_provider().install_default();
    let wanted = std::env::args().nth(1).unwrap_or_default();
    let mut passed = 0;
    let start = Instant::now();
    if let Some(home) = there("Keycloak", "LEASEHOLD_KEYCLOAK", "bin/kc.sh")
        && "keycloak".contains(&wanted)
    {
        passed += keycloak::run(&home).await;
    }
    if let Some(venv) = there("JupyterHub", "LEASEHOLD_HUB_VENV", "bin/jupyterhub")
        && "hub".contains(&wanted)
    {
        passed += hub::run(&venv).await;
    }
    println!(
        "\ntest result: ok. {passed} passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in {:.2}s",
        start.elapsed().as_secs_f64()
    );
}

/// Where something is installed; says that it is skipped where it is not.
fn there(what: &str, variable: &str, file: &str) -> Option<PathBuf> {
    let home = std::env::var_os(variable).map(PathBuf::from);
    let home = home.filter(|home| home.join(file).is_file());
    if home.is_none() {
        println!(
            "SKIPPED: the broker beside a real {what}: {variable} names no installation; `make setup` makes one"
        );
    }
    home
}

/// A process that ends with this, and its log.
struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    fn start(mut command: Command, log: PathBuf) -> Self {
        let file = std::fs::File::create(&log).unwrap();
        // A group of its own, so that what it starts ends with it.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        Self { child, log }
    }

    fn stop(&mut self) {
        let group = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        let _gone = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
        let _gone = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let tail: Vec<_> = log.lines().rev().take(30).collect();
            eprintln!("end of {}:", self.log.display());
            for line in tail.iter().rev() {
                eprintln!("{line}");
            }
        }
    }
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn plain_client() -> reqwest::Client {
    reqwest::Client::builder()
        .tls_certs_only([])
        .no_proxy()
        .timeout(fixture::PATIENCE)
        .build()
        .unwrap()
}
