//! What the skeleton promises, on real directories.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;

fn skeleton(dataset: &str, directories: &[&str]) -> Skeleton {
    Skeleton {
        lease: "00".to_owned(),
        dataset: dataset.to_owned(),
        directories: directories.iter().map(|&path| path.to_owned()).collect(),
    }
}

fn home() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn directories_appear_with_the_lease_and_go_with_it() {
    let home = home();
    let report = sync(home.path(), &[skeleton("uis", &["a", "a/b", "a/b/c", "d e/ü"])]).unwrap();
    assert_eq!((report.laid, report.removed, report.problems.len()), (1, 0, 0));
    for path in ["uis/a/b/c", "uis/d e/ü"] {
        let metadata = std::fs::metadata(home.path().join("datasets").join(path)).unwrap();
        assert!(metadata.is_dir());
        assert_eq!(metadata.permissions().mode() & 0o777, 0o755);
    }
    sync(home.path(), &[skeleton("uis", &["a", "a/b", "a/b/c", "d e/ü"])]).unwrap();
    let report = sync(home.path(), &[]).unwrap();
    assert_eq!(report.removed, 1);
    assert!(!home.path().join("datasets/uis").exists());
}

#[test]
fn what_a_person_made_or_filled_stays() {
    let home = home();
    std::fs::create_dir_all(home.path().join("datasets/mine/empty")).unwrap();
    sync(
        home.path(),
        &[skeleton("uis", &["a", "b"]), skeleton("mine", &["x"])],
    )
    .unwrap();
    std::fs::write(home.path().join("datasets/uis/a/notes.txt"), "mine").unwrap();
    let report = sync(home.path(), &[]).unwrap();
    assert_eq!(report.removed, 0);
    assert!(home.path().join("datasets/uis/a/notes.txt").exists());
    assert!(home.path().join("datasets/mine/empty").is_dir());
    std::fs::remove_file(home.path().join("datasets/uis/a/notes.txt")).unwrap();
    assert_eq!(
        sync(home.path(), &[]).unwrap().removed,
        1,
        "the emptied tree is still ours to remove"
    );
}

#[test]
fn no_link_leads_out_of_the_home() {
    let outside = home();
    let home = home();
    std::fs::create_dir(home.path().join("datasets")).unwrap();
    symlink(outside.path(), home.path().join("datasets/linked")).unwrap();
    std::fs::create_dir(home.path().join("datasets/inner")).unwrap();
    symlink(outside.path(), home.path().join("datasets/inner/a")).unwrap();
    std::fs::write(outside.path().join("list"), "kept\n").unwrap();
    let report = sync(
        home.path(),
        &[skeleton("linked", &["x"]), skeleton("inner", &["a", "a/x", "b"])],
    )
    .unwrap();
    assert_eq!(report.problems.len(), 3, "{:?}", report.problems);
    assert!(home.path().join("datasets/inner/b").is_dir());
    assert_eq!(
        std::fs::read_dir(outside.path()).unwrap().count(),
        1,
        "something was made outside"
    );

    std::fs::create_dir(outside.path().join("kept")).unwrap();
    std::fs::remove_file(home.path().join(".leasehold-datasets")).unwrap();
    symlink(
        outside.path().join("list"),
        home.path().join(".leasehold-datasets"),
    )
    .unwrap();
    assert_eq!(sync(home.path(), &[]).unwrap().problems.len(), 1);
    assert_eq!(
        std::fs::read_to_string(outside.path().join("list")).unwrap(),
        "kept\n"
    );

    let other = self::home();
    symlink(outside.path(), other.path().join("datasets")).unwrap();
    assert!(sync(other.path(), &[skeleton("uis", &["x"])]).is_err());
    assert!(!outside.path().join("uis").exists());
}

#[test]
fn a_listed_link_is_not_pruned_through() {
    let outside = home();
    std::fs::create_dir(outside.path().join("empty")).unwrap();
    let home = home();
    sync(home.path(), &[skeleton("uis", &[])]).unwrap();
    std::fs::remove_dir(home.path().join("datasets/uis")).unwrap();
    symlink(outside.path(), home.path().join("datasets/uis")).unwrap();
    assert_eq!(sync(home.path(), &[]).unwrap().removed, 0);
    assert!(outside.path().join("empty").is_dir());
}

#[test]
fn hostile_names_make_nothing() {
    let home = home();
    for name in ["", ".", "..", "a/b", "/etc", "-a", "A", "ü", ".leasehold"] {
        let report = sync(home.path(), &[skeleton(name, &["x"])]).unwrap();
        assert_eq!(report.problems.len(), 1, "{name}");
    }
    let long = format!("a/{}", "x".repeat(256));
    let deep = vec!["d"; MAX_DEPTH + 1].join("/");
    let hostile = [
        "..",
        "../x",
        "a/../../x",
        "/etc",
        "",
        "a//b",
        "a/.",
        "a\0b",
        &long,
        &deep,
    ];
    for path in hostile {
        let report = sync(home.path(), &[skeleton("uis", &[path])]).unwrap();
        assert_eq!(report.problems.len(), 1, "{path:?}");
    }
    assert_eq!(
        std::fs::read_dir(home.path()).unwrap().count(),
        2,
        "datasets and the list"
    );
    assert_eq!(
        std::fs::read_dir(home.path().join("datasets/uis"))
            .unwrap()
            .count(),
        0
    );
    assert!(components(&vec!["d"; MAX_DEPTH].join("/")).is_some());
}
