//! The provisioner: makes each active lease mountable (probe, Secret, PersistentVolume, claim) and takes everything down when
//! the lease is over, the pods that hold the claim first. One replica leads, the others wait.
//!
//! [`plan::plan`] decides from a lease and what is in the cluster, without I/O; [`reconcile`] observes and executes. Every
//! step is idempotent and found again from the cluster's own state, so that a kill at any instant leaves nothing that the
//! next leader does not finish. The leader also keeps `caBundle` right ([`crate::ca_bundle`]).
//!
//! # Rights that the provisioner's ServiceAccount needs
//!
//! | where | group | resource | names | verbs | for |
//! |---|---|---|---|---|---|
//! | cluster | "" | persistentvolumes | | create, delete, get, list, watch | the volume of a lease |
//! | cluster | "" | persistentvolumeclaims | | create, delete, get, list, watch | its claim in the holder's namespace |
//! | cluster | "" | pods | | delete, list, watch | those that hold the claim of a lease that is over |
//! | cluster | "" | namespaces | | list, watch | which ones are users' |
//! | cluster | "" | nodes | | get | the node that holds a `local` volume |
//! | cluster | admissionregistration.k8s.io | mutatingwebhookconfigurations, validatingwebhookconfigurations | `leasehold` | get, list, patch, watch | `caBundle`; lists and watches name the object |
//! | system namespace | "" | secrets | | create, delete, get, list, watch | volume details; lists and watches ask for metadata only |
//! | system namespace | "" | pods | | create, delete, list, watch | probe pods; CAs of live webhook pods |
//! | system namespace | "" | pods/log | | get | what the probe found |
//! | system namespace | "" | configmaps | `leasehold-webhook-ca` | get, list, patch, watch | CAs that the webhook's replicas publish |
//! | system namespace | coordination.k8s.io | leases | | create | leadership |
//! | system namespace | coordination.k8s.io | leases | `leasehold-provisioner` | get, update | leadership |
//!
//! persistentvolumeclaims, pods and their deletion may instead be granted by a RoleBinding in each users' namespace, but the
//! watches are cluster-wide. Each webhook replica needs: configmaps `leasehold-webhook-ca` create, get, patch in the system
//! namespace (server-side apply carries the name, so `resourceNames` holds for create), and get on both configurations
//! `leasehold`. The probe pod mounts a hostPath: the system namespace's Pod Security level is `privileged`.

pub mod watching;
