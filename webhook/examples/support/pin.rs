//! Each process of the comparison on a core of its own.

use std::error::Error;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// Errors end a benchmark.
pub type Failure = Box<dyn Error + Send + Sync>;

/// This process and all threads that it starts from now on run on one core.
pub fn pin(core: usize) -> Result<(), Failure> {
    let mut set = CpuSet::new();
    set.set(core)?;
    sched_setaffinity(Pid::from_raw(0), &set)?;
    Ok(())
}
