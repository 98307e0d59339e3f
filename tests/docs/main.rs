//! The documents: README.md, README.zh-CN.md, CONTRIBUTING.md and the pages in `docs`. Generated parts are current,
//! links lead somewhere, sentences are short. `tests/it/examples.rs` runs the examples.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]
#![allow(missing_docs)]

mod examples;
mod generated;
mod links;
mod page;
mod prose;
