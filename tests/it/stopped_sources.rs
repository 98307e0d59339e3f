//! `import` and `verify` while a node accepts connections and answers nothing.

use std::time::Duration;

use crate::support::cluster::{Nodes, three};
use crate::support::command::{Finished, Trib};
use crate::support::keys::fill;
use crate::support::proxy::Proxy;
use crate::support::server::{Server, Spec};
use crate::support::wait::PATIENCE;

/// Masters without replicas, behind proxies, and some of them with thousands of keys.
fn behind_proxies() -> (Nodes, Vec<Proxy>) {
    let (nodes, proxies) = Nodes::behind_proxies(3, &Spec::new().quick());
    nodes.form(3);
    (nodes, proxies)
}

fn names() -> Vec<String> {
    (0..5000).map(|n| format!("key:{n}")).collect()
}

fn fill_standalone(source: &Server) {
    let script = "for n = 0, 4999 do redis.call('SET', 'key:' .. n, string.rep('v', 90)) end";
    source.cmd(&["EVAL", script, "0"]);
}

/// Runs a command, and stops the second node once it has got that many of these commands. The end comes with the first
/// timeout.
fn stopped(args: &[&str], nodes: &Nodes, proxies: &[Proxy], at: (&str, usize)) -> Finished {
    proxies[1].stall_at(at.0, at.1);
    let running = Trib::new()
        .args(args.iter().copied())
        .args(["--command-timeout", "2s"])
        .spawn();
    assert!(proxies[1].wait_stalled(PATIENCE));
    nodes[1].stop();
    proxies[1].resume();
    let ended = running.wait_within(Duration::from_secs(12));
    nodes[1].cont();
    ended
}

fn silent(proxies: &[Proxy]) -> String {
    format!("{}: no answer to ", proxies[1].addr())
}

#[test]
fn a_stopped_master_of_the_source_ends_an_import() {
    let (source, proxies) = behind_proxies();
    fill(&source, &names());
    let target = three(&Spec::new().quick());
    let (from, node) = (proxies[0].addr(), target[0].addr());
    for options in [&[][..], &["--replace"], &["--move"]] {
        let args = ["import", "--from", &from, &node, "--yes"];
        let args = [&args[..], options].concat();
        stopped(&args, &source, &proxies, ("DUMP", 300))
            .status(6)
            .stderr_has(&silent(&proxies))
            .stderr_has("the same command continues");
        source.wait_usable();
    }
    // SCAN is the first to be left without an answer.
    let args = ["import", "--from", &from, &node, "--yes", "--move"];
    stopped(&args, &source, &proxies, ("SCAN", 1))
        .status(6)
        .stderr_has(&silent(&proxies));
    source.wait_usable();
    Trib::new().args(args).run().status(0);
    assert_eq!(source[1].text(&["DBSIZE"]), "0");
}

#[test]
fn a_stopped_master_of_the_cluster_ends_an_import() {
    let source = Spec::new().plain().start();
    fill_standalone(&source);
    let (target, proxies) = behind_proxies();
    let (from, node) = (source.addr(), proxies[0].addr());
    let args = ["import", "--from", &from, &node, "--yes"];
    stopped(&args, &target, &proxies, ("RESTORE", 300))
        .status(6)
        .stderr_has(&silent(&proxies))
        .stderr_has("the same command continues");
}

#[test]
fn a_stopped_server_ends_an_import_and_a_comparison() {
    let source = Spec::new().plain().start();
    fill_standalone(&source);
    let target = three(&Spec::new().quick());
    let proxy = Proxy::to(&source.addr());
    let (from, node) = (proxy.addr(), target[0].addr());
    for (command, code) in [("import", 6), ("verify", 4)] {
        proxy.stall_at("DUMP", 300);
        let mut trib = Trib::new().args([command, "--from", &from, &node]);
        if command == "import" {
            trib = trib.arg("--yes");
        }
        let running = trib.args(["--command-timeout", "2s"]).spawn();
        assert!(proxy.wait_stalled(PATIENCE));
        source.stop();
        proxy.resume();
        running
            .wait_within(Duration::from_secs(12))
            .status(code)
            .stderr_has(&format!("{from}: no answer to "));
        source.cont();
    }
}

#[test]
fn a_stopped_master_ends_a_comparison() {
    let (source, proxies) = behind_proxies();
    let (target, behind) = behind_proxies();
    for nodes in [&source, &target] {
        fill(nodes, &names());
    }
    let (from, node) = (proxies[0].addr(), behind[0].addr());
    let args = ["verify", "--from", &from, &node];
    stopped(&args, &source, &proxies, ("DUMP", 300))
        .status(4)
        .stderr_has(&silent(&proxies));
    source.wait_usable();
    stopped(&args, &target, &behind, ("DUMP", 300))
        .status(4)
        .stderr_has(&silent(&behind));
    target.wait_usable();
    let args = [&args[..], &["--both-ways"]].concat();
    stopped(&args, &target, &behind, ("SCAN", 1))
        .status(4)
        .stderr_has(&silent(&behind));
    target.wait_usable();
    Trib::new().args(args).run().status(0);
}
