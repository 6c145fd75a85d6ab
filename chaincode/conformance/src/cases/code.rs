//! Code that its owner lets run on a dataset.

use super::with_texts;
use crate::case::{A, B, Case};
use crate::command::{approve_code, code, remove, withdraw_code};
use serde_json::{Value, json};

fn approval(code: &Value) -> Value {
    json!({ "question": "code_approval", "dataset": "#texts", "code": code })
}

pub(super) fn cases() -> Vec<Case> {
    let (one, other) = (code("ab", "cd"), code("ab", "00"));
    let approvals = || json!({ "question": "code_approvals", "dataset": "#texts" });
    vec![
        with_texts("c01", "code may run from its owner's approval on")
            .asks(approval(&one), Value::Null)
            .then(
                A.does(approve_code("texts", &one))
                    .tells_that(vec![json!({ "kind": { "event": "code_approved", "code": one } })]),
            )
            .asks(approval(&one), json!({ "dataset": "#texts", "code": one })),
        with_texts("c02", "the same image with another command is other code")
            .then(A.does(approve_code("texts", &one)))
            .asks(approval(&other), Value::Null),
        with_texts("c03", "code may run until its owner withdraws that")
            .then(A.does(approve_code("texts", &one)))
            .then(A.does(withdraw_code("texts", &one)).tells_that(vec![
                json!({ "kind": { "event": "code_withdrawn", "code": one } }),
            ]))
            .asks(approval(&one), Value::Null),
        with_texts("c04", "what is approved is not approved again")
            .then(A.does(approve_code("texts", &one)))
            .then(A.may_not(approve_code("texts", &one), "unchanged")),
        with_texts("c05", "what was not approved is not withdrawn")
            .then(A.may_not(withdraw_code("texts", &one), "unchanged")),
        with_texts("c06", "nobody but its owner approves code for a dataset")
            .then(B.may_not(approve_code("texts", &one), "not_owner")),
        with_texts("c07", "nobody but its owner withdraws it")
            .then(A.does(approve_code("texts", &one)))
            .then(B.may_not(withdraw_code("texts", &one), "not_owner")),
        with_texts("c08", "approved code is listed by digest, page by page")
            .then(A.does(approve_code("texts", &code("cc", "01"))))
            .then(A.does(approve_code("texts", &code("aa", "02"))))
            .then(A.does(approve_code("texts", &code("aa", "01"))))
            .walks(
                approvals(),
                2,
                vec![
                    json!({ "code": code("aa", "01") }),
                    json!({ "code": code("aa", "02") }),
                    json!({ "code": code("cc", "01") }),
                ],
            ),
        with_texts("c09", "no code is approved for a dataset that was retired")
            .then(A.does(remove("texts")))
            .then(A.may_not(approve_code("texts", &one), "dataset_not_found")),
        with_texts("c10", "an approval is dated")
            .at("+9s")
            .then(A.does(approve_code("texts", &one)))
            .asks(approval(&one), json!({ "at_ms": "+9s" })),
    ]
}
