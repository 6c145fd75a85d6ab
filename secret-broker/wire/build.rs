//! Generates the gRPC types from the proto file, with a compiler in Rust so that no `protoc` is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let proto = "proto/leasehold/broker/v1/machines.proto";
    println!("cargo:rerun-if-changed={proto}");
    let descriptors = protox::compile([proto], ["proto"])?;
    // They carry credentials: `src/discreet.rs` says what is shown of them.
    let discreet = ["OpenVolumeResponse", "BindServiceAccountsRequest"]
        .map(|message| format!("leasehold.broker.v1.{message}"));
    tonic_prost_build::configure()
        .skip_debug(discreet)
        .compile_fds(descriptors)?;
    Ok(())
}
