//! Why a token was refused: one stable code for each defect, for the audit and the log.
//!
//! A caller learns less than the audit: every refusal is the same 401 `unauthenticated`, since a sentence on what is wrong with a forged
//! token helps whoever forges it. What could not be decided (see [`TokenError::is_no_verdict`]) is a 503 instead.

/// Why a token was refused. Its text is the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum TokenError {
    // The bytes.
    /// Longer than any issuer's.
    #[error("token_too_long")]
    TooLong,
    /// Neither a signed token of three parts nor anything else that an issuer gives.
    #[error("not_three_parts")]
    Parts,
    /// A JWE: five parts, or a header with `enc`.
    #[error("encrypted_token")]
    Encrypted,
    /// Not base64url.
    #[error("not_base64url")]
    Encoding,
    /// Base64url with padding, where only balancers write that.
    #[error("padded_base64")]
    Padded,
    /// Base64url with bits that belong to no byte: another text for the same bytes.
    #[error("ambiguous_base64")]
    Ambiguous,
    /// Not UTF-8.
    #[error("not_utf8")]
    NotUtf8,
    /// Not JSON.
    #[error("not_json")]
    NotJson,
    /// JSON, but no object.
    #[error("not_an_object")]
    NotAnObject,
    /// A member is there twice.
    #[error("duplicate_member")]
    Duplicate,
    /// Nested deeper than any issuer's.
    #[error("nested_too_deep")]
    TooDeep,

    // The header.
    /// Longer than any issuer's.
    #[error("header_too_long")]
    HeaderTooLong,
    /// `alg` is missing or no text.
    #[error("algorithm_missing")]
    AlgorithmMissing,
    /// `alg` says that nothing is signed, in whatever case.
    #[error("algorithm_none")]
    AlgorithmNone,
    /// `alg` is an HMAC: whoever verifies it could make it.
    #[error("algorithm_symmetric")]
    AlgorithmSymmetric,
    /// `alg` is none that this broker knows.
    #[error("algorithm_unknown")]
    AlgorithmUnknown,
    /// `alg` is none of the issuer's.
    #[error("algorithm_not_pinned")]
    AlgorithmNotPinned,
    /// `alg` does not fit the key.
    #[error("algorithm_not_the_keys")]
    AlgorithmNotTheKeys,
    /// There is no `kid`.
    #[error("key_id_missing")]
    KeyIdMissing,
    /// `kid` is no text of 1 to 256 visible characters, or not what this issuer's look like.
    #[error("key_id_malformed")]
    KeyIdMalformed,
    /// The token brings its own key: `jwk` or `x5c`.
    #[error("key_in_token")]
    KeyInToken,
    /// The token says where to fetch its key: `jku` or `x5u`.
    #[error("key_address_in_token")]
    KeyAddressInToken,
    /// `crit`: an extension that must be understood.
    #[error("critical_header")]
    Critical,
    /// `b64`: the payload is signed as it is.
    #[error("unencoded_payload")]
    Unencoded,
    /// `zip`: the payload is compressed.
    #[error("compressed_payload")]
    Compressed,
    /// `cty`: the payload is another token.
    #[error("nested_token")]
    Nested,
    /// `typ` is that of a token for something else.
    #[error("token_type")]
    Type,

    // The signature.
    /// There is none.
    #[error("signature_missing")]
    SignatureMissing,
    /// No signature of this algorithm looks so.
    #[error("signature_malformed")]
    SignatureMalformed,
    /// It is not the key's.
    #[error("bad_signature")]
    Signature,

    // Whose it is.
    /// There is no `iss`.
    #[error("issuer_missing")]
    IssuerMissing,
    /// `iss` is no text.
    #[error("issuer_malformed")]
    IssuerMalformed,
    /// No configured issuer has this `iss`.
    #[error("unknown_issuer")]
    UnknownIssuer,
    /// The issuer has no such key.
    #[error("unknown_key")]
    UnknownKey,

    // The claims.
    /// There is no `sub`.
    #[error("subject_missing")]
    SubjectMissing,
    /// `sub` is no text of 1 to 512 bytes without control characters.
    #[error("subject_malformed")]
    SubjectMalformed,
    /// There is no `aud`.
    #[error("audience_missing")]
    AudienceMissing,
    /// `aud` is neither a text nor a list of texts.
    #[error("audience_malformed")]
    AudienceMalformed,
    /// Made for somebody else.
    #[error("wrong_audience")]
    Audience,
    /// Made for others as well, who could show it here.
    #[error("audience_not_alone")]
    AudienceNotAlone,
    /// There is no `exp`.
    #[error("expiry_missing")]
    ExpiryMissing,
    /// `exp` is no whole number of seconds between 1970 and the year 9999.
    #[error("expiry_malformed")]
    ExpiryMalformed,
    /// `exp` is past.
    #[error("expired")]
    Expired,
    /// `nbf` or `iat` is no such number.
    #[error("time_malformed")]
    TimeMalformed,
    /// `nbf` is to come.
    #[error("not_yet_valid")]
    NotYetValid,
    /// `iat` is to come.
    #[error("issued_in_the_future")]
    IssuedInTheFuture,
    /// `cnf`: good only with a key that its holder proves to have.
    #[error("sender_constrained")]
    SenderConstrained,
    /// `events`: tells of something, such as a logout, and is nobody's identity.
    #[error("event_token")]
    Event,

    // Kubernetes.
    /// There is no `kubernetes.io`, or not with namespace, name and uid of the account.
    #[error("bound_object_missing")]
    BoundObjectMissing,
    /// `sub` and the bound account differ.
    #[error("bound_object_mismatch")]
    BoundObjectMismatch,
    /// The API server says that account, pod or token is gone.
    #[error("bound_object_gone")]
    BoundObjectGone,

    // AWS Application Load Balancer.
    /// Another balancer signed it.
    #[error("wrong_signer")]
    Signer,
    /// Made for another client of the provider.
    #[error("wrong_client")]
    Client,

    // JupyterHub.
    /// No token of any hub looks so, or there is no hub to ask.
    #[error("not_a_token")]
    NotAToken,
    /// The hub does not know it, or not any more.
    #[error("unknown_to_hub")]
    UnknownToHub,
    /// It belongs to a service of the hub and to no person.
    #[error("hub_service")]
    HubService,
    /// It lacks a scope that is asked for.
    #[error("scope_missing")]
    ScopeMissing,

    // No verdict.
    /// The issuer's keys could not be fetched yet.
    #[error("keys_unavailable")]
    KeysUnavailable,
    /// The hub does not answer.
    #[error("hub_unavailable")]
    HubUnavailable,
    /// The API server does not review tokens.
    #[error("review_unavailable")]
    ReviewUnavailable,
}

impl TokenError {
    /// Whether the token may be good: who has to say so could not be asked.
    #[must_use]
    pub const fn is_no_verdict(self) -> bool {
        matches!(
            self,
            Self::KeysUnavailable | Self::HubUnavailable | Self::ReviewUnavailable
        )
    }
}
