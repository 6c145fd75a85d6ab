//! The types that commands take and answers give, as far as they lead to each other: each is defined, or there is no reference.

use crate::bounds::bounds;
use crate::source::{Item, doc_of, enumeration, named_text, snake_case, structure, variants};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Of the standard library.
const KNOWN: [&str; 5] = ["Option", "Vec", "Box", "BTreeSet", "String"];

const SOURCES: [&str; 10] = [
    include_str!("../../../src/command.rs"),
    include_str!("../../../src/contract.rs"),
    include_str!("../../../src/event.rs"),
    include_str!("../../../src/query.rs"),
    include_str!("../../../src/question.rs"),
    include_str!("../../../src/record/dataset.rs"),
    include_str!("../../../src/record/lease.rs"),
    include_str!("../../../src/record/organisation.rs"),
    include_str!("../../../src/record/trace.rs"),
    IDS,
];
const IDS: &str = include_str!("../../../src/id.rs");

/// What a type is.
enum Definition {
    Fields(Item),
    /// With the field that has the variant's word, where there is one.
    OneOf(String, Option<String>, Vec<Item>),
    /// A text, and how it looks.
    Text(String, String),
    /// It is elsewhere in the reference.
    Elsewhere(String),
}

/// Types that were mentioned, each once.
#[derive(Default)]
pub struct Types {
    defined: BTreeSet<String>,
    wanted: Vec<String>,
}

impl Types {
    /// Notes every type in some text of Rust.
    pub fn mention(&mut self, text: &str) {
        for word in text.split(|letter: char| !letter.is_ascii_alphanumeric()) {
            let is_type = word.starts_with(|letter: char| letter.is_ascii_uppercase())
                && word.contains(|letter: char| letter.is_ascii_lowercase());
            if is_type && !KNOWN.contains(&word) && self.defined.insert(word.to_owned()) {
                self.wanted.push(word.to_owned());
            }
        }
    }

    pub fn mention_fields(&mut self, items: &[Item]) {
        for item in items {
            item.fields.iter().for_each(|field| self.mention(&field.kind));
            item.holds.iter().for_each(|kind| self.mention(kind));
        }
    }

    /// Defines what was mentioned since, and what that mentions. Bounds are told of what callers send.
    ///
    /// # Panics
    /// Where a type has no definition, or something that is sent no bounds.
    pub fn define(&mut self, text: &mut String, sent: bool) {
        while !self.wanted.is_empty() {
            for name in std::mem::take(&mut self.wanted) {
                self.write(text, &name, sent);
            }
        }
    }

    fn write(&mut self, text: &mut String, name: &str, sent: bool) {
        let _ = write!(text, "\n### {name}\n");
        match definition(name) {
            Definition::Elsewhere(said) => {
                let _ = writeln!(text, "{said}");
            }
            Definition::Text(doc, looks) => {
                let _ = write!(text, "{doc}\n\nA text: {looks}.\n");
            }
            Definition::Fields(item) => {
                let _ = write!(text, "{}\n\n", item.doc);
                self.write_fields(text, &item, name, sent);
            }
            Definition::OneOf(doc, tag, variants) => {
                let _ = writeln!(text, "{doc}");
                for item in variants {
                    let word = item.word.clone().unwrap_or_else(|| snake_case(&item.name));
                    let (said, holds) = (&item.doc, item.holds.as_deref());
                    let _ = match (&tag, holds) {
                        (Some(tag), _) => write!(text, "\n`\"{tag}\": \"{word}\"` {said}\n"),
                        (None, Some(kind)) => write!(text, "\n`{{\"{word}\": {kind}}}` {said}\n"),
                        (None, None) => write!(text, "\n`\"{word}\"` {said}\n"),
                    };
                    if let Some(kind) = holds {
                        if sent {
                            let _ = writeln!(text, "Bounds: {}.", bounds(name, &word));
                        }
                        self.mention(kind);
                    }
                    if !item.fields.is_empty() {
                        text.push('\n');
                        self.write_fields(text, &item, name, sent);
                    }
                }
            }
        }
    }

    /// The fields of a command, or of a type.
    pub fn write_fields(&mut self, text: &mut String, item: &Item, of: &str, sent: bool) {
        if item.fields.is_empty() {
            return;
        }
        let (column, line) = if sent { (" bounds |", "---|") } else { ("", "") };
        let _ = write!(text, "| field | type |{column} |\n|---|---|{line}---|\n");
        for field in &item.fields {
            let optional = if field.optional { "may be left out; " } else { "" };
            let _ = write!(text, "| `{}` | `{}` | ", field.name, field.kind);
            if sent {
                let said = if is_bounded_here(&field.kind) {
                    bounds(of, &field.name)
                } else {
                    String::new()
                };
                self.mention_said(&said);
                let _ = write!(text, "{said} | ");
            }
            let _ = writeln!(text, "{optional}{} |", field.doc);
            self.mention(&field.kind);
        }
    }

    /// Types between backticks.
    fn mention_said(&mut self, said: &str) {
        for (at, part) in said.split('`').enumerate() {
            if at % 2 == 1 {
                self.mention(part);
            }
        }
    }
}

/// Whether a field's bounds do not follow from its type alone.
fn is_bounded_here(kind: &str) -> bool {
    let words: Vec<_> = kind
        .split(|letter: char| !letter.is_ascii_alphanumeric())
        .collect();
    ["String", "Vec", "u16", "u32", "u64", "i64"]
        .iter()
        .any(|bounded| words.contains(bounded))
}

fn definition(name: &str) -> Definition {
    match name {
        "EventKind" => {
            return Definition::Elsewhere(
                "One of the [events](#events): its word as `event`, and what it says besides.".to_owned(),
            );
        }
        "T" => panic!("a type that has no name"),
        _ => {}
    }
    if let Some((doc, looks)) = named_text(IDS, name) {
        return Definition::Text(doc, looks);
    }
    for source in SOURCES {
        for start in [
            format!("pub struct {name} {{"),
            format!("pub struct {name}<T> {{"),
        ] {
            if source.contains(&start) {
                return Definition::Fields(structure(source, &start));
            }
        }
        if source.contains(&format!("pub struct {name}(")) {
            let doc = doc_of(source, &format!("pub struct {name}("));
            return Definition::Text(doc, bounds(name, ""));
        }
        let start = format!("pub enum {name} {{");
        if source.contains(&start) {
            let shape = enumeration(source, &start);
            let doc = doc_of(source, &start);
            return match shape {
                None => Definition::Text(doc, bounds(name, "")),
                Some(tag) => Definition::OneOf(doc, tag, variants(source, name)),
            };
        }
    }
    panic!("{name} is mentioned, and no source of the reference defines it")
}
