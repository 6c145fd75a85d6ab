//! What a transaction asks for: its function and parameters, read into a command or a question.
//!
//! `submit` takes a [`Command`], `query` a [`Question`], each as one JSON document. The names of the thesis's chaincode are kept
//! beside them; `docs/fabric.md` has the table.

use fabric_shim::Bytes;
use leasehold_chaincode::{Command, DatasetRef, PageRequest, Question};
use serde_json::{Map, Value, json};

/// Longest parameter, bytes. The longest command that the contract takes is a third of it.
pub const ARGUMENT_BYTES: usize = 1 << 20;
/// How much of a parser's complaint is passed on, characters.
const REASON_CHARS: usize = 300;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// To be decided by the contract.
    Submit(Box<Command>),
    /// To be answered from the state.
    Ask(Question),
    /// As [`Question::Dataset`], but a dataset has to be there.
    Read(DatasetRef),
    /// Whether a dataset is there and not retired.
    Exists(DatasetRef),
    /// Which contract this is. Writes nothing.
    Describe,
}

/// Why arguments ask for nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArgumentError {
    /// No such function.
    #[error("there is no such function; use submit or query")]
    UnknownFunction,
    /// Too few or too many parameters.
    #[error("{function} takes {expected}, and {given} were given")]
    Count {
        /// The function.
        function: &'static str,
        /// What it takes.
        expected: &'static str,
        /// How many there were.
        given: usize,
    },
    /// A parameter is longer than any that makes sense.
    #[error("parameter {number} has {bytes} bytes; at most {ARGUMENT_BYTES} are read")]
    TooLong {
        /// Counts from 1.
        number: usize,
        /// Its length.
        bytes: usize,
    },
    /// A parameter is not what the function takes.
    #[error("parameter {number} is not {expected}: {reason}")]
    Malformed {
        /// Counts from 1.
        number: usize,
        /// What it should be.
        expected: &'static str,
        /// What the parser says.
        reason: String,
    },
}

impl Request {
    /// Reads a function and its parameters.
    ///
    /// # Errors
    /// [`ArgumentError`] where they ask for nothing.
    pub fn parse(function: &str, parameters: &[Bytes]) -> Result<Self, ArgumentError> {
        let too_long = (1..)
            .zip(parameters)
            .find(|(_, parameter)| parameter.len() > ARGUMENT_BYTES);
        if let Some((number, parameter)) = too_long {
            let bytes = parameter.len();
            return Err(ArgumentError::TooLong { number, bytes });
        }
        let count = |function, expected| ArgumentError::Count {
            function,
            expected,
            given: parameters.len(),
        };
        match (function, parameters) {
            ("submit", [command]) => Ok(Self::Submit(document(1, "a command", command)?)),
            ("submit", _) => Err(count("submit", "one command in JSON")),
            ("query", [question]) => Ok(Self::Ask(document(1, "a question", question)?)),
            ("query", _) => Err(count("query", "one question in JSON")),
            ("InitLedger", []) => Ok(Self::Describe),
            ("InitLedger", _) => Err(count("InitLedger", "nothing")),
            ("AddDataBlock", [dataset]) => command("register_dataset", Map::new(), 1, Some(dataset)),
            ("AddDataBlock", _) => Err(count("AddDataBlock", "one dataset in JSON")),
            ("ReadDataBlock", [dataset]) => Ok(Self::Read(reference(dataset)?)),
            ("ReadDataBlock", _) => Err(count("ReadDataBlock", "a dataset's id or name")),
            ("UpdateDataBlock", [dataset, changes]) => {
                command("amend_dataset", fields([("dataset", dataset)])?, 2, Some(changes))
            }
            ("UpdateDataBlock", _) => Err(count(
                "UpdateDataBlock",
                "a dataset's id or name, and changes in JSON",
            )),
            ("RemoveDataBlock", [dataset]) => {
                command("remove_dataset", fields([("dataset", dataset)])?, 1, None)
            }
            ("RemoveDataBlock", _) => Err(count("RemoveDataBlock", "a dataset's id or name")),
            ("DataBlockExists", [dataset]) => Ok(Self::Exists(reference(dataset)?)),
            ("DataBlockExists", _) => Err(count("DataBlockExists", "a dataset's id or name")),
            ("LeaseData", [dataset, subject]) => command(
                "lease",
                fields([("dataset", dataset), ("subject", subject)])?,
                2,
                None,
            ),
            ("LeaseData", [dataset, subject, terms]) => command(
                "lease",
                fields([("dataset", dataset), ("subject", subject)])?,
                3,
                Some(terms),
            ),
            ("LeaseData", _) => Err(count(
                "LeaseData",
                "a dataset's id or name, a pseudonym and, if need be, terms in JSON",
            )),
            ("ReleaseLease", [lease, subject]) => command(
                "release",
                fields([("lease", lease), ("subject", subject)])?,
                2,
                None,
            ),
            ("ReleaseLease", _) => Err(count("ReleaseLease", "a lease's id and its holder's pseudonym")),
            ("GetAllDataBlocks", []) => Ok(Self::Ask(Question::Datasets {
                page: PageRequest::default(),
            })),
            ("GetAllDataBlocks", [page]) => Ok(Self::Ask(Question::Datasets {
                page: document(1, "a page", page)?,
            })),
            ("GetAllDataBlocks", _) => Err(count("GetAllDataBlocks", "nothing, or a page in JSON")),
            _ => Err(ArgumentError::UnknownFunction),
        }
    }
}

fn document<T: serde::de::DeserializeOwned>(
    number: usize,
    expected: &'static str,
    parameter: &Bytes,
) -> Result<T, ArgumentError> {
    serde_json::from_slice(parameter).map_err(|error| malformed(number, expected, &error))
}

fn malformed(number: usize, expected: &'static str, reason: &impl ToString) -> ArgumentError {
    ArgumentError::Malformed {
        number,
        expected,
        reason: reason.to_string().chars().take(REASON_CHARS).collect(),
    }
}

fn text(number: usize, parameter: &Bytes) -> Result<&str, ArgumentError> {
    std::str::from_utf8(parameter).map_err(|error| malformed(number, "text in UTF-8", &error))
}

fn reference(parameter: &Bytes) -> Result<DatasetRef, ArgumentError> {
    DatasetRef::parse(text(1, parameter)?).map_err(|error| malformed(1, "a dataset's id or name", &error))
}

fn fields<const N: usize>(fields: [(&str, &Bytes); N]) -> Result<Map<String, Value>, ArgumentError> {
    let fields = (1..).zip(fields);
    fields
        .map(|(number, (name, parameter))| Ok((name.to_owned(), json!(text(number, parameter)?))))
        .collect()
}

/// A command of some fields and, if need be, a JSON object with the others. What is given twice is refused.
fn command(
    name: &'static str,
    mut fields: Map<String, Value>,
    number: usize,
    others: Option<&Bytes>,
) -> Result<Request, ArgumentError> {
    const EXPECTED: &str = "a JSON object with the command's fields";
    fields.insert("command".to_owned(), json!(name));
    if let Some(others) = others {
        let others: Map<String, Value> = document(number, EXPECTED, others)?;
        if others.keys().any(|key| fields.contains_key(key)) {
            return Err(malformed(number, EXPECTED, &"a field is given already"));
        }
        fields.extend(others);
    }
    serde_json::from_value(Value::Object(fields))
        .map(Request::Submit)
        .map_err(|error| malformed(number, EXPECTED, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Request, ArgumentError> {
        let arguments: Vec<_> = arguments
            .iter()
            .map(|argument| Bytes::copy_from_slice(argument.as_bytes()))
            .collect();
        let (function, parameters) = arguments.split_first().unwrap();
        Request::parse(std::str::from_utf8(function).unwrap(), parameters)
    }

    #[test]
    fn the_thesis_functions_are_commands_and_questions() {
        let submitted = |command: Value| Ok(Request::Submit(serde_json::from_value(command).unwrap()));
        let asked = |question: Value| Ok(Request::Ask(serde_json::from_value(question).unwrap()));
        let texts = DatasetRef::parse("texts").unwrap();
        let dataset = json!({
            "name": "texts", "metadata": { "title": "Texts" }, "policy": { "max_ttl_seconds": 60 },
            "volume_ciphertext": "AAAA", "key_version": 1,
        });
        let mut registered = dataset.clone();
        registered["command"] = json!("register_dataset");
        let amended = json!({ "command": "amend_dataset", "dataset": "texts", "metadata": { "title": "T" } });
        let leased = json!({ "command": "lease", "dataset": "texts", "subject": "ab", "ttl_seconds": 60 });
        for (arguments, expected) in [
            (vec!["InitLedger"], Ok(Request::Describe)),
            (vec!["AddDataBlock", &dataset.to_string()], submitted(registered)),
            (vec!["ReadDataBlock", "texts"], Ok(Request::Read(texts.clone()))),
            (
                vec!["UpdateDataBlock", "texts", r#"{"metadata":{"title":"T"}}"#],
                submitted(amended),
            ),
            (
                vec!["RemoveDataBlock", "texts"],
                submitted(json!({ "command": "remove_dataset", "dataset": "texts" })),
            ),
            (vec!["DataBlockExists", "texts"], Ok(Request::Exists(texts))),
            (
                vec!["LeaseData", "texts", "ab", r#"{"ttl_seconds":60}"#],
                submitted(leased),
            ),
            (
                vec!["LeaseData", "texts", "ab"],
                submitted(json!({ "command": "lease", "dataset": "texts", "subject": "ab" })),
            ),
            (
                vec!["ReleaseLease", "l", "ab"],
                submitted(json!({ "command": "release", "lease": "l", "subject": "ab" })),
            ),
            (vec!["GetAllDataBlocks"], asked(json!({ "question": "datasets" }))),
            (
                vec!["GetAllDataBlocks", r#"{"after":"texts","limit":2}"#],
                asked(json!({ "question": "datasets", "page": { "after": "texts", "limit": 2 } })),
            ),
        ] {
            assert_eq!(parsed(&arguments), expected, "{arguments:?}");
        }
    }

    #[test]
    fn what_asks_for_nothing_is_refused_and_says_why() {
        for (arguments, expected) in [
            (vec!["steal"], "there is no such function"),
            (vec![""], "there is no such function"),
            (
                vec!["submit"],
                "submit takes one command in JSON, and 0 were given",
            ),
            (vec!["submit", "{}", "{}"], "and 2 were given"),
            (vec!["submit", "{"], "parameter 1 is not a command"),
            (vec!["submit", r#"{"command":"steal"}"#], "unknown variant"),
            (
                vec!["submit", r#"{"command":"expire","lease":"a","owner":"me"}"#],
                "unknown field",
            ),
            (
                vec!["query", r#"{"question":"lease","lease":"a"}"#],
                "32 lower-case hexadecimal digits",
            ),
            (
                vec!["query", r#"{"question":"datasets","page":{"limit":-1}}"#],
                "parameter 1",
            ),
            (vec!["ReadDataBlock", "../texts"], "not a dataset name"),
            (
                vec!["LeaseData", "texts", "ab", r#"{"subject":"cd"}"#],
                "a field is given already",
            ),
            (
                vec!["LeaseData", "texts", "ab", r#"{"command":"revoke"}"#],
                "a field is given already",
            ),
            (vec!["AddDataBlock", "[]"], "parameter 1"),
        ] {
            let error = parsed(&arguments).unwrap_err().to_string();
            assert!(error.contains(expected), "{arguments:?}: {error}");
        }
        let long = "x".repeat(ARGUMENT_BYTES + 1);
        let bytes = long.len();
        assert_eq!(
            parsed(&["submit", &long]),
            Err(ArgumentError::TooLong { number: 1, bytes })
        );
        let deep = "[".repeat(100_000);
        assert!(matches!(
            parsed(&["submit", &deep]),
            Err(ArgumentError::Malformed { .. })
        ));
    }
}
