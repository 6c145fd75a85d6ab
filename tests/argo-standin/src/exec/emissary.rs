//! Runs the user's command in the user's image, and tells the other containers how it ended.

use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, ExitStatus};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;

use super::wait::wait_for_end;
use super::{EXECUTOR_FAILED, Failure, Files, Template};

/// How often the files of other containers are looked at.
const TICK: Duration = Duration::from_millis(100);

/// Runs `argv` as the container `name` and gives its exit code, which everybody can read in the end.
///
/// # Errors
/// [`Failure`] if it was not the command that failed; the exit code in the file is then [`EXECUTOR_FAILED`].
pub fn emissary(files: &Files, name: &str, argv: &[String]) -> Result<u8, Failure> {
    let alive = files.claim(name)?;
    let outcome = run(files, name, argv);
    let code = outcome.as_ref().map_or(EXECUTOR_FAILED, |code| *code);
    files.set_exit_code(name, i32::from(code))?;
    drop(alive);
    outcome
}

fn run(files: &Files, name: &str, argv: &[String]) -> Result<u8, Failure> {
    let template = files.template()?;
    for dependency in template.dependencies(name) {
        match wait_for_end(files, &dependency)?.code() {
            0 => {}
            code => {
                return Err(Failure::Dependency {
                    name: dependency,
                    code,
                });
            }
        }
    }
    let (command, arguments) = argv
        .split_first()
        .ok_or(Failure::Environment("a command after `--`"))?;
    let cannot_start = |source| Failure::Command {
        command: command.clone(),
        source,
    };
    // Caught from before the start, so that none is lost; passed on to the command and all it starts.
    let mut signals =
        Signals::new([SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2]).map_err(cannot_start)?;
    let mut child = Command::new(command)
        .args(arguments)
        .process_group(0)
        .spawn()
        .map_err(cannot_start)?;
    let group = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));

    let handle = signals.handle();
    let forwarder = thread::spawn(move || {
        for signal in &mut signals {
            send(group, signal);
        }
    });
    let (ended, ending) = mpsc::channel();
    let watcher = {
        let (files, name) = (files.clone(), name.to_owned());
        thread::spawn(move || watch(&files, &name, &template, group, &ending))
    };
    let status = child.wait().map_err(cannot_start)?;
    drop(ended);
    handle.close();
    // Both threads end by themselves now; a panic of one has been printed.
    let _ = (forwarder.join(), watcher.join());
    Ok(exit_code(status))
}

/// Passes on signals that come as files, and ends a sidecar when its work is over, until `ending` closes.
fn watch(files: &Files, name: &str, template: &Template, group: Pid, ending: &mpsc::Receiver<()>) {
    let mut told = false;
    while let Err(RecvTimeoutError::Timeout) = ending.recv_timeout(TICK) {
        if let Some(signal) = files.take_signal(name) {
            send(group, signal);
        }
        let over = |main: &String| matches!(files.exit_code(main), Ok(Some(_)));
        if !told && template.is_sidecar(name) && template.mains().iter().all(over) {
            told = true;
            send(group, SIGTERM);
        }
    }
}

fn send(group: Pid, signal: i32) {
    if let Ok(signal) = Signal::try_from(signal) {
        // It fails only where nobody is left to receive it.
        let _ = killpg(group, signal);
    }
}

/// As a shell would say it.
fn exit_code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    u8::try_from(code).unwrap_or(EXECUTOR_FAILED)
}
