//! Being in the cluster's network: which network namespace a thread is in is the thread's own affair.

use std::{fs::File, sync::Arc};

use nix::sched::{CloneFlags, setns};
use tokio::runtime::{Builder, Runtime};

use crate::Error;

/// A network namespace held open.
pub(super) struct NetworkNamespace(Arc<File>);

/// The calling thread is inside until this is dropped.
pub(super) struct Inside {
    before: File,
}

fn open(path: &str) -> Result<File, Error> {
    File::open(path).map_err(|source| Error::File {
        path: path.into(),
        source,
    })
}

impl NetworkNamespace {
    pub(super) fn of_process(pid: u32) -> Result<Self, Error> {
        Ok(Self(Arc::new(open(&format!("/proc/{pid}/ns/net"))?)))
    }

    pub(super) fn enter(&self) -> Result<Inside, Error> {
        let before = open("/proc/thread-self/ns/net")?;
        setns(&*self.0, CloneFlags::CLONE_NEWNET).map_err(Error::Namespace)?;
        Ok(Inside { before })
    }

    /// A runtime whose threads all live in this namespace.
    pub(super) fn runtime(&self) -> Result<Runtime, Error> {
        let namespace = Arc::clone(&self.0);
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

impl Drop for Inside {
    fn drop(&mut self) {
        if let Err(error) = setns(&self.before, CloneFlags::CLONE_NEWNET) {
            eprintln!("this thread cannot leave the cluster's network: {error}");
        }
    }
}
