//! The `redis-trib` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    redis_trib::cli::run(std::env::args_os().collect())
}
