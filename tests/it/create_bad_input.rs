//! What a user can get wrong with `create`: one clear error, the right exit code, nothing changed.

use std::time::Duration;

use crate::support::cluster::Nodes;
use crate::support::command::{Finished, Trib};
use crate::support::scripted::{Reply, Script};
use crate::support::server::Spec;
use crate::support::subcommands::create;
use crate::support::tls::Material;
use crate::support::views::assert_bare;
use crate::support::wait::{PATIENCE, until};

/// Runs it, and looks at what every error has in common.
#[track_caller]
fn refused(run: Trib, code: i32) -> Finished {
    let ended = run.run().status(code).within(Duration::from_secs(20));
    let errors = ended.stderr.matches("error:").count();
    assert_eq!(errors, 1, "one error, said once:\n{}", ended.stderr);
    ended.stdout_empty()
}

#[test]
fn the_command_line() {
    let args = |args: &[&str]| Trib::new().arg("create").args(args);
    for (line, said) in [
        (&[][..], "<NODE>"),
        (&["127.0.0.1:0"], "\"0\" is not a port (1 to 65535)"),
        (&["127.0.0.1:70000"], "\"70000\" is not a port (1 to 65535)"),
        (
            &["7000"],
            "\"7000\" is not a host: write 127.0.0.1:7000 or host:7000",
        ),
        (&["127.0.0.1;7000"], "is not a host name or an IP address"),
        (&["::1:7000"], "write an IPv6 address as [::1]:7000"),
        (&["http://h:7000"], "http:// is not supported"),
        (&["h:1", "--nosuch"], "unexpected argument '--nosuch'"),
        (&["h:1", "--replicas", "70000"], "--replicas"),
        (&["h:1", "--replicas", "-1"], "--replicas"),
        (&["h:1", "--replicas=-1"], "--replicas"),
        (&["h:1", "--replicas", "abc"], "--replicas"),
        (
            &["h:1", "--join-timeout", "60"],
            "write it with its unit, as 500ms, 60s or 5m",
        ),
        (
            &["h:1", "--join-timeout", "0s"],
            "a time must be above zero",
        ),
        (&["h:1", "--join-timeout", "-5s"], "--join-timeout"),
        (&["h:1", "--expect-nodes", "0"], "--expect-nodes"),
        (&["h:1", "h:1"], "h:1 is named twice"),
        (&["h:1", "redis://h:1"], "h:1 is named twice"),
        (
            &["h:1", "--pin-master", "h:1", "--pin-replica", "h:1"],
            "h:1 is pinned as master",
        ),
        (&["h:1", "--zone", "h:1"], "is not ADDR=NAME"),
        (
            &["h:1", "-o", "nagios"],
            "--output nagios is for check only",
        ),
        (
            &["h:1", "-o", "prometheus"],
            "--output prometheus is for check only",
        ),
        (&["h:1", "--pass-file", "/nonexistent"], "/nonexistent"),
        (&["h:1", "--cacert", "ca.pem"], "--cacert needs TLS"),
        (
            &["h:1", "--tls", "--cacert", "/nonexistent"],
            "/nonexistent",
        ),
        (
            &["h:1", "--askpass"],
            "--pass-file and REDISCLI_AUTH need no terminal",
        ),
    ] {
        refused(args(line), 2).stderr_has(said);
    }
}

#[test]
fn addresses_that_lead_nowhere() {
    let nodes = Nodes::quick(2);
    let addrs = nodes.addrs();
    // All of them: no node was reached.
    refused(create(["nosuch.invalid:7000"]), 4)
        .stderr_has("nosuch.invalid:7000: the name does not resolve");
    refused(create(["127.0.0.1:1", "127.0.0.1:2"]), 4)
        .stderr_has("127.0.0.1:1: connection refused")
        .stderr_has("127.0.0.1:2: connection refused");
    // Some of them: all are reported at once.
    refused(
        create(&addrs).args(["127.0.0.1:1", "nosuch.invalid:7000", "127.0.0.1:2"]),
        3,
    )
    .stderr_has("nothing was changed, for 3 reasons:")
    .stderr_has("127.0.0.1:1: connection refused")
    .stderr_has("127.0.0.1:2: connection refused")
    .stderr_has("nosuch.invalid:7000: the name does not resolve");
    // Addresses never become more.
    refused(create(&addrs).args(["--expect-nodes", "3"]), 3)
        .stderr_has("2 nodes are named, 3 expected (--expect-nodes)");
    assert_bare(&nodes);
}

#[test]
fn servers_that_are_none() {
    let nodes = Nodes::quick(2);
    let http = Script::silent_about_all()
        .on(
            "",
            Reply::raw("HTTP/1.1 400 Bad Request\r\n\r\n").then_close(),
        )
        .start();
    let old = Script::new()
        .on(
            "INFO",
            Reply::bulk("redis_version:3.0.7\r\ncluster_enabled:1\r\n"),
        )
        .on(
            "CLUSTER NODES",
            Reply::bulk(&format!(
                "{} :7000 myself,master - 0 0 0 connected\n",
                "ab".repeat(20)
            )),
        )
        .on("CLUSTER INFO", Reply::bulk("cluster_state:fail\r\n"))
        .start();
    let garbage = Script::new()
        .on("CLUSTER NODES", Reply::bulk("\u{1b}[31mhello\n"))
        .on("CLUSTER INFO", Reply::bulk("cluster_state:fail\r\n"))
        .start();
    let plain = Spec::new().plain().start();
    refused(create([http.addr()]), 4).stderr_has("does not speak the Redis protocol");
    refused(create([plain.addr()]), 3).stderr_has("is not a cluster node: set cluster-enabled yes");
    refused(
        create(nodes.addrs())
            .arg(http.addr())
            .arg(plain.addr())
            .arg(garbage.addr()),
        3,
    )
    .stderr_has("for 3 reasons")
    .stderr_has("does not speak the Redis protocol (it says \"HTTP/1.1")
    .stderr_has("is not a cluster node")
    .stderr_has("CLUSTER NODES line 1 can't be read")
    .stderr_lacks("\u{1b}");
    refused(create(nodes.addrs()).arg(old.addr()), 3)
        .stderr_has("runs redis 3.0.7: 3.2 is the oldest supported version");
    let stopped = Spec::new().quick().start();
    stopped.stop();
    refused(
        create(nodes.addrs())
            .arg(stopped.addr())
            .args(["--command-timeout", "500ms"]),
        3,
    )
    .stderr_has(&format!("{}: no answer to", stopped.addr()))
    .stderr_has("within 500ms");
    assert_bare(&nodes);
}

#[test]
fn the_same_node_twice() {
    let nodes = Nodes::quick(3);
    let port = nodes[0].port();
    refused(create(nodes.addrs()).arg(format!("localhost:{port}")), 3).stderr_has(&format!(
        "127.0.0.1:{port} and localhost:{port} are the same node"
    ));
    assert_bare(&nodes);
}

#[test]
fn logins() {
    let locked = Nodes::with(2, &Spec::new().quick().password("secret"));
    let open = Spec::new().quick().start();
    let half = Spec::new()
        .quick()
        .password("secret")
        .arg("--masterauth", "")
        .start();
    refused(create(locked.addrs()), 4).stderr_has("needs a password: give it with --pass");
    refused(create(locked.addrs()).args(["-a", "wr0ng"]), 4)
        .stderr_has("wrong password (user default)")
        .stderr_lacks("wr0ng");
    refused(create(locked.addrs()).arg(open.addr()), 3).stderr_has("needs a password");
    refused(
        create(locked.addrs()).args([&open.addr(), "-a", "secret"]),
        3,
    )
    .stderr_has(&format!("{} (", open.addr()))
    .stderr_has("requires no password, but other nodes do");
    let run = create(locked.addrs()).args([&half.addr(), "-a", "secret"]);
    refused(run.args(["--allow-few-masters", "--replicas=1"]), 3)
        .stderr_has(&format!("{} (", half.addr()))
        .stderr_has("has no masterauth")
        .stderr_lacks("secret");
    assert_bare(&locked);
    assert_bare(&[open, half]);
}

#[test]
fn tls_and_certificates() {
    let material = Material::new();
    let plain = Spec::new().quick().start();
    let tls = Spec::new().quick().tls(&material);
    let good = tls.start();
    let ca = material.ca.display().to_string();
    let with = |addr: String, ca: &str| create([addr]).args(["--tls", "--cacert", ca]);
    refused(create([good.addr()]), 4).stderr_has("the port may expect TLS (pass --tls)");
    refused(with(plain.addr(), &ca), 4).stderr_has(&plain.addr());
    refused(
        with(good.addr(), &material.other_ca.display().to_string()),
        4,
    )
    .stderr_has(&format!("{}: ", good.addr()));
    for (pair, said) in [
        (&material.expired, "expired"),
        (&material.misnamed, "elsewhere.example"),
        (&material.nameless, "name"),
    ] {
        let bad = tls.clone().tls_certificate(&pair.cert, &pair.key).start();
        refused(with(bad.addr(), &ca), 4).stderr_has(said);
        assert_bare(&[bad]);
    }
    assert_bare(&[plain, good]);
}

#[test]
fn nodes_that_are_not_empty() {
    let nodes = Nodes::quick(5);
    // A key can be written once all slots are served.
    nodes.assign(4, 0..=16383);
    nodes.assign(3, 0..=16383);
    let cluster = Nodes::quick(2);
    cluster.form(1);
    cluster[0].cmd(&["SET", "key", "value"]);
    until("the slots to be served", PATIENCE, || {
        nodes[4]
            .try_cmd(&["SET", "a", "1"])
            .map_err(|error| error.to_string())
    });
    // The slots go, the key stays.
    nodes[4].cmd(&["CLUSTER", "DELSLOTSRANGE", "0", "16383"]);
    let ended = refused(
        create([
            nodes[0].addr(),
            nodes[3].addr(),
            nodes[4].addr(),
            cluster[0].addr(),
        ]),
        3,
    );
    ended
        .stderr_has("for 3 reasons")
        .stderr_has("is not empty: it holds 1 key (FLUSHALL on it would delete them)")
        .stderr_has(
            "owns slots 0-16383, other than planned (CLUSTER RESET on it makes it forget that)",
        )
        .stderr_has(&format!("{} (", cluster[0].addr()))
        .stderr_has("belongs to a cluster already: it knows ")
        .stderr_has(&cluster[1].addr())
        .stderr_has(", and holds 1 key");
    // A replica, to be a master here.
    refused(
        create([nodes[0].addr(), nodes[1].addr(), cluster[1].addr()])
            .args(["--pin-master", &cluster[1].addr()]),
        3,
    )
    .stderr_has("belongs to a cluster already");
    assert_bare(&nodes[..3]);
}

#[test]
fn plans_that_do_not_come_out() {
    let nodes = Nodes::quick(5);
    let addrs = nodes.addrs();
    refused(create(&addrs[..3]).args(["--replicas", "1"]), 3)
        .stderr_has("give 6 nodes or fewer replicas");
    refused(create(&addrs).args(["--replicas", "999"]), 3).stderr_has("too few for 999 replicas");
    refused(create(&addrs).args(["--pin-master", "127.0.0.1:1"]), 2)
        .stderr_has("127.0.0.1:1 is pinned, but is not among the nodes");
    let mut pins = create(&addrs[..4]).args(["--replicas=1", "--allow-few-masters"]);
    for addr in &addrs[..3] {
        pins = pins.args(["--pin-master", addr]);
    }
    refused(pins, 3).stderr_has("3 nodes are pinned as masters");
    refused(create(&addrs).args(["--zone", "127.0.0.1:1=a"]), 2)
        .stderr_has("no node has that address");
    assert_bare(&nodes);
}

#[test]
fn a_loopback_address_among_others() {
    let nodes = Nodes::quick(2);
    let announced = Spec::new()
        .quick()
        .arg("--cluster-announce-ip", "192.0.2.7")
        .start();
    refused(create(nodes.addrs()).arg(announced.addr()), 3)
        .stderr_has("is a loopback address: the node at 192.0.2.7 could not reach it there");
    assert_bare(&nodes);
}
