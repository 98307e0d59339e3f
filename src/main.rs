//! The `redis-trib` program.

fn main() {}
