//! The walkthrough in Docker Swarm, on this machine, with the image that `make image` builds: `make test-docker`.
//!
//! This program runs three times over: as the supervisor, which starts the story, and clears away whatever became
//! of it; as the story; and, inside a container, as a client of the cluster. Parts of the story are told alone by
//! name: `cargo test --test docker -- stack`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::exit)]
#![allow(missing_docs)]

mod client;
mod compose;
mod engine;
mod stack;
mod supervisor;
#[path = "../it/support/mod.rs"]
mod support;
mod walkthrough;
mod writer;

use std::time::Instant;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.first().map(String::as_str) {
        Some("story") => story(&words[1..]),
        Some("write") => writer::run(&words[1..]),
        _ => std::process::exit(supervisor::run(&words)),
    }
}

fn story(wanted: &[String]) {
    let parts: [(&str, fn()); 3] = [
        ("walkthrough", walkthrough::run),
        ("stack", stack::run),
        ("compose", compose::run),
    ];
    for (name, tell) in parts {
        if wanted.is_empty() || wanted.iter().any(|one| one == name) {
            tell();
        }
    }
}

/// A part of the story, with its name and its time.
fn chapter<T>(name: &str, tell: impl FnOnce() -> T) -> T {
    println!("\n== {name}");
    let started = Instant::now();
    let told = tell();
    println!("== {:.1} s", started.elapsed().as_secs_f64());
    told
}
