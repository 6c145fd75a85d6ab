//! Why a review says no: a stable code, an HTTP status, and when and what to do. The table in
//! `docs/security/reason-codes.md` is this enum in prose; a test keeps them equal.

use std::fmt;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident $code:literal $status:literal;)*) => {
        /// A stable reason. Renaming one is a breaking change.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Reason { $($(#[$doc])* $name,)* }

        impl Reason {
            /// All of them, in the order of the documentation.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)*];

            /// The code that people, tests and metrics see.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Reason::$name => $code,)* }
            }

            /// 403 where the answer stands, 429 where waiting may heal it (Argo tries again), 500 where we are to blame.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Reason::$name => $status,)* }
            }
        }
    };
}

reasons! {
    /// A key that no known version of the object has, an odd spelling of a known one, or a key given twice.
    UnknownField "unknown_field" 403;
    /// A value of another type than the field has.
    WrongType "wrong_type" 403;
    /// A known field that the profile doesn't allow.
    FieldNotAllowed "field_not_allowed" 403;
    /// A template that is neither `container` nor `dag`.
    TemplateType "template_type" 403;
    /// `podSpecPatch` anywhere.
    PodSpecPatch "pod_spec_patch" 403;
    /// `workflowMetadata` or `podMetadata` anywhere.
    WorkflowMetadata "workflow_metadata" 403;
    /// `{{…}}` where identity, volumes or metadata are named.
    TemplateExpr "template_expr" 403;
    /// Artifacts, in any form.
    Artifact "artifact" 403;
    /// `volumeClaimTemplates`.
    VolumeClaimTemplate "volume_claim_template" 403;
    /// A ServiceAccount that isn't the person's own, or is no longer the one that was bound.
    ServiceAccount "service_account" 403;
    /// A status at creation.
    StatusOnCreate "status_on_create" 403;
    /// A status from somebody else than the controller.
    Status "status" 403;
    /// Owner references that this creator may not set, or a pod that isn't owned by exactly one Workflow.
    OwnerReference "owner_reference" 403;
    /// The stamp differs from what it was.
    StampImmutable "stamp_immutable" 403;
    /// Somebody else's object.
    NotOwner "not_owner" 403;
    /// The ServiceAccount belongs to no person the broker knows.
    NotBound "not_bound" 403;
    /// A Secret, in any form.
    SecretRef "secret_ref" 403;
    /// A kind of volume that isn't allowed.
    VolumeType "volume_type" 403;
    /// A claim other than the person's home and what this review injects.
    PvcNotInjected "pvc_not_injected" 403;
    /// A volume or mount under a name that is kept for injection.
    ReservedName "reserved_name" 403;
    /// A label or annotation of Argo or Leasehold that doesn't fit the owner.
    ReservedMetadata "reserved_metadata" 403;
    /// A label outside the allowlist.
    LabelNotAllowed "label_not_allowed" 403;
    /// An annotation outside the allowlist.
    AnnotationNotAllowed "annotation_not_allowed" 403;
    /// More labels, annotations or bytes of them than a person may write.
    MetadataTooLarge "metadata_too_large" 403;
    /// A mount over, under or beside a reserved path.
    PathOverlap "path_overlap" 403;
    /// The owning Workflow can't be found, is another one of that name, or is being deleted.
    OwnerUnresolved "owner_unresolved" 403;
    /// The owning Workflow carries no stamp.
    Unstamped "unstamped" 403;
    /// A named dataset that the person doesn't lease.
    NoLease "no_lease" 403;
    /// A named dataset whose lease is over.
    LeaseEnded "lease_ended" 403;
    /// A named dataset whose volume can't be mounted.
    MountFailed "mount_failed" 403;
    /// A leased dataset whose volume isn't ready yet.
    MountPending "mount_pending" 429;
    /// The lease view is too old and the broker doesn't answer.
    BrokerUnreachable "broker_unreachable" 429;
    /// The API server didn't answer a look-up.
    LookupFailed "lookup_failed" 429;
    /// Two replicas, or two moments, see leases differently.
    ViewsDisagree "views_disagree" 429;
    /// Too many reviews at once.
    Overloaded "overloaded" 429;
    /// A change of a pod that has a dataset mounted.
    DatasetPodFrozen "dataset_pod_frozen" 403;
    /// An ephemeral container in a pod that has a dataset mounted.
    Ephemeral "ephemeral" 403;
    /// exec, attach, port-forward or proxy into a pod that has a dataset mounted.
    ConnectDatasetPod "connect_dataset_pod" 403;
    /// A claim or volume under the reserved prefix from somebody else than the provisioner.
    ClaimReserved "claim_reserved" 403;
    /// A task result of a Workflow that isn't the caller's.
    TaskresultOwner "taskresult_owner" 403;
    /// An object or operation that this webhook was not made for.
    Unsupported "unsupported" 403;
    /// A defect of this webhook.
    Internal "internal" 500;
}

/// A refusal: the reason and a sentence for the person who meets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// Why, for machines.
    pub reason: Reason,
    /// What, on what, and what to do, for people. Holds nothing that the asker didn't send or lease.
    pub message: String,
}

impl Denial {
    /// A refusal with its sentence.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.message, self.reason.code())
    }
}
