//! The bench: real servers, the program under test, and what stands between them.
//!
//! - [`server`]: one real server process, of any version. [`cluster`]: several, and a cluster of them.
//! - [`command`]: runs `redis-trib`, with pipes or on a terminal, and looks at what it did.
//! - [`dataset`]: keys of every type, and a digest of what they hold.
//! - [`proxy`]: stands in front of a server and delays, cuts, stalls, counts.
//! - [`scripted`]: a node that says what it was told to say, also a thousand of them.
//! - [`tls`]: certificates, good and bad.
//! - [`secrets`]: what no run may show.
//! - [`network`]: a network of its own, in which hosts can be cut off. [`writers`]: clients at work.
//! - [`wait`]: every wait of the bench has a deadline and says what it waits for.

// Each test uses its own corner of the bench.
#![allow(dead_code)]

pub(crate) mod cluster;
pub(crate) mod command;
pub(crate) mod dataset;
pub(crate) mod network;
pub(crate) mod ports;
pub(crate) mod proxy;
pub(crate) mod resp;
pub(crate) mod runtime;
pub(crate) mod scripted;
pub(crate) mod secrets;
pub(crate) mod server;
pub(crate) mod tls;
pub(crate) mod wait;
pub(crate) mod writers;
