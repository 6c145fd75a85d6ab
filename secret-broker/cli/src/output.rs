//! Prints answers as kubectl does. Text that others wrote cannot steer the terminal: control characters are replaced.

use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use leasehold_broker_wire::rest::{Dataset, Finding, KeyReceipt, Lease, Me, Mode, Operation, Place, Policy};
use serde::Serialize;

use crate::args::Format;

/// How one kind of thing is shown.
pub(crate) struct View<T: 'static> {
    kind: &'static str,
    name: fn(&T) -> &str,
    columns: &'static [Column<T>],
}

struct Column<T> {
    title: &'static str,
    only_wide: bool,
    cell: fn(&T, i64) -> String,
}

const fn always<T>(title: &'static str, cell: fn(&T, i64) -> String) -> Column<T> {
    Column {
        title,
        only_wide: false,
        cell,
    }
}

const fn wide<T>(title: &'static str, cell: fn(&T, i64) -> String) -> Column<T> {
    Column {
        title,
        only_wide: true,
        cell,
    }
}

pub(crate) const DATASET: View<Dataset> = View {
    kind: "dataset",
    name: |dataset| &dataset.name,
    columns: &[
        always("NAME", |dataset, _| dataset.name.clone()),
        always("OWNER", |dataset, _| dataset.owner.clone()),
        always("LEASE", |dataset, _| dataset.lease_state.clone()),
        always("WAITING", |dataset, _| dataset.waiting.to_string()),
        always("AGE", |dataset, now| span(now - dataset.created_at)),
        always("TITLE", |dataset, _| dataset.title.clone()),
        wide("LONGEST-LEASE", |dataset, _| {
            span(i64::try_from(dataset.max_ttl_seconds).unwrap_or(i64::MAX))
        }),
        wide("TERMS", |dataset, _| terms(&dataset.policy)),
        wide("FINDING", |dataset, _| finding(dataset.finding.as_ref())),
        wide("DESCRIPTION", |dataset, _| dataset.description.clone()),
        wide("ID", |dataset, _| dataset.id.clone()),
    ],
};

pub(crate) const LEASE: View<Lease> = View {
    kind: "lease",
    name: |lease| &lease.id,
    columns: &[
        always("LEASE", |lease, _| lease.id.clone()),
        always("DATASET", |lease, _| lease.dataset.clone()),
        always("STATE", |lease, _| match (&lease.end_cause, lease.place) {
            (Some(cause), _) => format!("{} ({cause})", lease.state),
            (None, Some(place)) => format!("{} ({place} in line)", lease.state),
            (None, None) => lease.state.clone(),
        }),
        always("MODE", |lease, _| mode(lease.mode).to_owned()),
        always("MOUNT", |lease, _| match lease.state.as_str() {
            "active" => lease.mount.clone(),
            _ => "-".to_owned(),
        }),
        always("EXPIRES-IN", |lease, now| match lease.state.as_str() {
            "requested" | "waiting" | "active" => span(lease.expires_at - now),
            _ => "-".to_owned(),
        }),
        wide("AGE", |lease, now| span(now - lease.asked_at)),
        always("ORGANISATION", |lease, _| lease.organisation.clone()),
        wide("CLUSTER", |lease, _| {
            lease.cluster.clone().unwrap_or_else(|| "-".to_owned())
        }),
        wide("OWNER", |lease, _| lease.owner.clone()),
        wide("TOKEN", |lease, _| lease.fencing_token.to_string()),
        wide("HOLDER", |lease, _| lease.subject.clone()),
        wide("REASON", |lease, _| {
            lease.end_reason.clone().unwrap_or_else(|| "-".to_owned())
        }),
        wide("FINDING", |lease, _| finding(lease.finding.as_ref())),
    ],
};

pub(crate) const PLACE: View<Place> = View {
    kind: "lease",
    name: |place| place.lease.as_deref().unwrap_or("-"),
    columns: &[
        always("PLACE", |place, _| place.place.to_string()),
        always("MODE", |place, _| mode(place.mode).to_owned()),
        always("KEPT-FOR", |place, now| {
            place.kept_until.map_or("-".to_owned(), |until| span(until - now))
        }),
        always("LEASE", |place, _| {
            place.lease.clone().unwrap_or_else(|| "-".to_owned())
        }),
    ],
};

pub(crate) const RECEIPT: View<KeyReceipt> = View {
    kind: "receipt",
    name: |receipt| &receipt.wrapped_sha256,
    columns: &[
        always("DATASET", |receipt, _| receipt.dataset.clone()),
        always("VERSION", |receipt, _| receipt.version.to_string()),
        always("REASON", |receipt, _| receipt.reason.clone()),
        always("BLOCK", |receipt, _| {
            receipt
                .ledger_height
                .map_or_else(|| "-".to_owned(), |height| height.to_string())
        }),
        always("AGE", |receipt, now| span(now - receipt.destroyed_at)),
        wide("TRANSACTION", |receipt, _| {
            receipt.transaction.clone().unwrap_or_else(|| "-".to_owned())
        }),
        wide("WRAPPED-BY", |receipt, _| receipt.key_encryption_key.to_string()),
        wide("SHA-256", |receipt, _| receipt.wrapped_sha256.clone()),
    ],
};

pub(crate) const OPERATION: View<Operation> = View {
    kind: "operation",
    name: |operation| &operation.id,
    columns: &[
        always("OPERATION", |operation, _| operation.id.clone()),
        always("KIND", |operation, _| operation.kind.clone()),
        always("STATUS", |operation, _| operation.status.clone()),
        always("AGE", |operation, now| span(now - operation.created_at)),
        always("PROBLEM", |operation, _| match &operation.problem {
            Some(problem) => format!("{} ({})", problem.detail, problem.code()),
            None => "-".to_owned(),
        }),
        wide("RESULT", |operation, _| {
            operation
                .result
                .as_ref()
                .map_or("-".to_owned(), ToString::to_string)
        }),
    ],
};

pub(crate) const ME: View<Me> = View {
    kind: "subject",
    name: |me| &me.subject,
    columns: &[
        always("SUBJECT", |me, _| me.subject.clone()),
        always("ISSUER", |me, _| me.issuer.clone()),
        always("USERNAME", |me, _| {
            me.username.clone().unwrap_or_else(|| "-".to_owned())
        }),
        always("ROLES", |me, _| me.roles.join(",")),
        always("ORGANISATION", |me, _| me.organisation.clone()),
    ],
};

/// Prints a list; `{"items": […]}` in JSON and YAML.
pub(crate) fn list<T: Serialize>(
    out: &mut dyn Write,
    format: Format,
    items: &[T],
    view: &View<T>,
    none: &str,
) -> io::Result<()> {
    match format {
        Format::Json | Format::Yaml => document(out, format, &serde_json::json!({ "items": items })),
        Format::Name => items.iter().try_for_each(|item| name_line(out, item, view)),
        Format::Table | Format::Wide if items.is_empty() => writeln!(out, "{none}"),
        Format::Table | Format::Wide => table(out, format, items, view),
    }
}

/// Prints one thing as a row.
pub(crate) fn row<T: Serialize>(
    out: &mut dyn Write,
    format: Format,
    item: &T,
    view: &View<T>,
) -> io::Result<()> {
    match format {
        Format::Json | Format::Yaml => document(out, format, item),
        Format::Name => name_line(out, item, view),
        Format::Table | Format::Wide => table(out, format, std::slice::from_ref(item), view),
    }
}

/// Prints one thing that changed as a row below those before.
pub(crate) fn update<T: Serialize>(
    out: &mut dyn Write,
    format: Format,
    item: &T,
    view: &View<T>,
) -> io::Result<()> {
    match format {
        Format::Table | Format::Wide => rows(out, format, std::slice::from_ref(item), view, false),
        _ => row(out, format, item, view),
    }
}

/// Prints everything about one thing, a line each.
pub(crate) fn details<T: Serialize>(
    out: &mut dyn Write,
    format: Format,
    item: &T,
    view: &View<T>,
) -> io::Result<()> {
    if !matches!(format, Format::Table | Format::Wide) {
        return row(out, format, item, view);
    }
    let width = view
        .columns
        .iter()
        .map(|column| column.title.len())
        .max()
        .unwrap_or_default();
    let now = now();
    for column in view.columns {
        let label = format!("{}:", column.title.to_lowercase());
        let value = printable(&(column.cell)(item, now));
        let value = value.replace('\n', &format!("\n{:indent$}", "", indent = width + 2));
        writeln!(out, "{label:indent$}{value}", indent = width + 2)?;
    }
    Ok(())
}

fn name_line<T>(out: &mut dyn Write, item: &T, view: &View<T>) -> io::Result<()> {
    writeln!(out, "{}/{}", view.kind, one_line((view.name)(item)))
}

fn document(out: &mut dyn Write, format: Format, value: &impl Serialize) -> io::Result<()> {
    if format == Format::Yaml {
        return write!(out, "{}", serde_yaml::to_string(value).map_err(io::Error::other)?);
    }
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)
}

fn table<T>(out: &mut dyn Write, format: Format, items: &[T], view: &View<T>) -> io::Result<()> {
    rows(out, format, items, view, true)
}

/// As wide as their cells and titles, whether these are printed or not.
fn rows<T>(
    out: &mut dyn Write,
    format: Format,
    items: &[T],
    view: &View<T>,
    with_titles: bool,
) -> io::Result<()> {
    let now = now();
    let columns: Vec<_> = view
        .columns
        .iter()
        .filter(|column| format == Format::Wide || !column.only_wide)
        .collect();
    let mut rows = vec![
        columns
            .iter()
            .map(|column| column.title.to_owned())
            .collect::<Vec<_>>(),
    ];
    rows.extend(items.iter().map(|item| {
        columns
            .iter()
            .map(|column| one_line(&(column.cell)(item, now)))
            .collect::<Vec<_>>()
    }));
    let widths: Vec<usize> = (0..columns.len())
        .map(|at| {
            rows.iter()
                .filter_map(|row| row.get(at))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or_default()
        })
        .collect();
    for row in rows.iter().skip(usize::from(!with_titles)) {
        let line = row
            .iter()
            .zip(&widths)
            .fold(String::new(), |line, (cell, width)| {
                let padding = " ".repeat(width.saturating_sub(cell.chars().count()) + 3);
                line + cell + &padding
            });
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Exclusive => "exclusive",
        Mode::Shared => "shared",
    }
}

/// A line that says on which terms a dataset is leased; what is usual is left out.
fn terms(policy: &Policy) -> String {
    let mut said = Vec::new();
    if policy.exclusive == Some(true) {
        said.push("exclusive".to_owned());
    }
    if let Some(most @ 1..) = policy.most_shared {
        said.push(format!("shared by up to {most}"));
    }
    if let Some(most @ 1..) = policy.most_waiting {
        said.push(format!("up to {most} wait"));
    }
    if policy.approve_leases == Some(true) {
        said.push("approved by its owner".to_owned());
    }
    match policy.organisations.as_deref() {
        Some([all]) if all == "*" => {}
        None => {}
        Some([]) => said.push("for its owner's people".to_owned()),
        Some(names) => said.push(format!("for people of its owner and {}", names.join(", "))),
    }
    said.join("; ")
}

fn finding(finding: Option<&Finding>) -> String {
    finding.map_or_else(
        || "-".to_owned(),
        |finding| format!("{} ({})", finding.message, finding.code),
    )
}

/// Two largest units, as kubectl's ages: `59s`, `2m5s`, `3h20m`, `5d2h`.
fn span(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let two = |large: i64, large_unit: char, small: i64, small_unit: char| match small {
        0 => format!("{large}{large_unit}"),
        _ => format!("{large}{large_unit}{small}{small_unit}"),
    };
    match seconds {
        ..60 => format!("{seconds}s"),
        60..3600 => two(minutes, 'm', seconds % 60, 's'),
        3600..86_400 => two(hours, 'h', minutes, 'm'),
        _ => two(days, 'd', hours, 'h'),
    }
}

fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| i64::try_from(elapsed.as_secs()).unwrap_or(i64::MAX))
}

/// Characters that are not seen and change how others are read (Unicode's Cf): a text with them may look like another one.
fn is_format(char: char) -> bool {
    matches!(
        char,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
    )
}

/// Without control characters but newlines, and without those that hide.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|char| {
            if (char.is_control() && char != '\n') || is_format(char) {
                '\u{fffd}'
            } else {
                char
            }
        })
        .collect()
}

/// The same on one line.
pub(crate) fn one_line(text: &str) -> String {
    printable(text).replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_show_two_units() {
        for (seconds, text) in [
            (-5, "0s"),
            (59, "59s"),
            (60, "1m"),
            (125, "2m5s"),
            (7200, "2h"),
            (12_000, "3h20m"),
            (439_200, "5d2h"),
        ] {
            assert_eq!(span(seconds), text);
        }
    }

    #[test]
    fn a_title_cannot_steer_the_terminal() {
        assert_eq!(
            one_line("a\x1b[2Jb\nc\r\u{9b}d"),
            "a\u{fffd}[2Jb c\u{fffd}\u{fffd}d"
        );
        assert_eq!(one_line("a\u{202e}b\u{200b}é"), "a\u{fffd}b\u{fffd}é");
    }
}
