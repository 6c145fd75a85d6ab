//! Reads what the contract's sources say of their types: names, documentation, fields.

use std::iter::Peekable;
use std::str::Lines;

/// An enum's variant, or a struct, with its fields; or a constant.
#[derive(Debug, Clone, Default)]
pub struct Item {
    pub name: String,
    /// In JSON, where it is said.
    pub word: Option<String>,
    pub doc: String,
    pub fields: Vec<Field>,
    /// The one type that a variant without fields' names holds.
    pub holds: Option<String>,
}

#[derive(Debug, Clone)]
pub struct Field {
    pub name: String,
    pub kind: String,
    pub doc: String,
    pub optional: bool,
}

/// The variants of an enum.
pub fn variants(source: &str, name: &str) -> Vec<Item> {
    let body = body(source, &format!("pub enum {name} {{"));
    let mut lines = body.lines().peekable();
    let (mut items, mut doc, mut word) = (Vec::new(), String::new(), None);
    while let Some(line) = lines.next() {
        let text = line.trim();
        if let Some(said) = text.strip_prefix("///") {
            add(&mut doc, said);
        } else if text.starts_with("#[") {
            word = renamed(text).or(word);
            skip_attribute(text, &mut lines);
        } else if text.starts_with(|c: char| c.is_ascii_uppercase()) {
            let name: String = text.chars().take_while(char::is_ascii_alphanumeric).collect();
            let holds = text.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')'));
            items.push(Item {
                name,
                word: word.take(),
                doc: std::mem::take(&mut doc),
                fields: if text.ends_with('{') {
                    fields(&mut lines, "    }")
                } else {
                    Vec::new()
                },
                holds: holds.map(|(kind, _)| kind.to_owned()),
            });
        }
    }
    items
}

/// A struct with its fields, that begins so.
pub fn structure(source: &str, start: &str) -> Item {
    let body = body(source, start);
    Item {
        doc: doc_of(source, start),
        fields: fields(&mut body.lines().peekable(), "}"),
        ..Item::default()
    }
}

/// How an enum is told in JSON: by a field of this name, or by its word alone; none where it is a text of its own.
pub fn enumeration(source: &str, start: &str) -> Option<Option<String>> {
    let (before, _) = source.split_once(start).unwrap_or_default();
    let attributes = before.lines().rev().take_while(|line| line.starts_with("#["));
    let attributes: String = attributes.collect();
    if attributes.contains("try_from") {
        return None;
    }
    let tag = attributes
        .split_once("tag = \"")
        .and_then(|(_, rest)| rest.split('"').next());
    Some(tag.map(str::to_owned))
}

/// A checked text: what is said of it, and how it looks.
pub fn named_text(source: &str, name: &str) -> Option<(String, String)> {
    let texts = source.split("checked_text!(").skip(1);
    let mut texts = texts.filter_map(|text| {
        let (doc, rest) = text.split_once(&format!("\n    {name},\n"))?;
        let mut said = String::new();
        doc.lines()
            .filter_map(|line| line.trim().strip_prefix("///"))
            .for_each(|line| add(&mut said, line));
        let looks = rest.split('"').nth(3)?;
        // Of the very next one.
        (!doc.contains(");")).then(|| (said, looks.to_owned()))
    });
    texts.next()
}

fn renamed(attribute: &str) -> Option<String> {
    let (_, rest) = attribute.split_once("rename = \"")?;
    rest.split('"').next().map(str::to_owned)
}

/// Constants: their names, values and documentation.
pub fn constants(source: &str) -> Vec<(String, String, String)> {
    let (mut found, mut doc) = (Vec::new(), String::new());
    for line in source.lines() {
        if let Some(said) = line.strip_prefix("///") {
            add(&mut doc, said);
        } else if let Some(constant) = line.strip_prefix("pub const ") {
            let (name, rest) = constant.split_once(':').unwrap_or((constant, ""));
            let value = rest.split_once('=').map_or("", |(_, value)| value);
            let value = value.trim().trim_end_matches(';').to_owned();
            found.push((name.to_owned(), value, std::mem::take(&mut doc)));
        }
    }
    found
}

/// As it is written in JSON.
pub fn snake_case(word: &str) -> String {
    let mut text = String::new();
    for letter in word.chars() {
        if letter.is_ascii_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.push(letter.to_ascii_lowercase());
    }
    text
}

fn body<'a>(source: &'a str, start: &str) -> &'a str {
    let (_, after) = source
        .split_once(start)
        .unwrap_or_else(|| panic!("no `{start}` in the source"));
    after.split("\n}").next().unwrap_or_default()
}

/// What is said of what begins so.
pub fn doc_of(source: &str, start: &str) -> String {
    let (before, _) = source.split_once(start).unwrap_or_default();
    let said = before.lines().rev().skip_while(|line| line.starts_with("#["));
    let mut said: Vec<_> = said.map_while(|line| line.strip_prefix("///")).collect();
    said.reverse();
    let mut doc = String::new();
    said.into_iter().for_each(|line| add(&mut doc, line));
    doc
}

fn fields(lines: &mut Peekable<Lines<'_>>, end: &str) -> Vec<Field> {
    let (mut fields, mut doc, mut optional) = (Vec::new(), String::new(), false);
    let mut word = None;
    while let Some(line) = lines.next() {
        if line.starts_with(end) {
            break;
        }
        let text = line.trim();
        if let Some(said) = text.strip_prefix("///") {
            add(&mut doc, said);
        } else if text.starts_with("#[") {
            optional |= text.contains("serde(default");
            word = renamed(text).or(word);
            skip_attribute(text, lines);
        } else if let Some((name, kind)) = text.trim_start_matches("pub ").split_once(": ") {
            fields.push(Field {
                name: word.take().unwrap_or_else(|| name.to_owned()),
                kind: kind.trim_end_matches(',').to_owned(),
                doc: std::mem::take(&mut doc),
                optional: std::mem::take(&mut optional),
            });
        }
    }
    fields
}

fn skip_attribute(first: &str, lines: &mut Peekable<Lines<'_>>) {
    let mut last = first;
    while !last.ends_with(']') {
        match lines.next() {
            Some(line) => last = line.trim(),
            None => return,
        }
    }
}

fn add(doc: &mut String, said: &str) {
    if !doc.is_empty() {
        doc.push(' ');
    }
    doc.push_str(said.trim());
}
