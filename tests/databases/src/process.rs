//! A server's first process, and the thread that waits for it. The system ends the one with the other, should the tests be killed.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::process::Command;
use std::sync::{Mutex, mpsc};
use std::thread::JoinHandle;

#[derive(Default)]
pub(crate) struct Process(Mutex<Option<Running>>);

struct Running {
    process: Pid,
    waiter: JoinHandle<()>,
}

impl Process {
    /// Starts it where it does not run. The command has to ask for a signal with its parent's end.
    pub(crate) fn start(&self, mut command: Command) {
        let mut running = self.0.lock().unwrap();
        if running.is_some() {
            return;
        }
        let (send, receive) = mpsc::channel();
        // The signal comes when this very thread ends.
        let waiter = std::thread::spawn(move || {
            let mut child = command.spawn().unwrap();
            send.send(child.id()).unwrap();
            child.wait().unwrap();
        });
        let process = Pid::from_raw(i32::try_from(receive.recv().unwrap()).unwrap());
        *running = Some(Running { process, waiter });
    }

    pub(crate) fn has_ended(&self) -> bool {
        let running = self.0.lock().unwrap();
        running
            .as_ref()
            .is_none_or(|running| running.waiter.is_finished())
    }

    /// Sends it a signal, and waits for its end.
    pub(crate) fn end(&self, signal: Signal) {
        if let Some(running) = self.0.lock().unwrap().take() {
            if !running.waiter.is_finished() {
                let _ = kill(running.process, signal);
            }
            running.waiter.join().unwrap();
        }
    }
}
