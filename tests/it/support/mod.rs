//! The bench: real servers, the program under test, and what stands between them.
//!
//! Servers and clusters:
//! - [`server`]: one real server process, of any version. [`ports`]: its ports.
//! - [`cluster`]: several servers, and a cluster of them. [`hosts`]: servers on several addresses.
//! - [`network`]: a network of its own, in which hosts can be cut off.
//! - [`proxy`]: stands in front of a server and delays, cuts, stalls, counts.
//! - [`balancer`]: a load balancer in front of several servers.
//! - [`proxied_masters`]: two masters behind proxies, with slots that move between them.
//! - [`atomic_moves`]: clusters whose slots move by atomic slot migration.
//! - [`scripted`]: a node with scripted answers, also a thousand of them. [`resp`]: its protocol.
//! - [`tls`]: certificates, good and bad.
//!
//! The program under test:
//! - [`command`]: runs `redis-trib`, with pipes or on a terminal, and looks at what it did.
//! - [`hooks`]: commands for `roll --each` that let the test restart servers.
//! - [`subcommands`]: command lines that many tests start from.
//! - [`findings`]: findings in the JSON of `check`. [`journal`]: lines of a `--journal` file.
//! - [`stopped_run`]: the output of a run that stopped part-way. [`ran`]: notes what ran on which version.
//! - [`secrets`]: what no run may show. [`hostile_text`]: text that could act on a terminal.
//!
//! The state of a cluster:
//! - [`views`]: the nodes' views of the cluster. [`slots`]: their owners, open slots, keys that hash to them.
//! - [`keys`]: keys in a cluster, and what they hold. [`values`]: values of every type.
//! - [`dataset`]: keys of every type, and a digest of what they hold.
//! - [`writers`]: clients that write new keys. [`counting_writers`]: clients that overwrite their own keys.
//!
//! [`wait`]: every wait of the bench has a deadline and says what it waits for. [`runtime`]: proxies and
//! scripted nodes run on it.

// Each test uses its own corner of the bench.
#![allow(dead_code)]

pub(crate) mod atomic_moves;
pub(crate) mod balancer;
pub(crate) mod cluster;
pub(crate) mod command;
pub(crate) mod counting_writers;
pub(crate) mod dataset;
pub(crate) mod disk;
pub(crate) mod findings;
pub(crate) mod hooks;
pub(crate) mod hostile_text;
pub(crate) mod hosts;
pub(crate) mod journal;
pub(crate) mod keys;
pub(crate) mod network;
pub(crate) mod ports;
pub(crate) mod proxied_masters;
pub(crate) mod proxy;
pub(crate) mod ran;
pub(crate) mod resp;
pub(crate) mod runtime;
pub(crate) mod scripted;
pub(crate) mod secrets;
pub(crate) mod server;
pub(crate) mod slots;
pub(crate) mod stopped_run;
pub(crate) mod subcommands;
pub(crate) mod tls;
pub(crate) mod values;
pub(crate) mod views;
pub(crate) mod wait;
pub(crate) mod writers;
