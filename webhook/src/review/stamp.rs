//! The stamp: an annotation on a Workflow, CronWorkflow or WorkflowTemplate that says whose it is. Written from `userInfo`
//! by the webhook only, never changed afterwards, and the only thing a pod's owner is derived from.

use serde::{Deserialize, Serialize};

use super::envelope::UserInfo;

/// Whose an object is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Stamp {
    /// Version of the format; 1.
    pub v: u8,
    /// Namespace of the notebook's ServiceAccount and of the object.
    pub namespace: String,
    /// Name of the notebook's ServiceAccount.
    pub service_account: String,
    /// Its uid: this decides.
    pub uid: String,
    /// The pod that asked, where the token was bound to one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// Its uid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_uid: Option<String>,
}

impl Stamp {
    /// The stamp for what this user creates in `namespace`.
    #[must_use]
    pub fn of(user: &UserInfo<'_>, namespace: &str, service_account: &str) -> Self {
        Self {
            v: 1,
            namespace: namespace.to_owned(),
            service_account: service_account.to_owned(),
            uid: user.uid.to_string(),
            pod: user
                .extra("authentication.kubernetes.io/pod-name")
                .map(str::to_owned),
            pod_uid: user
                .extra("authentication.kubernetes.io/pod-uid")
                .map(str::to_owned),
        }
    }

    /// Reads an annotation's value. What isn't exactly a stamp is none.
    #[must_use]
    pub fn parse(annotation: &str) -> Option<Self> {
        serde_json::from_str::<Self>(annotation)
            .ok()
            .filter(|stamp| stamp.v == 1 && !stamp.uid.is_empty())
    }

    /// The annotation's value.
    #[must_use]
    pub fn to_annotation(&self) -> String {
        // Strings and a number: cannot fail. An empty value would be no stamp, so even then nothing is gained.
        serde_json::to_string(self).unwrap_or_default()
    }
}
