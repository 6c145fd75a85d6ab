//! Endorsement policies of single keys, as a chaincode leaves them in a key's metadata, and whether those who endorsed meet one.
//!
//! It promises what Fabric's `cauthdsl` does: of each endorser one signature counts, and it counts once within a policy; what cannot be
//! decoded is met by nobody.

use prost::Message as _;

/// Under which name a key's policy is in its metadata.
pub(crate) const VALIDATION_PARAMETER: &str = "VALIDATION_PARAMETER";

/// `MSPPrincipal.Classification.ROLE`.
const ROLE: i32 = 0;
/// Of `MSPRole.MSPRoleType`: what a peer is.
const PEERS_ROLES: [i32; 2] = [0, 3];

/// Whether the peers of these members, each of which endorsed once, meet an encoded policy.
pub(crate) fn is_met(policy: &[u8], endorsers: &[String]) -> bool {
    let Ok(envelope) = SignaturePolicyEnvelope::decode(policy) else {
        return false;
    };
    let members: Vec<_> = envelope.identities.iter().map(MspPrincipal::member).collect();
    let mut used = vec![false; endorsers.len()];
    envelope
        .rule
        .is_some_and(|rule| rule.is_met(&members, endorsers, &mut used))
}

impl SignaturePolicy {
    /// Marks the endorsements that it needed, where it is met.
    fn is_met(&self, members: &[Option<String>], endorsers: &[String], used: &mut Vec<bool>) -> bool {
        match &self.rule {
            None => false,
            Some(Rule::SignedBy(place)) => {
                let place = usize::try_from(*place).ok();
                let Some(Some(member)) = place.and_then(|place| members.get(place)) else {
                    return false;
                };
                let mut free = endorsers.iter().zip(used.iter_mut());
                let signature = free.find(|(endorser, used)| *endorser == member && !**used);
                signature.map(|(_, used)| *used = true).is_some()
            }
            Some(Rule::NOutOf(NOutOf { n, rules })) => {
                let mut met = 0;
                for rule in rules {
                    let mut with = used.clone();
                    if rule.is_met(members, endorsers, &mut with) {
                        met += 1;
                        *used = with;
                    }
                }
                met >= *n
            }
        }
    }
}

impl MspPrincipal {
    /// Whose peer it is; none where no peer is it.
    fn member(&self) -> Option<String> {
        let role = MspRole::decode(&self.principal[..]).ok()?;
        let is_peer = self.principal_classification == ROLE && PEERS_ROLES.contains(&role.role);
        is_peer.then_some(role.msp_identifier)
    }
}

// Of fabric-protos, `common/policies.proto` and `msp/msp_principal.proto`.

#[derive(Clone, PartialEq, prost::Message)]
struct SignaturePolicyEnvelope {
    #[prost(int32, tag = "1")]
    version: i32,
    #[prost(message, optional, tag = "2")]
    rule: Option<SignaturePolicy>,
    #[prost(message, repeated, tag = "3")]
    identities: Vec<MspPrincipal>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SignaturePolicy {
    #[prost(oneof = "Rule", tags = "1, 2")]
    rule: Option<Rule>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Rule {
    #[prost(int32, tag = "1")]
    SignedBy(i32),
    #[prost(message, tag = "2")]
    NOutOf(NOutOf),
}

#[derive(Clone, PartialEq, prost::Message)]
struct NOutOf {
    #[prost(int32, tag = "1")]
    n: i32,
    #[prost(message, repeated, tag = "2")]
    rules: Vec<SignaturePolicy>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct MspPrincipal {
    #[prost(int32, tag = "1")]
    principal_classification: i32,
    #[prost(bytes = "vec", tag = "2")]
    principal: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct MspRole {
    #[prost(string, tag = "1")]
    msp_identifier: String,
    #[prost(int32, tag = "2")]
    role: i32,
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: i32 = 3;
    const CLIENT: i32 = 2;

    fn encoded(rule: SignaturePolicy, members: &[(&str, i32)]) -> Vec<u8> {
        let identities = members.iter().map(|(member, role)| MspPrincipal {
            principal_classification: ROLE,
            principal: MspRole {
                msp_identifier: (*member).to_owned(),
                role: *role,
            }
            .encode_to_vec(),
        });
        let envelope = SignaturePolicyEnvelope {
            version: 0,
            rule: Some(rule),
            identities: identities.collect(),
        };
        envelope.encode_to_vec()
    }

    fn signed(place: i32) -> SignaturePolicy {
        SignaturePolicy {
            rule: Some(Rule::SignedBy(place)),
        }
    }

    fn of(n: i32, rules: Vec<SignaturePolicy>) -> SignaturePolicy {
        SignaturePolicy {
            rule: Some(Rule::NOutOf(NOutOf { n, rules })),
        }
    }

    fn by(policy: &[u8], endorsers: &[&str]) -> bool {
        let endorsers: Vec<_> = endorsers.iter().map(|name| (*name).to_owned()).collect();
        is_met(policy, &endorsers)
    }

    #[test]
    fn either_of_two_policies_meets_one_of_both() {
        let members = [("A", PEER), ("B", PEER), ("C", PEER)];
        let majority = of(2, vec![signed(0), signed(1), signed(2)]);
        let policy = encoded(of(1, vec![signed(0), majority]), &members);
        for (endorsers, met) in [
            (&["A"][..], true),
            (&["B", "C"], true),
            (&["A", "B", "C"], true),
            (&["B"], false),
            (&["C", "D"], false),
            (&[], false),
        ] {
            assert_eq!(by(&policy, endorsers), met, "{endorsers:?}");
        }
    }

    #[test]
    fn an_endorsement_counts_once_within_a_policy() {
        let policy = encoded(of(2, vec![signed(0), signed(0)]), &[("A", PEER)]);
        assert!(!by(&policy, &["A"]));
        assert!(by(&policy, &["A", "A"]));
    }

    #[test]
    fn who_is_no_peer_and_what_is_no_policy_is_never_met() {
        assert!(!by(&encoded(signed(0), &[("A", CLIENT)]), &["A"]));
        assert!(!by(&encoded(signed(1), &[("A", PEER)]), &["A"]));
        assert!(!by(b"\xff", &["A"]));
        assert!(!by(b"", &["A"]));
    }
}
