//! The broker's promises, over real sockets: the built binary as a process of its own, an OpenID provider and an API server of the
//! tests', REST and gRPC as people and machines speak them.

mod canary;
mod fixture;
mod issuer;
mod machines;
mod people;
mod restart;
mod tokens;
