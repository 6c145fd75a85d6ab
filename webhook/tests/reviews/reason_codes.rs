//! The documentation of reason codes and the enum are the same list.

use leasehold_webhook::review::Reason;

#[test]
fn the_documentation_lists_every_code_with_its_status_in_order() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/security/reason-codes.md");
    let documented: Vec<(String, u16)> = std::fs::read_to_string(path)
        .unwrap()
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split('|').map(str::trim);
            let code = cells.next()?.trim_end_matches('`').to_owned();
            Some((code, cells.next()?.parse().ok()?))
        })
        .collect();
    let real: Vec<(String, u16)> = Reason::ALL
        .iter()
        .map(|reason| (reason.code().to_owned(), reason.status()))
        .collect();
    assert_eq!(documented, real);
}

#[test]
fn only_what_may_heal_by_waiting_is_429() {
    let waiting: Vec<&str> = Reason::ALL
        .iter()
        .filter(|reason| reason.status() == 429)
        .map(|reason| reason.code())
        .collect();
    assert_eq!(
        waiting,
        [
            "mount_pending",
            "broker_unreachable",
            "lookup_failed",
            "views_disagree",
            "overloaded"
        ]
    );
}
