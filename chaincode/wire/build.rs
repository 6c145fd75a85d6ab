//! Generates the types from the proto files, with a compiler in Rust so that no `protoc` is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let protos = [
        "proto/envelope.proto",
        "proto/gateway.proto",
        "proto/stream.proto",
        "proto/transaction.proto",
    ];
    for proto in protos {
        println!("cargo:rerun-if-changed={proto}");
    }
    let descriptors = protox::compile(protos, ["proto"])?;
    tonic_prost_build::configure()
        // The client's generated `connect(endpoint)` would share its name with the call `Connect`.
        .build_transport(false)
        .bytes(".")
        .compile_fds(descriptors)?;
    Ok(())
}
