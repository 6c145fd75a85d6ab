//! Says what happens, with the time since the start, for a person who watches.

use std::{
    io::Write,
    time::{Duration, Instant},
};

/// Prints steps and what each party sees. A quiet one prints nothing.
pub struct Narrator {
    started: Instant,
    loud: bool,
}

impl Narrator {
    /// One that prints to standard output.
    #[must_use]
    pub fn aloud() -> Self {
        Self::new(true)
    }

    /// One that prints nothing, for tests.
    #[must_use]
    pub fn quiet() -> Self {
        Self::new(false)
    }

    fn new(loud: bool) -> Self {
        Self {
            started: Instant::now(),
            loud,
        }
    }

    /// A step begins.
    pub fn step(&self, what: &str) {
        self.print(&format!("\n[{:6.1} s] {what}", self.elapsed().as_secs_f64()));
    }

    /// Somebody typed a command and saw an answer.
    pub fn saw(&self, who: &str, command: &str, answer: &str) {
        self.print(&format!("           {who}$ {command}"));
        for line in answer.trim_end().lines() {
            self.print(&format!("           | {line}"));
        }
    }

    /// Time since the first step.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    fn print(&self, line: &str) {
        if self.loud {
            // Nobody can be told when standard output is gone.
            let _ = writeln!(std::io::stdout().lock(), "{line}");
        }
    }
}
