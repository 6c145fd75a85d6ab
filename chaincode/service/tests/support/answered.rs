//! Reading the chaincode's answers as a client does.

use leasehold_chaincode::Refusal;
use leasehold_chaincode_service::Told;
use leasehold_conformance::BenchError;
use serde_json::Value;

/// What an accepted command did.
pub fn told(payload: &[u8]) -> Result<Told, BenchError> {
    serde_json::from_slice(payload)
        .map_err(|error| BenchError::Broken(format!("{error}: {}", String::from_utf8_lossy(payload))))
}

/// The refusal in a message, or what else it says.
pub fn refused(message: &str) -> BenchError {
    let refusal = serde_json::from_str::<Value>(message)
        .ok()
        .and_then(|mut document| {
            document.as_object_mut()?.remove("message")?;
            serde_json::from_value::<Refusal>(document).ok()
        });
    refusal.map_or_else(|| BenchError::Broken(message.to_owned()), BenchError::Refused)
}
