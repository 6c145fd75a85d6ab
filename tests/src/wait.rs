//! Waiting for a condition with a deadline, the only kind of waiting that tests do.

use std::{
    fmt::Display,
    time::{Duration, Instant},
};

use crate::Error;

/// How long to leave the cluster alone between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// Asks `condition` until it gives a value. An error counts as «not yet», because a component that
/// restarts refuses connections for a moment; the last one is named when the deadline passes.
///
/// # Errors
/// [`Error::Deadline`] if `condition` gave no value within `deadline`.
pub async fn wait_for<T, E: Display>(
    what: &str,
    deadline: Duration,
    mut condition: impl AsyncFnMut() -> Result<Option<T>, E>,
) -> Result<T, Error> {
    let end = Instant::now() + deadline;
    loop {
        let last = match tokio::time::timeout_at(end.into(), condition()).await {
            Ok(Ok(Some(value))) => return Ok(value),
            Ok(Ok(None)) => "not yet so".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        if Instant::now() + PAUSE >= end {
            return Err(Error::Deadline {
                what: what.to_owned(),
                seconds: deadline.as_secs(),
                last,
            });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waiting_ends_with_the_value_and_forgives_errors_on_the_way() {
        let mut looks = 0;
        let value = wait_for("the third look", Duration::from_secs(5), async || {
            looks += 1;
            match looks {
                1 => Err("connection refused"),
                2 => Ok(None),
                _ => Ok(Some(looks)),
            }
        })
        .await
        .unwrap();
        assert_eq!(value, 3);
    }

    #[tokio::test]
    async fn a_missed_deadline_says_what_was_waited_for_and_what_was_seen_last() {
        let error = wait_for("a pod", Duration::from_millis(250), async || {
            Err::<Option<()>, _>("pods \"a\" not found")
        })
        .await
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "waited 0 s in vain for a pod; last seen: pods \"a\" not found"
        );
    }
}
