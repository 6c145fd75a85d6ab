//! The spawner-hook's process. See [`leasehold_spawner_hook`].

use std::process::ExitCode;

use clap::Parser as _;
use leasehold_spawner_hook::{Arguments, run};

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    arguments.logging.start();
    leasehold_process::run("the spawner-hook", |shutdown| run(arguments, shutdown)).await
}
