//! The containers of a pod, played by threads over a shared directory.

use std::thread;
use std::time::{Duration, Instant};

use super::*;

const SET: &str =
    r#"{"containerSet": {"containers": [{"name": "c1"}, {"name": "c2", "dependencies": ["c1"]}]}}"#;

/// A shared directory as `init` leaves it.
fn prepared(template: &str) -> (tempfile::TempDir, Files) {
    let directory = tempfile::tempdir().unwrap();
    let files = Files::at(directory.path());
    files.prepare(template).unwrap();
    (directory, files)
}

fn argv(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn the_exit_code_of_the_command_is_the_emissarys_and_everybody_can_read_it() {
    for (script, code) in [
        ("exit 0", 0),
        ("exit 7", 7),
        ("kill -KILL $$", 137),
        ("kill -TERM $$", 143),
    ] {
        let (_directory, files) = prepared("{}");
        assert_eq!(
            emissary(&files, "main", &argv(&["sh", "-c", script])).unwrap(),
            code,
            "{script}"
        );
        assert_eq!(
            wait_for_end(&files, "main").unwrap(),
            Ending::Code(code.into()),
            "{script}"
        );
    }
}

#[test]
fn a_command_that_is_not_there_is_named_and_ends_the_container() {
    let (_directory, files) = prepared("{}");
    let error = emissary(&files, "main", &argv(&["/no/such/program"])).unwrap_err();
    assert!(error.to_string().contains("/no/such/program"), "{error}");
    assert_eq!(files.exit_code("main").unwrap(), Some(EXECUTOR_FAILED.into()));
}

#[test]
fn init_leaves_a_program_that_others_may_run() {
    use std::os::unix::fs::PermissionsExt as _;

    let (directory, _files) = prepared("{}");
    let mode = |name: &str| {
        directory
            .path()
            .join(name)
            .metadata()
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(
        (mode("argoexec"), mode("template"), mode("ctr")),
        (0o755, 0o644, 0o777)
    );
}

#[test]
fn a_member_of_a_container_set_starts_when_what_it_depends_on_has_succeeded() {
    for (first, second) in [("exit 0", Some(0)), ("exit 3", None)] {
        let (directory, files) = prepared(SET);
        let mark = directory.path().join("mark");
        let later = {
            let (files, mark) = (files.clone(), mark.clone());
            thread::spawn(move || emissary(&files, "c2", &argv(&["touch", &mark.to_string_lossy()])))
        };
        assert!(!mark.exists(), "c1 has not ended");
        emissary(&files, "c1", &argv(&["sh", "-c", first])).unwrap();
        let outcome = later.join().unwrap();
        assert_eq!(outcome.as_ref().ok().copied(), second, "{first}: {outcome:?}");
        assert_eq!(mark.exists(), second.is_some(), "{first}");
    }
}

#[test]
fn a_signal_left_in_a_file_reaches_all_that_the_command_started() {
    let (directory, files) = prepared("{}");
    let running = {
        let files = files.clone();
        thread::spawn(move || emissary(&files, "main", &argv(&["sh", "-c", "sleep 1000; exit 0"])))
    };
    let claimed = directory.path().join("ctr/main/alive");
    until("the emissary is there", || claimed.exists());
    std::fs::write(directory.path().join("ctr/main/signal"), "15").unwrap();
    assert_eq!(running.join().unwrap().unwrap(), 143);
}

#[test]
fn a_sidecar_is_ended_with_the_main_container() {
    let (_directory, files) = prepared(r#"{"sidecars": [{"name": "beside"}]}"#);
    let beside = {
        let files = files.clone();
        thread::spawn(move || emissary(&files, "beside", &argv(&["sleep", "1000"])))
    };
    emissary(&files, "main", &argv(&["true"])).unwrap();
    assert_eq!(beside.join().unwrap().unwrap(), 143);
}

#[test]
fn an_emissary_that_was_killed_is_missed_by_those_who_wait_for_it() {
    let (_directory, files) = prepared("{}");
    let alive = files.claim("main").unwrap();
    let waiting = {
        let files = files.clone();
        thread::spawn(move || wait_for_end(&files, "main"))
    };
    assert!(!files.is_dead("main"), "its lock is held");
    // What the kernel does for a process that is killed.
    drop(alive);
    assert_eq!(waiting.join().unwrap().unwrap(), Ending::Killed);
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
