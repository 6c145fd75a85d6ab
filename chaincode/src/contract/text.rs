//! Bounds of what people write.

use crate::command::Ciphertext;
use crate::limit;
use crate::record::{Admission, Code, Creator, Digest, Finding, Metadata, Pod, Policy, PublicKey, Resource};
use crate::refusal::Refusal;

/// Refuses a text of more than `chars` characters without counting all of a huge one.
pub(super) fn bounded(field: &str, text: &str, chars: usize) -> Result<(), Refusal> {
    if text.chars().nth(chars).is_some() {
        return Err(Refusal::invalid(
            field,
            format!("expected at most {chars} characters"),
        ));
    }
    Ok(())
}

/// One line that says something.
pub(super) fn line(field: &str, text: &str, chars: usize) -> Result<(), Refusal> {
    bounded(field, text, chars)?;
    if text.trim().is_empty() || text.chars().any(char::is_control) {
        return Err(Refusal::invalid(
            field,
            "expected one line of text without control characters",
        ));
    }
    Ok(())
}

fn at_most(field: &str, entries: usize) -> Result<(), Refusal> {
    if entries <= limit::LIST_ENTRIES {
        return Ok(());
    }
    let reason = format!("expected at most {} entries", limit::LIST_ENTRIES);
    Err(Refusal::invalid(field, reason))
}

fn lines(field: &str, texts: &[String]) -> Result<(), Refusal> {
    at_most(field, texts.len())?;
    texts
        .iter()
        .try_for_each(|text| line(field, text, limit::LIST_ENTRY_CHARS))
}

/// An owner's reason, which others read.
pub(super) fn reason(text: &str) -> Result<(), Refusal> {
    line("reason", text, limit::REASON_CHARS)
}

pub(super) fn metadata(metadata: &Metadata) -> Result<(), Refusal> {
    line("metadata.title", &metadata.title, limit::TITLE_CHARS)?;
    let description = &metadata.description;
    bounded("metadata.description", description, limit::DESCRIPTION_CHARS)?;
    let is_text = |c: char| !c.is_control() || matches!(c, '\n' | '\r' | '\t');
    if !description.chars().all(is_text) {
        return Err(Refusal::invalid(
            "metadata.description",
            "expected text without control characters",
        ));
    }
    lines("metadata.keywords", &metadata.keywords)?;
    lines("metadata.identifiers", &metadata.identifiers)?;
    lines("metadata.formats", &metadata.formats)?;
    creators("metadata.creators", &metadata.creators)?;
    for (field, text) in [
        ("metadata.licence", &metadata.licence),
        ("metadata.publisher", &metadata.publisher),
        ("metadata.version", &metadata.version),
        ("metadata.language", &metadata.language),
    ] {
        if let Some(text) = text {
            line(field, text, limit::LIST_ENTRY_CHARS)?;
        }
    }
    if metadata
        .publication_year
        .is_some_and(|year| !(1000..=9999).contains(&year))
    {
        return Err(Refusal::invalid(
            "metadata.publication_year",
            "expected a year of four digits",
        ));
    }
    match &metadata.content_digest {
        Some(content) => digest("metadata.content_digest", content),
        None => Ok(()),
    }
}

fn creators(field: &str, creators: &[Creator]) -> Result<(), Refusal> {
    at_most(field, creators.len())?;
    for creator in creators {
        line(field, &creator.name, limit::LIST_ENTRY_CHARS)?;
        for text in [&creator.identifier, &creator.affiliation].into_iter().flatten() {
            line(field, text, limit::LIST_ENTRY_CHARS)?;
        }
    }
    Ok(())
}

pub(super) fn policy(policy: &Policy) -> Result<(), Refusal> {
    let seconds = limit::MIN_TTL_SECONDS..=limit::MAX_TTL_SECONDS;
    for (field, value) in [
        ("policy.max_ttl_seconds", policy.max_ttl_seconds),
        ("policy.place_seconds", policy.place_seconds),
    ] {
        if !seconds.contains(&value) {
            let reason = format!("expected {} to {} seconds", seconds.start(), seconds.end());
            return Err(Refusal::invalid(field, reason));
        }
    }
    if !policy.exclusive && policy.most_shared == 0 {
        return Err(Refusal::invalid(
            "policy.most_shared",
            "expected 1 or more where there are no exclusive leases",
        ));
    }
    for (field, value, most) in [
        ("policy.most_shared", policy.most_shared, limit::MOST_SHARED),
        ("policy.most_waiting", policy.most_waiting, limit::MOST_WAITING),
    ] {
        if value > most {
            return Err(Refusal::invalid(field, format!("expected at most {most}")));
        }
    }
    if let Admission::Only(organisations) = &policy.organisations
        && organisations.len() > limit::POLICY_ORGANISATIONS
    {
        let reason = format!("expected at most {} organisations", limit::POLICY_ORGANISATIONS);
        return Err(Refusal::invalid("policy.organisations", reason));
    }
    lines("policy.groups", &policy.groups)
}

pub(super) fn groups(groups: &[String]) -> Result<(), Refusal> {
    lines("groups", groups)
}

pub(super) fn digest(field: &str, digest: &Digest) -> Result<(), Refusal> {
    if is_lower_hex(&digest.value, digest.hash_type.digits()) {
        return Ok(());
    }
    let reason = format!(
        "expected {} lower-case hexadecimal digits",
        digest.hash_type.digits()
    );
    Err(Refusal::invalid(field, reason))
}

pub(super) fn code(code: &Code) -> Result<(), Refusal> {
    for (field, value) in [
        ("code.image_sha256", &code.image_sha256),
        ("code.command_sha256", &code.command_sha256),
    ] {
        if !is_lower_hex(value, 64) {
            return Err(Refusal::invalid(
                field,
                "expected 64 lower-case hexadecimal digits",
            ));
        }
    }
    Ok(())
}

pub(super) fn finding(finding: &Finding) -> Result<(), Refusal> {
    let code = finding.code.as_bytes();
    let is_code = !code.is_empty()
        && code.len() <= limit::FINDING_CODE_CHARS
        && code
            .iter()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'_');
    if !is_code {
        let reason = "expected 1 to 64 lower-case letters, digits or underscores";
        return Err(Refusal::invalid("finding.code", reason));
    }
    bounded("finding.message", &finding.message, limit::FINDING_MESSAGE_CHARS)?;
    if finding.message.chars().any(char::is_control) {
        return Err(Refusal::invalid(
            "finding.message",
            "expected one line without control characters",
        ));
    }
    Ok(())
}

/// Encrypted volume details and the version of their key, which never falls.
pub(super) fn volume(ciphertext: &Ciphertext, key_version: u32, least: u32) -> Result<(), Refusal> {
    if !is_base64(&ciphertext.0) {
        let reason = format!(
            "expected 4 to {} characters of padded base64",
            limit::CIPHERTEXT_CHARS
        );
        return Err(Refusal::invalid("volume_ciphertext", reason));
    }
    if key_version < least {
        return Err(Refusal::invalid(
            "key_version",
            format!("expected {least} or more"),
        ));
    }
    Ok(())
}

/// What an organisation calls a trace.
pub(super) fn trace_key(key: &str) -> Result<(), Refusal> {
    let is_key =
        (1..=limit::TRACE_KEY_CHARS).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic());
    if is_key {
        return Ok(());
    }
    let reason = format!(
        "expected 1 to {} visible ASCII characters",
        limit::TRACE_KEY_CHARS
    );
    Err(Refusal::invalid("key", reason))
}

/// At least one line, and none of them twice.
pub(super) fn several(field: &str, texts: &[String]) -> Result<(), Refusal> {
    lines(field, texts)?;
    if texts.is_empty() {
        return Err(Refusal::invalid(field, "expected at least one entry"));
    }
    once(field, texts.iter().map(String::as_str))
}

/// Contents by digest, each under an id of its own.
pub(super) fn resources(field: &str, resources: &[Resource]) -> Result<(), Refusal> {
    at_most(field, resources.len())?;
    for resource in resources {
        line(field, &resource.id, limit::LIST_ENTRY_CHARS)?;
        digest(field, &resource.digest)?;
    }
    once(field, resources.iter().map(|resource| resource.id.as_str()))
}

/// At least one pod, and none of them twice.
pub(super) fn pods(field: &str, pods: &[Pod]) -> Result<(), Refusal> {
    at_most(field, pods.len())?;
    for pod in pods {
        let uid = pod.uid.as_bytes();
        let is_uid = (1..=limit::POD_UID_CHARS).contains(&uid.len())
            && uid.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-');
        if !is_uid {
            let reason = "expected a UID of 1 to 64 letters, digits or hyphens";
            return Err(Refusal::invalid(field, reason));
        }
        code(&pod.code)?;
    }
    if pods.is_empty() {
        return Err(Refusal::invalid(field, "expected at least one pod"));
    }
    once(field, pods.iter().map(|pod| pod.uid.as_str()))
}

fn once<'a>(field: &str, mut ids: impl Iterator<Item = &'a str>) -> Result<(), Refusal> {
    let mut seen = std::collections::BTreeSet::new();
    if ids.all(|id| seen.insert(id)) {
        return Ok(());
    }
    Err(Refusal::invalid(field, "expected each entry once"))
}

/// Where a broker answers: an https origin, without user, path, query or fragment.
pub(super) fn broker(address: &str) -> Result<(), Refusal> {
    if is_origin(address) {
        return Ok(());
    }
    let reason = format!(
        "expected https://host or https://host:port, at most {} characters",
        limit::ADDRESS_CHARS
    );
    Err(Refusal::invalid("broker", reason))
}

fn is_origin(address: &str) -> bool {
    let Some(authority) = address
        .strip_prefix("https://")
        .filter(|_| address.len() <= limit::ADDRESS_CHARS)
    else {
        return false;
    };
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) if host.parse::<std::net::Ipv6Addr>().is_ok() => ("ipv6", port),
        Some(_) => return false,
        None => authority
            .find(':')
            .map_or((authority, ""), |colon| authority.split_at(colon)),
    };
    let is_host = host.split('.').all(|label| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    });
    let is_port = port.is_empty()
        || port
            .strip_prefix(':')
            .is_some_and(|digits| !digits.starts_with('+') && digits.parse().is_ok_and(|port: u16| port > 0));
    is_host && is_port
}

/// Public keys, each under an id of its own.
pub(super) fn keys(keys: &[PublicKey]) -> Result<(), Refusal> {
    if keys.len() > limit::PUBLIC_KEYS {
        let reason = format!("expected at most {} keys", limit::PUBLIC_KEYS);
        return Err(Refusal::invalid("keys", reason));
    }
    for (position, key) in keys.iter().enumerate() {
        let id = key.id.as_bytes();
        let is_id = (1..=limit::KEY_ID_CHARS).contains(&id.len())
            && id
                .iter()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
        if !is_id || keys.iter().take(position).any(|other| other.id == key.id) {
            let reason = "expected 1 to 64 letters, digits, dots, hyphens or underscores, each key its own";
            return Err(Refusal::invalid("keys.id", reason));
        }
        let (prefix, characters) = (key.algorithm.prefix(), key.algorithm.characters());
        if !(key.spki.starts_with(prefix) && key.spki.len() == characters && is_base64(&key.spki)) {
            let reason = format!(
                "expected {characters} characters of base64 that begin with {prefix}, a public key of its algorithm"
            );
            return Err(Refusal::invalid("keys.spki", reason));
        }
    }
    Ok(())
}

fn is_base64(text: &str) -> bool {
    let digits = text.trim_end_matches('=');
    !digits.is_empty()
        && text.len() <= limit::CIPHERTEXT_CHARS
        && text.len().is_multiple_of(4)
        && text.len() - digits.len() <= 2
        && digits
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'))
}

fn is_lower_hex(text: &str, digits: usize) -> bool {
    text.len() == digits
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}
