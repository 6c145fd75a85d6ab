//! **Real** database servers for tests: PostgreSQL and MariaDB, each made in a temporary directory, reached through a socket in it, and
//! ended with the last test that uses it. Where the programs are missing, the test is told so and prints that it was skipped.

// What cannot be set up fails the test that asked for it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

pub mod mariadb;
pub mod postgres;
mod process;
