//! `make demo`: the main job from the catalogue to the end of a lease, told step by step. Ends with what the researcher's
//! pod read. `KEEP=1` leaves the cluster running.

use leasehold_tests::{TestResult, demo};

fn main() -> TestResult {
    let keep = std::env::var("KEEP").is_ok_and(|keep| !keep.is_empty() && keep != "0");
    demo::run(keep)
}
