//! The secret broker's process: reads its arguments and runs the library.
//!
//! Memory is wiped when it is freed, so that what was decrypted is not left behind in buffers of the libraries that carried it.

use std::alloc::System;
use std::process::ExitCode;

use clap::Parser as _;
use leasehold_secret_broker::{command_line, config::Cli};
use zeroizing_alloc::ZeroAlloc;

#[global_allocator]
static WIPED_WHEN_FREED: ZeroAlloc<System> = ZeroAlloc(System);

#[tokio::main]
async fn main() -> ExitCode {
    command_line::run(Cli::parse()).await
}
