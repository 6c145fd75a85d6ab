//! What became of the cases.

use std::fmt;
use std::time::Duration;

/// What became of every case of a run.
#[derive(Debug, Clone)]
pub struct Report {
    /// What the bench calls itself.
    pub bench: &'static str,
    /// Ids of the cases that held.
    pub passed: Vec<&'static str>,
    /// Ids and promises of those that did not, and where.
    pub failed: Vec<(&'static str, &'static str, String)>,
    /// Ids of those that did not run, and what they need that the bench has not.
    pub skipped: Vec<(&'static str, String)>,
    /// How long all of it took.
    pub took: Duration,
}

impl Report {
    /// Number of cases, whatever became of them.
    #[must_use]
    pub fn cases(&self) -> usize {
        self.passed.len() + self.failed.len() + self.skipped.len()
    }
}

/// A line with the numbers, then one for each need that left cases out, beginning with `SKIPPED: `, then one for each failure.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "conformance on {}: {} cases: {} passed, {} failed, {} skipped, in {:.1?}",
            self.bench,
            self.cases(),
            self.passed.len(),
            self.failed.len(),
            self.skipped.len(),
            self.took
        )?;
        let mut by_need: std::collections::BTreeMap<&str, Vec<&str>> = std::collections::BTreeMap::new();
        for (id, need) in &self.skipped {
            by_need.entry(need).or_default().push(id);
        }
        for (need, ids) in by_need {
            write!(
                f,
                "\nSKIPPED: conformance on {}: {} cases need {need}: {}",
                self.bench,
                ids.len(),
                ids.join(" ")
            )?;
        }
        for (id, promise, why) in &self.failed {
            write!(f, "\nFAILED: {id} {promise}: {why}")?;
        }
        Ok(())
    }
}
