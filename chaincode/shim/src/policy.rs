//! Endorsement policies of single keys: whose peers have to agree before a key is written again.
//!
//! Encoded, a policy is the `SignaturePolicyEnvelope` that a peer expects in a key's metadata under [`crate::VALIDATION_PARAMETER`]. It
//! takes the place of the chaincode's own policy for that key, from the block after this transaction's on.

use bytes::Bytes;
use prost::Message as _;

/// Whose peers have to endorse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndorsementPolicy {
    /// A peer of this member, by the member's id. Its membership service provider has to tell peers apart (`NodeOUs`).
    Peer(String),
    /// So many of these.
    OutOf(u32, Vec<EndorsementPolicy>),
}

impl EndorsementPolicy {
    /// As a key's metadata holds it. The same policy gives the same bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut members = Vec::new();
        let rule = self.rule(&mut members);
        let identities = members.iter().map(|member| wire::MspPrincipal {
            principal_classification: wire::ROLE,
            principal: wire::MspRole {
                msp_identifier: member.clone(),
                role: wire::PEER,
            }
            .encode_to_vec(),
        });
        let envelope = wire::SignaturePolicyEnvelope {
            version: 0,
            rule: Some(rule),
            identities: identities.collect(),
        };
        envelope.encode_to_vec().into()
    }

    /// The rule, with members as places in the list of all of them.
    fn rule(&self, members: &mut Vec<String>) -> wire::SignaturePolicy {
        let rule = match self {
            Self::Peer(member) => {
                let known = members.iter().position(|known| known == member);
                let place = known.unwrap_or_else(|| {
                    members.push(member.clone());
                    members.len() - 1
                });
                wire::Rule::SignedBy(i32::try_from(place).unwrap_or(i32::MAX))
            }
            Self::OutOf(needed, policies) => wire::Rule::NOutOf(wire::NOutOf {
                n: i32::try_from(*needed).unwrap_or(i32::MAX),
                rules: policies.iter().map(|policy| policy.rule(members)).collect(),
            }),
        };
        wire::SignaturePolicy { rule: Some(rule) }
    }
}

/// Messages of fabric-protos, `common/policies.proto` and `msp/msp_principal.proto`. They are opaque to the stream, and so no part of
/// its wire types.
mod wire {
    /// `MSPPrincipal.Classification.ROLE`.
    pub(super) const ROLE: i32 = 0;
    /// `MSPRole.MSPRoleType.PEER`.
    pub(super) const PEER: i32 = 3;

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct SignaturePolicyEnvelope {
        #[prost(int32, tag = "1")]
        pub(super) version: i32,
        #[prost(message, optional, tag = "2")]
        pub(super) rule: Option<SignaturePolicy>,
        #[prost(message, repeated, tag = "3")]
        pub(super) identities: Vec<MspPrincipal>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct SignaturePolicy {
        #[prost(oneof = "Rule", tags = "1, 2")]
        pub(super) rule: Option<Rule>,
    }

    #[derive(Clone, PartialEq, prost::Oneof)]
    pub(super) enum Rule {
        #[prost(int32, tag = "1")]
        SignedBy(i32),
        #[prost(message, tag = "2")]
        NOutOf(NOutOf),
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct NOutOf {
        #[prost(int32, tag = "1")]
        pub(super) n: i32,
        #[prost(message, repeated, tag = "2")]
        pub(super) rules: Vec<SignaturePolicy>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct MspPrincipal {
        #[prost(int32, tag = "1")]
        pub(super) principal_classification: i32,
        #[prost(bytes = "vec", tag = "2")]
        pub(super) principal: Vec<u8>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct MspRole {
        #[prost(string, tag = "1")]
        pub(super) msp_identifier: String,
        #[prost(int32, tag = "2")]
        pub(super) role: i32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_names_each_member_once_and_its_rules_by_place() {
        let peer = |member: &str| EndorsementPolicy::Peer(member.to_owned());
        let majority = EndorsementPolicy::OutOf(2, vec![peer("A"), peer("B"), peer("C")]);
        let policy = EndorsementPolicy::OutOf(1, vec![peer("B"), majority]);
        let envelope = wire::SignaturePolicyEnvelope::decode(policy.encode()).unwrap();
        let names: Vec<_> = envelope
            .identities
            .iter()
            .map(|identity| wire::MspRole::decode(&identity.principal[..]).unwrap())
            .map(|role| (role.msp_identifier, role.role))
            .collect();
        let names: Vec<_> = names.iter().map(|(name, role)| (name.as_str(), *role)).collect();
        assert_eq!(names, [("B", 3), ("A", 3), ("C", 3)]);
        let signed = |place| wire::SignaturePolicy {
            rule: Some(wire::Rule::SignedBy(place)),
        };
        let of = |n, rules| wire::SignaturePolicy {
            rule: Some(wire::Rule::NOutOf(wire::NOutOf { n, rules })),
        };
        let inner = of(2, vec![signed(1), signed(0), signed(2)]);
        assert_eq!(envelope.rule, Some(of(1, vec![signed(0), inner])));
    }
}
