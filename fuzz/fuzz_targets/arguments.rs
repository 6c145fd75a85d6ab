//! What a client may send as arguments: read into a command or a question, decided and answered on a ledger in memory.
//!
//! An input is a list of calls. A call's parameters are any bytes, or a command or question as it should be with some fields set
//! otherwise, so that most get past the parser and into the contract.
#![no_main]

use arbitrary::Arbitrary;
use bytes::Bytes;
use leasehold_chaincode::{Contract, Failure, MemoryState, Msp, Role, StateError, TxContext, TxId};
use leasehold_chaincode_service::{Problem, Request};
use leasehold_conformance::Step;
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::sync::OnceLock;

const FUNCTIONS: [&str; 12] = [
    "submit",
    "query",
    "InitLedger",
    "AddDataBlock",
    "ReadDataBlock",
    "UpdateDataBlock",
    "RemoveDataBlock",
    "DataBlockExists",
    "LeaseData",
    "ReleaseLease",
    "GetAllDataBlocks",
    "steal",
];

#[derive(Debug, Arbitrary)]
struct Call {
    function: u8,
    parameters: Vec<Parameter>,
    organisation: u8,
    role: u8,
    later_ms: u32,
}

#[derive(Debug, Arbitrary)]
enum Parameter {
    Raw(Vec<u8>),
    Document {
        template: u16,
        changes: Vec<(u8, Piece)>,
    },
    Word(u8),
}

/// A value for a field.
#[derive(Debug, Arbitrary)]
enum Piece {
    Word(u8),
    Text(String),
    Number(i64),
    Big(u64),
    Flag(bool),
    Nothing,
    Gone,
    List(Vec<u8>),
    Long(u16),
    Deep(u8),
}

/// When the calls begin, milliseconds since the Unix epoch.
const FIRST_MS: i64 = 1_760_000_000_000;

/// What commands, questions and answers are made of: names, pseudonyms, modes, ids that exist after the first calls.
fn word(number: u8) -> String {
    const WORDS: [&str; 12] = [
        "texts",
        "scans",
        "main",
        "second",
        "exclusive",
        "shared",
        "active",
        "waiting",
        "OneMSP",
        "TwoMSP",
        "",
        "AAAA",
    ];
    match number % 24 {
        12..=15 => format!("{number:02x}").repeat(32),
        16..=19 => {
            leasehold_chaincode::LeaseId::derive(&tx_id(usize::from(number % 8)), FIRST_MS).to_string()
        }
        20..=23 => leasehold_chaincode::DatasetId::derive(&tx_id(usize::from(number % 8))).to_string(),
        place => WORDS
            .get(usize::from(place))
            .copied()
            .unwrap_or_default()
            .to_owned(),
    }
}

fn tx_id(number: usize) -> TxId {
    TxId::new(format!("tx-{number}")).expect("an id")
}

/// Commands and questions as they should be: those of the conformance suite, about what the first calls make.
fn templates() -> &'static [Value] {
    static TEMPLATES: OnceLock<Vec<Value>> = OnceLock::new();
    TEMPLATES.get_or_init(|| {
        let mut texts = BTreeSet::new();
        for step in leasehold_conformance::cases().iter().flat_map(|case| &case.steps) {
            let document = match step {
                Step::Submit(submit) => submit.command(),
                Step::Ask(question, _) | Step::Walk(question, ..) => question,
                Step::At(_) => continue,
            };
            let text = filled(document).to_string();
            // Those at their bounds are too long to begin with.
            if text.len() < 4_096 {
                texts.insert(text);
            }
        }
        let documents = texts.iter().map(|text| serde_json::from_str(text));
        documents.collect::<Result<_, _>>().expect("documents")
    })
}

/// With something in the place of each placeholder.
fn filled(document: &Value) -> Value {
    match document {
        Value::String(text) => match text.split_at_checked(1) {
            Some(("@", name)) => json!(name),
            Some(("#", _)) => json!(leasehold_chaincode::DatasetId::derive(&tx_id(0)).as_str()),
            Some(("$", _)) => json!(leasehold_chaincode::LeaseId::derive(&tx_id(1), FIRST_MS).as_str()),
            Some(("%", number)) => json!(format!("{:0>2}", number.len() % 100).repeat(32)),
            Some(("&", letter)) => json!(if letter == "A" { "OneMSP" } else { "TwoMSP" }),
            Some(("+", _)) => json!(FIRST_MS),
            _ => json!(text),
        },
        Value::Array(values) => values.iter().map(filled).collect(),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| (name.clone(), filled(value)));
            Value::Object(fields.collect())
        }
        other => other.clone(),
    }
}

impl Piece {
    fn value(&self) -> Value {
        match self {
            Self::Word(number) => json!(word(*number)),
            Self::Text(text) => json!(text),
            Self::Number(number) => json!(number),
            Self::Big(number) => json!(number),
            Self::Flag(flag) => json!(flag),
            Self::Nothing | Self::Gone => Value::Null,
            Self::List(words) => words.iter().map(|number| word(*number)).collect(),
            Self::Long(length) => json!("é".repeat(usize::from(*length))),
            Self::Deep(depth) => (0..*depth).fold(json!({}), |inner, _| Value::Array(vec![inner])),
        }
    }
}

impl Parameter {
    fn bytes(&self) -> Bytes {
        match self {
            Self::Raw(bytes) => Bytes::copy_from_slice(bytes),
            Self::Word(number) => word(*number).into(),
            Self::Document { template, changes } => {
                let templates = templates();
                let place = usize::from(*template) % templates.len().max(1);
                let mut document = templates.get(place).cloned().unwrap_or_default();
                for (field, piece) in changes.iter().take(8) {
                    change(&mut document, usize::from(*field), piece);
                }
                document.to_string().into()
            }
        }
    }
}

/// Sets the `place`th field of a document, fields of fields counted as well.
fn change(document: &mut Value, mut place: usize, piece: &Piece) {
    fn walk(fields: &mut Map<String, Value>, place: &mut usize, piece: &Piece) -> bool {
        let names: Vec<_> = fields.keys().cloned().collect();
        for name in names {
            if *place == 0 {
                if matches!(piece, Piece::Gone) {
                    fields.remove(&name);
                } else {
                    fields.insert(name, piece.value());
                }
                return true;
            }
            *place -= 1;
            if let Some(Value::Object(inner)) = fields.get_mut(&name)
                && walk(inner, place, piece)
            {
                return true;
            }
        }
        false
    }
    if let Value::Object(fields) = document
        && !walk(fields, &mut place, piece)
    {
        fields.insert("unknown".to_owned(), piece.value());
    }
}

fuzz_target!(|calls: Vec<Call>| {
    let mut state = prepared().clone();
    let mut now_ms = FIRST_MS;
    for (number, call) in calls.iter().take(12).enumerate() {
        let function = FUNCTIONS
            .get(usize::from(call.function) % FUNCTIONS.len())
            .copied()
            .unwrap_or_default();
        let parameters: Vec<_> = call.parameters.iter().take(4).map(Parameter::bytes).collect();
        now_ms += i64::from(call.later_ms);
        match Request::parse(function, &parameters) {
            Ok(Request::Submit(command)) => {
                let written = serde_json::to_string(&command).expect("a command can be written");
                let read: leasehold_chaincode::Command =
                    serde_json::from_str(&written).expect("and read again");
                assert_eq!(read, *command);
                let context = TxContext {
                    tx_id: tx_id(number),
                    timestamp_ms: now_ms,
                    caller: organisation(call.organisation),
                    role: [Role::Administrator, Role::Steward, Role::Member]
                        .get(usize::from(call.role) % 3)
                        .copied()
                        .unwrap_or(Role::Member),
                };
                let decided = Contract::FABRIC.execute(&state, &context, &command);
                assert_eq!(
                    decided,
                    Contract::FABRIC.execute(&state, &context, &command),
                    "the same again"
                );
                match decided {
                    Ok(outcome) => state.apply(&outcome.writes),
                    Err(Failure::Refused(refusal)) => refused(Problem::from(refusal)),
                    Err(Failure::State(error)) => panic!("the contract damaged its own state: {error}"),
                }
            }
            Ok(Request::Ask(question)) => {
                let answer = question
                    .answer(&state)
                    .unwrap_or_else(|error: StateError| panic!("{error}"));
                serde_json::to_vec(&answer).expect("an answer can be written");
            }
            Ok(_) => {}
            Err(error) => refused(Problem::from(error)),
        }
    }
});

fn refused(problem: Problem) {
    let document = problem.to_json();
    assert_eq!(document.get("code"), Some(&json!(problem.code())));
    assert!(problem.status() >= 400);
}

fn organisation(number: u8) -> Msp {
    let name = ["OneMSP", "TwoMSP", "ThreeMSP"]
        .get(usize::from(number) % 3)
        .copied()
        .unwrap_or("OneMSP");
    Msp::new(name).expect("an organisation")
}

/// Two organisations have joined, each with a cluster; a third has not.
fn prepared() -> &'static MemoryState {
    static STATE: OnceLock<MemoryState> = OnceLock::new();
    STATE.get_or_init(|| {
        let mut state = MemoryState::default();
        for number in 0..2_u8 {
            let first = [
                json!({ "command": "join_consortium", "broker": "https://broker.example.org" }),
                json!({ "command": "register_cluster", "name": "main" }),
            ];
            for (at, command) in first.into_iter().enumerate() {
                let context = TxContext {
                    tx_id: TxId::new(format!("first-{number}-{at}")).expect("an id"),
                    timestamp_ms: 1_759_000_000_000,
                    caller: organisation(number),
                    role: Role::Administrator,
                };
                let command = serde_json::from_value(command).expect("a command");
                let outcome = Contract::FABRIC
                    .execute(&state, &context, &command)
                    .expect("it is accepted");
                state.apply(&outcome.writes);
            }
        }
        state
    })
}
