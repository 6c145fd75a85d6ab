//! What a round takes: time, the processor's and the clock's, and bytes that are read and written.

use crate::Failure;
use std::time::{Duration, Instant};

/// CPU time of this process so far, its threads' and the kernel's for it.
fn cpu() -> Result<Duration, Failure> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // Behind the name in brackets: state and ten more, then user and system time in hundredths of a second.
    let fields = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(11);
    let ticks = fields.take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    Ok(Duration::from_millis(ticks.saturating_mul(10)))
}

/// What a round took, and how much of the processor.
#[derive(Clone, Copy, Default)]
pub(crate) struct Spent {
    pub(crate) time: Duration,
    pub(crate) cpu: Duration,
    /// Bytes that calls of the system read and wrote, whether or not a disk had to.
    moved: (u64, u64),
}

impl Spent {
    /// Of one of so many leases.
    pub(crate) fn micros(&self, leases: usize) -> f64 {
        self.time.as_micros() as f64 / leases as f64
    }

    /// The same, of the processor.
    pub(crate) fn cpu_micros(&self, leases: usize) -> f64 {
        self.cpu.as_micros() as f64 / leases as f64
    }

    /// Read and written for one of so many leases.
    pub(crate) fn kibibytes(&self, leases: usize) -> (f64, f64) {
        let each = |bytes: u64| bytes as f64 / 1_024.0 / leases as f64;
        (each(self.moved.0), each(self.moved.1))
    }
}

pub(crate) struct Stopwatch(Instant, Duration, (u64, u64));

impl Stopwatch {
    pub(crate) fn start() -> Result<Self, Failure> {
        Ok(Self(Instant::now(), cpu()?, moved()?))
    }

    pub(crate) fn stop(self) -> Result<Spent, Failure> {
        let time = self.0.elapsed();
        let cpu = cpu()?.saturating_sub(self.1);
        let (read, written) = moved()?;
        let moved = (read.saturating_sub(self.2.0), written.saturating_sub(self.2.1));
        Ok(Spent { time, cpu, moved })
    }
}

/// Bytes that this process has read and written so far.
fn moved() -> Result<(u64, u64), Failure> {
    let io = std::fs::read_to_string("/proc/self/io")?;
    let field = |name: &str| {
        let line = io.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or("0").trim().parse::<u64>()
    };
    Ok((field("rchar:")?, field("wchar:")?))
}

pub(crate) fn middle(rounds: Vec<Spent>) -> Spent {
    let of = |figure: fn(&Spent) -> Duration| median(rounds.iter().map(figure).collect());
    let bytes = |figure: fn(&Spent) -> u64| {
        let mut all: Vec<_> = rounds.iter().map(figure).collect();
        all.sort_unstable();
        all.get(all.len() / 2).copied().unwrap_or_default()
    };
    Spent {
        time: of(|spent| spent.time),
        cpu: of(|spent| spent.cpu),
        moved: (bytes(|spent| spent.moved.0), bytes(|spent| spent.moved.1)),
    }
}

pub(crate) fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

pub(crate) fn ratio(one: Duration, other: Duration) -> f64 {
    one.as_secs_f64() / other.as_secs_f64()
}
