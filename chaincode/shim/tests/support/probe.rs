//! A chaincode that does what it is told, so that a test is a list of steps and the answers they should have.
//!
//! Its one function, `run`, takes steps as JSON, `[["get", "a"], ["put", "a", "1"]]`, and answers with a JSON list of what each gave.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fabric_shim::{
    Bytes, CallError, Chaincode, EndorsementPolicy, KeyValue, Paging, Response, Rows, Stub,
    VALIDATION_PARAMETER,
};
use serde_json::{Value, json};

/// A chaincode for tests.
#[derive(Debug, Default)]
pub struct Probe {
    /// Handlers that a step `hang` holds at this moment.
    pub hanging: Arc<AtomicUsize>,
    /// Calls that failed because the stream had ended.
    pub cut_off: Arc<AtomicUsize>,
}

type Answer = Result<Value, Box<dyn std::error::Error + Send + Sync>>;

struct Held(Arc<AtomicUsize>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[fabric_shim::async_trait]
impl Chaincode for Probe {
    async fn invoke(&self, stub: &Stub) -> Response {
        if stub.function() != "run" {
            return Response::refusal(404, format!("no function {:?}", stub.function()));
        }
        let Some(Ok(Value::Array(steps))) = stub
            .parameters()
            .first()
            .map(|steps| serde_json::from_slice(steps))
        else {
            return Response::refusal(400, "steps should be a JSON list");
        };
        let mut answers = Vec::new();
        for step in steps {
            let words: Vec<&str> = step
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            match words.as_slice() {
                ["refuse", message] => return Response::refusal(403, *message),
                ["try", rest @ ..] => answers.push(match self.step(stub, rest).await {
                    Ok(answer) => answer,
                    Err(error) => json!({ "error": error.to_string() }),
                }),
                words => match self.step(stub, words).await {
                    Ok(answer) => answers.push(answer),
                    Err(error) => {
                        if matches!(error.downcast_ref(), Some(CallError::StreamEnded { .. })) {
                            self.cut_off.fetch_add(1, Ordering::SeqCst);
                        }
                        return Response::error(error.to_string());
                    }
                },
            }
        }
        Response::success(Value::from(answers).to_string())
    }
}

impl Probe {
    async fn step(&self, stub: &Stub, words: &[&str]) -> Answer {
        Ok(match words {
            ["get", key] => text(stub.get_state(key).await?),
            ["get_many", keys @ ..] => stub.get_states(keys).await?.into_iter().map(text).collect(),
            ["both", one, two] => {
                let (one, two) = tokio::join!(stub.get_state(one), stub.get_state(two));
                json!([text(one?), text(two?)])
            }
            ["give_up_on", key] => {
                // The request is sent, and its answer is not waited for.
                tokio::select! {
                    biased;
                    _ = stub.get_state(key) => json!("answered"),
                    () = tokio::task::yield_now() => json!("gave up"),
                }
            }
            ["put", key, value] => done(stub.put_state(key, (*value).to_owned()).await?),
            ["put_bytes", key, count] => done(stub.put_state(key, vec![b'x'; count.parse()?]).await?),
            ["length", key] => json!(stub.get_state(key).await?.map(|value| value.len())),
            ["argument_length", place] => {
                json!(stub.parameters().get(place.parse::<usize>()?).map(Bytes::len))
            }
            ["answer_bytes", count] => json!("x".repeat(count.parse()?)),
            ["delete", key] => done(stub.delete_state(key).await?),
            ["put_metadata", key, name, value] => {
                done(stub.put_state_metadata(key, name, (*value).to_owned()).await?)
            }
            ["put_policy", key, member] => {
                let policy = EndorsementPolicy::Peer((*member).to_owned()).encode();
                done(stub.put_state_metadata(key, VALIDATION_PARAMETER, policy).await?)
            }
            ["get_metadata", key] => metadata(stub.get_state_metadata(key).await?),
            ["fill", prefix, count] => {
                let mut writer = stub.writer();
                for number in 0..count.parse::<usize>()? {
                    writer.put(&format!("{prefix}{number:05}"), number.to_string())?;
                }
                done(writer.flush().await?)
            }
            ["batch", put, delete, annotated] => {
                let mut writer = stub.writer();
                writer
                    .put(put, "batched")?
                    .delete(delete)?
                    .put_metadata(annotated, "note", "batched")?;
                done(writer.flush().await?)
            }
            ["range", start, end] => rows(stub.range(start, end).await?).await?,
            ["count", start, end] => json!(stub.range(start, end).await?.collect().await?.len()),
            ["first_of", start, end] => {
                let mut range = stub.range(start, end).await?;
                let first = range.next().await?.map(|row| row.key);
                range.close().await?;
                json!(first)
            }
            ["drop_after_first_of", start, end] => {
                let mut range = stub.range(start, end).await?;
                json!(range.next().await?.map(|row| row.key))
            }
            ["page", start, end, size, bookmark] => {
                let paging = Paging {
                    rows: size.parse()?,
                    bookmark,
                };
                let page = stub.range_page(start, end, &paging).await?;
                json!([
                    page.rows.len(),
                    page.rows.first().map(|row| &row.key),
                    page.bookmark
                ])
            }
            ["put_composite", object_type, attributes @ .., value] => {
                let key = fabric_shim::composite_key(object_type, attributes)?;
                done(stub.put_state(&key, (*value).to_owned()).await?)
            }
            ["composite", object_type, attributes @ ..] => composite_rows(
                stub.composite_range(object_type, attributes)
                    .await?
                    .collect()
                    .await?,
            )?,
            ["composite_page", object_type, size, bookmark] => {
                let paging = Paging {
                    rows: size.parse()?,
                    bookmark,
                };
                let page = stub.composite_range_page(object_type, &[], &paging).await?;
                json!([composite_rows(page.rows)?, !page.bookmark.is_empty()])
            }
            ["history", key] => {
                let rows = stub.history(key).await?.collect().await?;
                let row = |row: &fabric_shim::KeyModification| {
                    json!([
                        String::from_utf8_lossy(&row.value),
                        row.is_delete,
                        row.timestamp.is_some(),
                        row.tx_id.len()
                    ])
                };
                rows.iter().map(row).collect()
            }
            ["rich_query", selector] => rows(stub.rich_query(selector).await?).await?,
            ["private_put", collection, key, transient] => {
                let value = stub.transient()?.get(*transient).cloned().unwrap_or_default();
                done(stub.private_data(collection)?.put(key, value).await?)
            }
            ["private_get", collection, key] => text(stub.private_data(collection)?.get(key).await?),
            ["private_hash", collection, key] => {
                let hash = stub.private_data(collection)?.hash(key).await?;
                json!(hash.map(|hash| hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>()))
            }
            ["private_range", collection, start, end] => {
                rows(stub.private_data(collection)?.range(start, end).await?).await?
            }
            ["private_delete", collection, key] => done(stub.private_data(collection)?.delete(key).await?),
            ["private_purge", collection, key] => done(stub.private_data(collection)?.purge(key).await?),
            ["event", name, payload] => done(stub.set_event(name, (*payload).to_owned())?),
            ["invoke", name, arguments @ ..] => {
                let arguments: Vec<Bytes> = arguments
                    .iter()
                    .map(|argument| Bytes::copy_from_slice(argument.as_bytes()))
                    .collect();
                let answer = stub.invoke_chaincode(name, None, &arguments).await?;
                json!([
                    answer.status,
                    answer.message,
                    String::from_utf8_lossy(&answer.payload)
                ])
            }
            ["who"] => {
                let creator = stub.creator()?;
                let certificate = creator.certificate()?;
                json!([
                    creator.msp_id(),
                    certificate.common_name,
                    certificate.organizational_units,
                    certificate.attributes
                ])
            }
            ["when"] => json!(stub.timestamp()?.seconds),
            ["where"] => json!([stub.channel_id(), stub.tx_id().len()]),
            ["transient", name] => text(stub.transient()?.get(*name).cloned()),
            ["panic"] => panic!("the probe was told to"),
            ["hang"] => {
                self.hanging.fetch_add(1, Ordering::SeqCst);
                let _held = Held(Arc::clone(&self.hanging));
                tokio::time::sleep(Duration::from_secs(3600)).await;
                json!("woke up")
            }
            unknown => return Err(format!("no step {unknown:?}").into()),
        })
    }
}

fn done((): ()) -> Value {
    json!("done")
}

fn text(value: Option<Bytes>) -> Value {
    json!(value.map(|value| String::from_utf8_lossy(&value).into_owned()))
}

fn metadata(entries: std::collections::BTreeMap<String, Bytes>) -> Value {
    entries
        .into_iter()
        .map(|(name, value)| (name, text(Some(value))))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

async fn rows(rows: Rows<'_, KeyValue>) -> Answer {
    let rows = rows.collect().await?;
    Ok(rows
        .into_iter()
        .map(|row| json!([row.key, String::from_utf8_lossy(&row.value)]))
        .collect())
}

fn composite_rows(rows: Vec<KeyValue>) -> Answer {
    let row = |row: KeyValue| {
        let (_, attributes) = fabric_shim::split_composite_key(&row.key)?;
        Ok(json!([attributes, String::from_utf8_lossy(&row.value)]))
    };
    rows.into_iter().map(row).collect()
}
