//! Keeps the file that says how far this broker has seen the ledger ([`super::seen`]).
//!
//! What is noted is on the disk, name included. The file is written at most once a second, so that the blocks of the last second before
//! a kill may be missing in it, and once more when the ledger is closed. A write that failed is made again; one that hangs holds nobody
//! up, and no other one is begun beside it.

use super::block::{Hash, Head};
use super::block_name::BlockName;
use super::receipt::Receipt;
use super::seen::{self, Note};
use crate::private_file;
use std::fmt::Display;
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::Instant;

/// At least between the beginnings of two writes.
const PAUSE: Duration = Duration::from_secs(1);
/// After so long a write is said to hang, and not waited for when the ledger is closed.
const BOUND: Duration = Duration::from_secs(5);

pub(super) struct Notes {
    file: PathBuf,
    ledger: Hash,
    /// Which ledger was last accepted although blocks were lost.
    accepted: Option<BlockName>,
    /// Height of the block in the file, as far as this process wrote it.
    noted: Option<u64>,
    writing: Option<Writing>,
    /// When the last write was begun.
    begun: Option<Instant>,
    failing: bool,
}

struct Writing {
    height: u64,
    done: JoinHandle<io::Result<()>>,
}

impl Notes {
    /// Into a file in which there may be an older note; `told` is what was said of lost blocks this time.
    pub(super) fn new(file: PathBuf, ledger: Hash, told: Option<BlockName>) -> Self {
        Self {
            accepted: told.or_else(|| seen::read(&file)?.accepted),
            file,
            ledger,
            noted: None,
            writing: None,
            begun: None,
            failing: false,
        }
    }

    /// Has a block noted that counts, unless it is, or one is being noted or was a moment ago. Waits for no disk.
    pub(super) async fn note(&mut self, head: &Head) {
        match self.writing.take() {
            Some(writing) if writing.done.is_finished() => self.end(writing).await,
            writing => self.writing = writing,
        }
        let waited = self.begun.map(|begun| begun.elapsed());
        if self.writing.is_some() {
            if waited >= Some(BOUND) {
                self.warn(&"the disk does not answer");
            }
        } else if waited.is_none_or(|waited| waited >= PAUSE) {
            self.begin(head);
        }
    }

    /// Notes the last block, for as long as a disk may take.
    pub(super) async fn finish(mut self, head: &Head) {
        let finishing = async {
            if let Some(writing) = self.writing.take() {
                self.end(writing).await;
            }
            self.begin(head);
            if let Some(writing) = self.writing.take() {
                self.end(writing).await;
            }
        };
        if tokio::time::timeout(BOUND, finishing).await.is_err() {
            self.warn(&"the disk does not answer");
        }
    }

    fn begin(&mut self, head: &Head) {
        let Some(seen) = Receipt::of(&self.ledger, head).filter(|_| self.noted != Some(head.height)) else {
            return;
        };
        let (file, accepted) = (self.file.clone(), self.accepted);
        let done = spawn_blocking(move || {
            #[cfg(test)]
            hanging::wait(&file)?;
            let note = serde_json::to_vec(&Note { seen, accepted })?;
            private_file::replace(&file, &note)
        });
        self.begun = Some(Instant::now());
        self.writing = Some(Writing {
            height: head.height,
            done,
        });
    }

    async fn end(&mut self, Writing { height, done }: Writing) {
        match done.await.map_err(io::Error::other) {
            Ok(Ok(())) => {
                self.noted = Some(height);
                self.failing = false;
            }
            Ok(Err(error)) | Err(error) => self.warn(&error),
        }
    }

    /// Once for all that fail one after the other.
    fn warn(&mut self, error: &dyn Display) {
        if !std::mem::replace(&mut self.failing, true) {
            tracing::warn!(%error, file = %self.file.display(), "cannot note how far the ledger was seen, and goes on trying; after a restart this broker may not notice that blocks were lost");
        }
    }
}

/// A disk that hangs, for tests.
#[cfg(test)]
pub(super) mod hanging {
    use nix::sys::stat::Mode;
    use std::fs::OpenOptions;
    use std::io;
    use std::path::{Path, PathBuf};

    /// Has each writing of a file hang until somebody reads the pipe that this makes, and takes it away.
    pub(in crate::ledger) fn hang(file: &Path) -> PathBuf {
        let pipe = file.with_extension("hangs");
        nix::unistd::mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        pipe
    }

    /// Opening it for writing waits for somebody who reads.
    pub(super) fn wait(file: &Path) -> io::Result<()> {
        match OpenOptions::new().write(true).open(file.with_extension("hangs")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::block::{BLOCK_SCHEMA, Body, Genesis, StoredBlock};
    use crate::ledger::key::LedgerKey;
    use std::path::Path;
    use tempfile::TempDir;

    fn block(directory: &TempDir) -> StoredBlock {
        let key = LedgerKey::load_or_create(&directory.path().join("ledger.key")).unwrap();
        let genesis = Genesis {
            schema: BLOCK_SCHEMA,
            organisation: "UiSMSP".parse().unwrap(),
            end_margin_ms: 0,
            created_at_ms: 1,
            key_id: Some(key.id()),
        };
        StoredBlock::first(1, &Body::Genesis(genesis), &key).unwrap()
    }

    /// Has a block noted again and again until something is so.
    async fn until(what: &str, notes: &mut Notes, head: &Head, is_so: impl Fn(&Notes) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !is_so(notes) {
            assert!(Instant::now() < deadline, "{what} in 20 s");
            notes.note(head).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn holds(file: &Path, block: &StoredBlock) -> bool {
        seen::read(file).map(|note| note.seen) == Receipt::of(&block.hash, &block.head())
    }

    #[tokio::test]
    async fn a_note_that_could_not_be_written_is_written_once_it_can_be() {
        let directory = TempDir::new().unwrap();
        let block = block(&directory);
        let file = directory.path().join("missing/ledger.seen");
        let mut notes = Notes::new(file.clone(), block.hash, None);
        until("failure", &mut notes, &block.head(), |notes| notes.failing).await;
        assert_eq!(notes.noted, None);
        std::fs::create_dir(directory.path().join("missing")).unwrap();
        until("note", &mut notes, &block.head(), |notes| notes.noted == Some(0)).await;
        assert!(holds(&file, &block) && !notes.failing);
    }

    #[tokio::test]
    async fn a_disk_that_hangs_holds_nobody_up_and_gets_no_second_write() {
        let directory = TempDir::new().unwrap();
        let block = block(&directory);
        let file = directory.path().join("ledger.seen");
        let hung = hanging::hang(&file);
        let mut notes = Notes::new(file.clone(), block.hash, None);
        notes.note(&block.head()).await;
        let begun = notes.begun;
        until("pause", &mut notes, &block.head(), |notes| {
            notes.begun.unwrap().elapsed() > PAUSE * 2
        })
        .await;
        assert!(notes.begun == begun && notes.writing.is_some() && notes.noted.is_none());
        let reader = std::fs::File::open(&hung).unwrap();
        std::fs::remove_file(&hung).unwrap();
        until("note", &mut notes, &block.head(), |notes| notes.noted == Some(0)).await;
        assert!(holds(&file, &block));
        drop(reader);
    }
}
