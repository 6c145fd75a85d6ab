//! The probe on real directory trees: links, holes, floods and odd names.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;

fn at(root: &Path, path: &str) -> Report {
    look(&ProbeArguments {
        root: root.to_owned(),
        path: path.to_owned(),
        deadline_seconds: 20,
    })
}

fn tree(directories: &[&str]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for directory in directories {
        fs::create_dir_all(root.path().join(directory)).unwrap();
    }
    root
}

#[test]
fn the_skeleton_holds_directories_only_sorted_and_relative() {
    let root = tree(&["set/b/c", "set/a", "other/x"]);
    fs::write(root.path().join("set/a/file.txt"), "lorem").unwrap();
    let report = at(root.path(), "set");
    assert!(report.ok);
    assert_eq!(report.skeleton, ["a", "b", "b/c"]);
    assert!(!report.truncated);
}

#[test]
fn a_printed_report_reads_back_and_an_api_servers_remark_does_no_harm() {
    let root = tree(&["set/a"]);
    let line = serde_json::to_string(&at(root.path(), "set")).unwrap();
    assert_eq!(Report::parse(&format!("{line}\n")), Ok(vec!["a".to_owned()]));
    assert_eq!(
        Report::parse(&format!("{line}\nunexpected EOF\n")),
        Ok(vec!["a".to_owned()])
    );
    for bad in [
        "",
        "panic",
        "{}",
        r#"{"ok":true,"skeleton":["../x"]}"#,
        r#"{"ok":true,"extra":1}"#,
    ] {
        assert_eq!(Report::parse(bad).unwrap_err().code, Code::ProbeFailed, "{bad}");
    }
}

#[test]
fn a_missing_directory_a_file_and_a_link_are_told_apart() {
    let root = tree(&["set/real", "elsewhere/secret"]);
    fs::write(root.path().join("set/file"), "").unwrap();
    symlink("real", root.path().join("set/link")).unwrap();
    symlink("../elsewhere", root.path().join("set/out")).unwrap();
    symlink("/etc", root.path().join("etc")).unwrap();
    for (path, code) in [
        ("none", Code::PathMissing),
        ("set/none/x", Code::PathMissing),
        ("set/file", Code::NotADirectory),
        ("set/file/below", Code::NotADirectory),
        ("set/link", Code::PathSymlink),
        ("set/out/secret", Code::PathSymlink),
        ("etc", Code::PathSymlink),
        ("etc/ssl", Code::PathSymlink),
        ("set/../elsewhere", Code::VolumeInvalid),
        ("..", Code::VolumeInvalid),
        ("", Code::VolumeInvalid),
        ("/etc", Code::VolumeInvalid),
        ("set//real", Code::VolumeInvalid),
    ] {
        let report = at(root.path(), path);
        assert_eq!(report.code, Some(code), "{path}");
        assert!(!report.ok && report.skeleton.is_empty());
        assert!(
            !report.message.contains("secret") && !report.message.contains("etc"),
            "{}",
            report.message
        );
        assert_eq!(
            Report::parse(&serde_json::to_string(&report).unwrap())
                .unwrap_err()
                .code,
            code
        );
    }
}

#[test]
fn a_directory_that_others_could_exchange_after_the_look_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let root = tree(&["open/set/a", "closed/set/a"]);
    let mode = |path: &str, mode| {
        fs::set_permissions(root.path().join(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    mode("open", 0o775);
    assert_eq!(at(root.path(), "open/set").code, Some(Code::PathExposed));
    mode("open", 0o757);
    assert_eq!(at(root.path(), "open/set").code, Some(Code::PathExposed));
    mode("open", 0o755);
    assert!(at(root.path(), "open/set").ok);
    mode("closed/set", 0o777);
    assert!(
        at(root.path(), "closed/set").ok,
        "the dataset's own directory is its owner's"
    );
    mode("", 0o777);
    assert_eq!(at(root.path(), "closed/set").code, Some(Code::PathExposed));
}

#[test]
fn directories_above_a_dataset_are_roots_or_whose_the_allowed_root_is() {
    use nix::sys::stat::Mode;
    let is_exposed = |mode, owner| super::directory::is_exposed(Mode::from_bits_truncate(mode), owner, 1000);
    assert!(!is_exposed(0o755, 0));
    assert!(!is_exposed(0o700, 1000));
    assert!(is_exposed(0o755, 1001));
    assert!(
        is_exposed(0o1777, 0),
        "the sticky bit of others' entries does not help"
    );
}

// T8 of docs/security/model.md.
#[test]
fn links_inside_of_a_dataset_are_neither_followed_nor_listed() {
    let root = tree(&["set/a", "elsewhere/secret"]);
    symlink("../elsewhere", root.path().join("set/out")).unwrap();
    symlink(".", root.path().join("set/loop")).unwrap();
    assert_eq!(at(root.path(), "set").skeleton, ["a"]);
}

#[test]
fn names_that_are_no_plain_text_are_left_out_with_what_is_below() {
    let root = tree(&["set/a", "set/new\nline/below", "set/bell\u{7}", "set/æøå"]);
    let raw = std::ffi::OsStr::from_bytes(b"set/\xff\xfe");
    fs::create_dir_all(root.path().join(raw)).unwrap();
    assert_eq!(at(root.path(), "set").skeleton, ["a", "æøå"]);
}

#[test]
fn a_huge_tree_is_cut_at_its_deepest_and_said_to_be() {
    let root = tempfile::tempdir().unwrap();
    for i in 0..10_050 {
        fs::create_dir_all(root.path().join(format!("wide/{i:05}"))).unwrap();
    }
    let report = at(root.path(), "wide");
    assert!(report.ok && report.truncated);
    assert_eq!(report.skeleton.len(), 10_000);

    let deep = vec!["d"; 20].join("/");
    fs::create_dir_all(root.path().join("deep").join(deep)).unwrap();
    let report = at(root.path(), "deep");
    assert!(report.ok && report.truncated);
    assert_eq!(report.skeleton.len(), 16);

    let long = "n".repeat(250);
    for i in 0..60 {
        let path = root
            .path()
            .join(format!("long/{i:02}{long}/{long}/{long}/{long}"));
        fs::create_dir_all(path).unwrap();
    }
    let dataset = super::directory::open(root.path(), "long").unwrap();
    let bounds = Bounds {
        bytes: 20_000,
        ..Bounds::default()
    };
    let (skeleton, truncated) = super::skeleton::read(&dataset, bounds).unwrap();
    assert!(truncated);
    assert!(skeleton.iter().map(String::len).sum::<usize>() <= 20_000);
}

#[test]
fn a_root_that_is_not_there_is_the_operators_problem() {
    let root = tempfile::tempdir().unwrap();
    assert_eq!(at(&root.path().join("gone"), "set").code, Some(Code::ProbeFailed));
}
