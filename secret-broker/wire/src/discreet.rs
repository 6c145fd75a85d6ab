//! What is shown of messages that carry credentials: everything else.

use std::fmt::{Debug, Formatter, Result};

use crate::machines::{BindServiceAccountsRequest, OpenVolumeResponse};

impl Debug for OpenVolumeResponse {
    fn fmt(&self, out: &mut Formatter<'_>) -> Result {
        out.debug_struct("OpenVolumeResponse").finish_non_exhaustive()
    }
}

impl Debug for BindServiceAccountsRequest {
    fn fmt(&self, out: &mut Formatter<'_>) -> Result {
        out.debug_struct("BindServiceAccountsRequest")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_credential_is_shown() {
        let volume = OpenVolumeResponse {
            volume: b"hunter2".to_vec(),
        };
        let binding = BindServiceAccountsRequest {
            id_token: "hunter2".to_owned(),
            username: "alice".to_owned(),
            ..BindServiceAccountsRequest::default()
        };
        let shown = format!("{volume:?} {binding:?}");
        assert!(shown.contains("alice"), "{shown}");
        let as_bytes = format!("{:?}", b"hunter2");
        assert!(
            !shown.contains("hunter2") && !shown.contains(as_bytes.trim_matches(['[', ']'])),
            "{shown}"
        );
    }
}
