//! Running a command again that lost against another: how often, and after how long.

use std::time::Duration;

/// How often a command is run again, and how long is waited before: a random time, whose bound doubles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// Runs in all; 1 is no retry.
    pub runs: u32,
    /// Bound of the first wait.
    pub first: Duration,
    /// Greatest bound.
    pub most: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            runs: 5,
            first: Duration::from_millis(100),
            most: Duration::from_secs(2),
        }
    }
}

impl Retry {
    /// How long to wait after the `done`th run; none where that was the last. `chance` is random: over all of its values the wait is
    /// spread evenly from nothing to the bound, so that those who lost together do not meet again.
    #[must_use]
    pub(crate) fn wait(&self, done: u32, chance: u32) -> Option<Duration> {
        (done < self.runs).then(|| jittered(self.first, self.most, done.saturating_sub(1), chance))
    }
}

/// A share of `first · 2^doublings`, at most of `most`.
pub(crate) fn jittered(first: Duration, most: Duration, doublings: u32, chance: u32) -> Duration {
    let bound = first.saturating_mul(2_u32.saturating_pow(doublings)).min(most);
    bound.mul_f64(f64::from(chance) / f64::from(u32::MAX))
}

/// A random number for [`jittered`]; where the system has none, the middle.
pub(crate) fn chance() -> u32 {
    getrandom::u32().unwrap_or(u32::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_doubles_up_to_the_greatest_and_runs_end() {
        let retry = Retry {
            runs: 5,
            first: Duration::from_millis(100),
            most: Duration::from_millis(300),
        };
        let bounds: Vec<_> = (1..=5)
            .map(|done| retry.wait(done, u32::MAX).map(|wait| wait.as_millis()))
            .collect();
        assert_eq!(bounds, [Some(100), Some(200), Some(300), Some(300), None]);
        assert_eq!(retry.wait(1, 0), Some(Duration::ZERO));
        assert_eq!(retry.wait(4_000, 0), None);
    }

    #[test]
    fn no_number_of_runs_overflows() {
        let retry = Retry {
            runs: u32::MAX,
            ..Retry::default()
        };
        assert_eq!(retry.wait(u32::MAX - 1, u32::MAX), Some(retry.most));
    }
}
