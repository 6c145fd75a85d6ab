//! One line of progress on a terminal, nothing anywhere else.

use std::io::{IsTerminal as _, Write, stderr};

/// Shows what is being waited for; the line goes when this does.
pub(crate) struct Progress<'a> {
    err: Option<&'a mut dyn Write>,
}

impl<'a> Progress<'a> {
    pub(crate) fn new(err: &'a mut dyn Write) -> Self {
        Self {
            err: stderr().is_terminal().then_some(err),
        }
    }

    /// Replaces the line.
    pub(crate) fn say(&mut self, text: &str) {
        self.write(&format!("\r\x1b[K{}", crate::output::one_line(text)));
    }

    fn write(&mut self, text: &str) {
        if let Some(err) = &mut self.err {
            // Progress is not worth failing for.
            let _ = err.write_all(text.as_bytes());
            let _ = err.flush();
        }
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        self.write("\r\x1b[K");
    }
}
