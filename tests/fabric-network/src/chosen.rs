//! Which promises of a test program on real peers are looked at: those of which its arguments name a part, or all. Such a program has one network
//! for all of them and not the usual harness, for what is skipped must not be counted as passed.

use std::time::Instant;

/// What was asked for, and since when it runs.
pub struct Chosen {
    parts: Vec<String>,
    start: Instant,
}

impl Chosen {
    /// By the arguments of the program.
    #[must_use]
    pub fn by_arguments() -> Self {
        Self {
            parts: std::env::args()
                .skip(1)
                .filter(|argument| !argument.starts_with('-'))
                .collect(),
            start: Instant::now(),
        }
    }

    /// Whether a promise is among them.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.parts.is_empty() || self.parts.iter().any(|part| name.contains(part.as_str()))
    }

    /// Since when the program runs.
    #[must_use]
    pub const fn start(&self) -> Instant {
        self.start
    }
}

/// Looks at a promise if it is chosen, and says that it holds.
#[macro_export]
macro_rules! promise {
    ($chosen:expr, $name:ident, $kept:expr) => {
        if $chosen.has(stringify!($name)) {
            $kept;
            println!(
                "test {} ... ok, after {:.1?}",
                stringify!($name),
                $chosen.start().elapsed()
            );
        }
    };
}
