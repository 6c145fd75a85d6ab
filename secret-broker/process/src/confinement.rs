//! Keeps what a process has in memory in there: no core is dumped, and nobody without the right to trace any process looks into it.

use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};

/// Makes it so, for this process and for good. What cannot be done is logged: a kernel that refuses it is no reason not to serve.
pub fn confine() {
    if let Err(error) = setrlimit(Resource::RLIMIT_CORE, 0, 0) {
        tracing::warn!(%error, "could not forbid core dumps of this process");
    }
    // The limit does not hold where cores go to a program (`core_pattern` with a pipe).
    if let Err(error) = prctl::set_dumpable(false) {
        tracing::warn!(%error, "could not keep this process's memory from other processes of its user");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::resource::getrlimit;

    #[test]
    fn a_confined_process_dumps_no_core() {
        confine();
        assert_eq!(getrlimit(Resource::RLIMIT_CORE).unwrap(), (0, 0));
        assert!(!prctl::get_dumpable().unwrap());
    }
}
