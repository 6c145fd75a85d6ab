//! What is asked of a chaincode: a function, its arguments, and what goes beside them.

use std::collections::HashMap;

use bytes::Bytes;

/// A function of a chaincode with its arguments.
#[derive(Clone, PartialEq, Eq)]
pub struct Call {
    pub(crate) arguments: Vec<Bytes>,
    pub(crate) transient: HashMap<String, Bytes>,
    pub(crate) organisations: Vec<String>,
}

impl std::fmt::Debug for Call {
    /// Arguments and transient data may be confidential: only their number is shown.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call")
            .field("function", &self.function())
            .field("arguments", &self.arguments.len().saturating_sub(1))
            .field("transient", &self.transient.len())
            .field("organisations", &self.organisations)
            .finish()
    }
}

impl Call {
    /// A function without arguments.
    pub fn new(function: impl Into<Bytes>) -> Self {
        Self {
            arguments: vec![function.into()],
            transient: HashMap::new(),
            organisations: Vec::new(),
        }
    }

    /// With one more argument.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<Bytes>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// With data that reaches the chaincode and never the ledger. Unless [`Call::organisations`] says otherwise, the gateway sends it to
    /// peers of its own organisation only.
    #[must_use]
    pub fn transient(mut self, name: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.transient.insert(name.into(), value.into());
        self
    }

    /// With the members whose peers shall run it. Left out, the gateway chooses by the endorsement policy.
    #[must_use]
    pub fn organisations<S: Into<String>>(mut self, msp_ids: impl IntoIterator<Item = S>) -> Self {
        self.organisations = msp_ids.into_iter().map(Into::into).collect();
        self
    }

    fn function(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(self.arguments.first().map(Bytes::as_ref).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_arguments_nor_transient_data_are_printed() {
        let call = Call::new("put").argument("sesame").transient("key", "sesame");
        assert_eq!(
            format!("{call:?}"),
            r#"Call { function: "put", arguments: 1, transient: 1, organisations: [] }"#
        );
    }
}
