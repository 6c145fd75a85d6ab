//! Tests against what real Argo 4.1 was recorded sending to an API server (`tests/fixtures/admission`).

mod pods;
mod recordings;
mod status;
