//! Names that several components must agree on: labels, annotations, audiences, reserved prefixes.

/// Annotation on a Workflow or CronWorkflow: whose it is. Written by the webhook only.
pub const STAMP_ANNOTATION: &str = "leasehold.dev/stamp";
/// Label that an operator sets on a namespace in which notebooks and workflows live.
pub const USERS_NAMESPACE_LABEL: &str = "leasehold.dev/users";
/// Prefix of the PersistentVolumes, PersistentVolumeClaims, Secrets and pod volumes that belong to a lease.
pub const CLAIM_PREFIX: &str = "leasehold-";
/// Label on everything that the provisioner makes for a lease; its value is the lease id.
pub const LEASE_LABEL: &str = "leasehold.dev/lease";
/// Label of a pod into which a dataset was injected. Set by the webhook only.
pub const DATASET_POD_LABEL: &str = "leasehold.dev/dataset-pod";
/// Annotation of such a pod: the ids of the injected leases, comma-separated.
pub const LEASES_ANNOTATION: &str = "leasehold.dev/leases";
/// Annotation of a person's ServiceAccounts: the hub's raw username.
pub const USERNAME_ANNOTATION: &str = "leasehold.dev/username";
/// Label of a person's ServiceAccounts and roles: 16 hex digits of the SHA-256 of the raw username.
pub const PERSON_LABEL: &str = "leasehold.dev/person";
/// Prefix of a person's notebook ServiceAccount.
pub const NOTEBOOK_PREFIX: &str = "nb-";
/// Prefix of a person's executor ServiceAccount.
pub const EXECUTOR_PREFIX: &str = "wf-";
/// Volume of the notebook with the person's token for the broker and the broker's CA certificate.
pub const IDENTITY_VOLUME: &str = "leasehold-identity";
/// Where that volume is mounted.
pub const IDENTITY_MOUNT_PATH: &str = "/var/run/leasehold";
/// Audience of people's tokens at the broker.
pub const PEOPLE_AUDIENCE: &str = "leasehold";
/// Audience of machines' tokens at the broker.
pub const MACHINES_AUDIENCE: &str = "leasehold-broker";
/// Audience of the hub's token at the spawner-hook.
pub const SPAWNER_HOOK_AUDIENCE: &str = "leasehold-spawner-hook";
/// Directory below the home in which datasets appear.
pub const DATASETS_DIRECTORY: &str = "datasets";
/// Environment variable that narrows which datasets a workflow or job sees: a comma-separated list of names, empty for none.
pub const LEASE_DATASETS: &str = "LEASE_DATASETS";

/// Name of the claim, the volume and the Secret of a lease.
#[must_use]
pub fn claim_name(lease_id: &str) -> String {
    format!("{CLAIM_PREFIX}{lease_id}")
}
