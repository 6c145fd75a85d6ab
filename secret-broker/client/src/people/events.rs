//! What happens, as it happens: the broker's stream of events, opened again where it was whenever it ends.
//!
//! Promises: events come in order; one may come twice, and none is left out without an event `lost`, which says that lists have to be read
//! again. Every stream has a deadline for each silence, and coming again has one for all of it.

use std::time::{Duration, Instant};

use http::header;
use reqwest::{Response, StatusCode};
use serde::de::DeserializeOwned;

use super::{CONNECT_TIMEOUT, FIRST_POLL, PeopleClient, PeopleError, SLOWEST_POLL, causes};
use crate::files;

/// The broker says every 15 s that it is still there.
const LONGEST_SILENCE: Duration = Duration::from_secs(60);
/// Longer than the broker has any stream be.
const LONGEST_STREAM: Duration = Duration::from_secs(2 * 3_600);
/// A line that is longer is none of a broker's.
const LONGEST_EVENT: usize = 1 << 20;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// `opened`, `operation`, `lease`, `catalogue`, `lost`, or what newer brokers tell.
    pub kind: String,
    /// JSON, as its kind has it.
    pub data: String,
}

impl Heard {
    /// What it is about; none where that is something else.
    #[must_use]
    pub fn about<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_str(&self.data).ok()
    }
}

/// A listener, over as many streams as it takes.
#[derive(Debug)]
pub struct Listening {
    client: PeopleClient,
    kinds: String,
    after: Option<String>,
    stream: Option<Response>,
    read: Vec<u8>,
}

impl PeopleClient {
    /// Prepares to listen to `operations`, `leases`, `catalogue`, with commas between them.
    #[must_use]
    pub fn listen(&self, kinds: &str) -> Listening {
        Listening {
            client: self.clone(),
            kinds: kinds.to_owned(),
            after: None,
            stream: None,
            read: Vec::new(),
        }
    }
}

impl Listening {
    /// The next event, however long it takes. Where no stream can be had for `patience`, the reason.
    ///
    /// # Errors
    /// See [`PeopleError`].
    pub async fn next(&mut self, patience: Duration) -> Result<Heard, PeopleError> {
        loop {
            if let Some(block) = self.block() {
                match self.heard(&block) {
                    Some(heard) => return Ok(heard),
                    None => continue,
                }
            }
            let Some(stream) = &mut self.stream else {
                self.stream = Some(self.open(patience).await?);
                self.read.clear();
                continue;
            };
            match tokio::time::timeout(LONGEST_SILENCE, stream.chunk()).await {
                Ok(Ok(Some(chunk))) if self.read.len() < LONGEST_EVENT => self.read.extend_from_slice(&chunk),
                // It ended, broke, or has nothing to say any more.
                _ => self.stream = None,
            }
        }
    }

    /// What was read until an empty line.
    fn block(&mut self) -> Option<String> {
        let end = self.read.windows(2).position(|two| two == b"\n\n")?;
        let block: Vec<u8> = self.read.drain(..end.saturating_add(2)).collect();
        Some(String::from_utf8_lossy(&block).into_owned())
    }

    fn heard(&mut self, block: &str) -> Option<Heard> {
        let field = |name: &str| {
            let value = block.lines().find_map(|line| line.strip_prefix(name));
            value.map(|value| value.strip_prefix(' ').unwrap_or(value).to_owned())
        };
        if let Some(id) = field("id:") {
            self.after = Some(id);
        }
        Some(Heard {
            kind: field("event:")?,
            data: field("data:")?,
        })
    }

    async fn open(&self, patience: Duration) -> Result<Response, PeopleError> {
        let (begun, mut pause) = (Instant::now(), FIRST_POLL);
        loop {
            let failure = match self.try_once().await {
                Ok(stream) => return Ok(stream),
                Err(error) => error,
            };
            let may_pass = match &failure {
                PeopleError::Unreachable { .. } => true,
                PeopleError::Refused(problem) => matches!(problem.status, 429 | 503),
                _ => false,
            };
            if !may_pass || begun.elapsed().saturating_add(pause) > patience {
                return Err(failure);
            }
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2).min(SLOWEST_POLL);
        }
    }

    async fn try_once(&self) -> Result<Response, PeopleError> {
        let client = &self.client;
        let unreachable = |error: reqwest::Error| PeopleError::Unreachable {
            url: client.inner.base.clone(),
            reason: causes(&error.without_url()),
        };
        let bearer = files::bearer(&client.inner.endpoint.token_file).await?;
        let mut url = client.url(&["events"])?;
        url.query_pairs_mut().append_pair("kinds", &self.kinds);
        let mut request = client
            .http()
            .await?
            .get(url.clone())
            .timeout(LONGEST_STREAM)
            .header(header::AUTHORIZATION, bearer)
            .header(header::ACCEPT, "text/event-stream, application/problem+json");
        if let Some(after) = &self.after {
            request = request.header("last-event-id", after);
        }
        let opened = tokio::time::timeout(CONNECT_TIMEOUT.saturating_mul(2), request.send()).await;
        let answer = opened.map_err(|_| PeopleError::Unreachable {
            url: client.inner.base.clone(),
            reason: "it does not answer".to_owned(),
        })?;
        let answer = answer.map_err(unreachable)?;
        let status = answer.status();
        if status == StatusCode::OK {
            return Ok(answer);
        }
        let content = answer.bytes().await.map_err(unreachable)?;
        Err(match serde_json::from_slice(&content) {
            Ok(problem) => PeopleError::Refused(problem),
            Err(error) => PeopleError::Unintelligible {
                url: url.to_string(),
                status,
                reason: error.to_string(),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::people::Endpoint;

    #[test]
    fn blocks_are_events_and_what_is_read_of_the_next_one_stays() {
        let client = PeopleClient::new(Endpoint {
            url: "https://broker.example.org".to_owned(),
            ca_file: None,
            token_file: "token".into(),
        });
        let mut listening = client.unwrap().listen("leases");
        let text = "id: 1.1\nevent: opened\ndata: {}\n\n: still here\nid: 2.1\n\nid: 3.1\nevent: lease\ndata: {\"a\": \"ø\"}\n\nid: 4";
        listening.read.extend_from_slice(text.as_bytes());
        let mut heard = Vec::new();
        while let Some(block) = listening.block() {
            let event = listening.heard(&block);
            heard.push((event.map(|event| event.kind), listening.after.clone().unwrap()));
        }
        let expected = [
            (Some("opened".to_owned()), "1.1".to_owned()),
            (None, "2.1".to_owned()),
            (Some("lease".to_owned()), "3.1".to_owned()),
        ];
        assert_eq!(heard, expected);
        assert_eq!(listening.read, b"id: 4");
    }
}
