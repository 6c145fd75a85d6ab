//! Reviews, recorded and forged. The pure decisions by tables; the whole shell over real sockets in `server.rs`. What only a
//! real API server can see (defaulting, other plugins, CEL) is left to the cluster's tests.

mod guards;
mod jobs;
mod pods;
mod properties;
mod reason_codes;
mod server;
mod world;
mod workflows;
