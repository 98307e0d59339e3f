//! Findings in the JSON of `check`.

use serde_json::Value;

use super::command::{Finished, Trib};
use super::server::Server;
use super::subcommands::check_json;
use super::wait::{PATIENCE, until};

/// The codes of all findings.
pub(crate) fn codes(json: &Value) -> Vec<&str> {
    let findings = json["findings"].as_array().unwrap();
    findings
        .iter()
        .map(|finding| finding["code"].as_str().unwrap())
        .collect()
}

/// The first finding of that code.
#[track_caller]
pub(crate) fn finding<'a>(json: &'a Value, code: &str) -> &'a Value {
    let findings = json["findings"].as_array().unwrap();
    findings
        .iter()
        .find(|finding| finding["code"] == code)
        .unwrap_or_else(|| panic!("no {code} in {:#}", json["findings"]))
}

/// The entry of that node in the report.
#[track_caller]
pub(crate) fn node<'a>(json: &'a Value, server: &Server) -> &'a Value {
    let id = server.id();
    let nodes = json["nodes"].as_array().unwrap();
    nodes
        .iter()
        .find(|node| node["id"] == id)
        .unwrap_or_else(|| panic!("no {id} in {:#}", json["nodes"]))
}

/// Looks until all that is found are these codes.
#[track_caller]
pub(crate) fn settles_to(addr: &str, expected: &[&str]) -> Finished {
    until(&format!("check to find {expected:?}"), PATIENCE, || {
        let finished = check_json(addr).run();
        let json = finished.json();
        if codes(&json) == expected {
            Ok(finished)
        } else {
            Err(format!("{:#}", json["findings"]))
        }
    })
}

/// Nothing else is wrong with the cluster than what is said of its nodes' hosts.
pub(crate) fn is_healthy(node: &Server) {
    Trib::new().args(["check", &node.addr()]).run().status(0);
}
