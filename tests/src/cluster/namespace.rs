//! Being in the cluster's network: which network namespace a thread is in is the thread's own affair.

use std::{fs::File, sync::Arc};

use nix::sched::{CloneFlags, setns};
use tokio::runtime::{Builder, Runtime};

use crate::Error;

/// The cluster's network namespace and the one that it was started from, held open.
pub(super) struct NetworkNamespace {
    cluster: Arc<File>,
    outside: File,
}

/// The calling thread is elsewhere until this is dropped.
pub(super) struct Elsewhere {
    before: File,
}

fn open(path: &str) -> Result<File, Error> {
    File::open(path).map_err(|source| Error::File {
        path: path.into(),
        source,
    })
}

/// The calling thread's.
const OWN: &str = "/proc/thread-self/ns/net";

fn go(there: &File) -> Result<Elsewhere, Error> {
    let before = open(OWN)?;
    setns(there, CloneFlags::CLONE_NEWNET).map_err(Error::Namespace)?;
    Ok(Elsewhere { before })
}

impl NetworkNamespace {
    /// That of a process; the caller is outside.
    pub(super) fn of_process(pid: u32) -> Result<Self, Error> {
        Ok(Self {
            cluster: Arc::new(open(&format!("/proc/{pid}/ns/net"))?),
            outside: open(OWN)?,
        })
    }

    pub(super) fn enter(&self) -> Result<Elsewhere, Error> {
        go(&self.cluster)
    }

    /// Where package mirrors can be reached: the cluster has no way out.
    pub(super) fn leave(&self) -> Result<Elsewhere, Error> {
        go(&self.outside)
    }

    /// A runtime whose threads all live in this namespace.
    pub(super) fn runtime(&self) -> Result<Runtime, Error> {
        let namespace = Arc::clone(&self.cluster);
        // Shows that it can be entered before threads rely on it.
        drop(self.enter()?);
        Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .on_thread_start(move || {
                if let Err(error) = setns(&*namespace, CloneFlags::CLONE_NEWNET) {
                    eprintln!("a thread of the test cannot enter the cluster's network: {error}");
                }
            })
            .build()
            .map_err(Error::Runtime)
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        if let Err(error) = setns(&self.before, CloneFlags::CLONE_NEWNET) {
            eprintln!("this thread cannot return to its own network: {error}");
        }
    }
}
