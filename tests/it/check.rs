//! `check` on healthy clusters, however they are reached. What it finds on others is in `check_findings`.

use std::time::Duration;

use serde_json::Value;

use crate::support::cluster::Nodes;
use crate::support::command::Trib;
use crate::support::findings::{codes, finding, node};
use crate::support::hosts::{apart, where_names_are};
use crate::support::ports;
use crate::support::scripted::{Reply, Script};
use crate::support::server::{Server, Spec, has_ipv6, versions};
use crate::support::subcommands::{check, check_json};
use crate::support::tls::Material;
use crate::support::wait::{PATIENCE, until};

#[test]
fn a_healthy_cluster_in_every_format() {
    let nodes = Nodes::each(6, apart);
    nodes.form(3);
    nodes.set_long_node_timeout();
    nodes[0].cmd(&["SET", "{06S}a", "1"]); // slot 0
    nodes[0].cmd(&["SET", "{06S}b", "1"]);
    let first = nodes[0].addr();

    let classic = check(&first).run().status(0).stderr_empty();
    assert_eq!(
        classic.stdout.matches("[OK]").count(),
        3,
        "{}",
        classic.stdout
    );
    let id = nodes[0].id();
    let classic = classic
        .stdout_lacks("[ERR]")
        .stdout_lacks("[WARNING]")
        .stdout_lacks("\u{1b}")
        .stdout_has(&format!("{first} ({}...) -> 2 keys | 5461 slots | 1 slaves.\n", &id[..8]))
        .stdout_has("[OK] 2 keys in 3 masters.\n")
        .stdout_has(&format!(">>> Performing Cluster Check (using node {first})\n"))
        .stdout_has(&format!("M: {id} {first}\n   slots:0-5460 (5461 slots) master\n   1 additional replica(s)\n"))
        .stdout_has("[OK] All nodes agree about slots configuration.\n>>> Check for open slots...\n>>> Check slots coverage...\n[OK] All 16384 slots covered.\n");

    // Every node leads to the same picture, replicas too, and so does `host port`.
    let tail = |text: &str| text.split_once("Cluster Check").unwrap().0.to_owned();
    for server in nodes.iter() {
        let other = check(&server.addr()).run().status(0);
        assert_eq!(tail(&other.stdout), tail(&classic.stdout));
        other.stdout_has(&format!("(using node {})", server.addr()));
    }
    let words = Trib::new().args(["check", nodes[0].host(), &nodes[0].port().to_string()]);
    words.run().status(0).stdout_is(&classic.stdout);
    let strict = Trib::new().args(["--output", "classic", "check", "--strict", &first]);
    strict.run().status(0).stdout_is(&classic.stdout);

    // In a pipe a person reads too; a script names the format.
    let piped = check(&first).spawn_as_given().wait().status(0);
    piped
        .stdout_has("healthy: all 16,384 slots are served; all nodes agree about slot owners")
        .stdout_has(&format!("└ {}", nodes[3].addr()))
        .stdout_lacks("[OK]");
    let brief = check(&first)
        .arg("--brief")
        .spawn_as_given()
        .wait()
        .status(0);
    brief
        .stdout_has("healthy: all 16,384 slots are served")
        .stdout_has(&nodes[0].addr())
        .stdout_lacks(&nodes[3].addr());
    let brief = check(&first).arg("--brief").run().status(0);
    brief
        .stdout_has("[OK] All 16384 slots covered.")
        .stdout_lacks("M: ");

    let table = check(&first).terminal().finish().status(0);
    let screen = table.screen();
    for text in [
        "6 nodes: 3 masters, 3 replicas, 2 keys, redis 7.0.15",
        &format!("└ {}", nodes[3].addr()),
        "0-5460",
        "healthy: all 16,384 slots are served; all nodes agree about slot owners",
    ] {
        assert!(screen.contains(text), "no {text:?} in\n{screen}");
    }
    assert!(table.stdout.contains("\u{1b}["), "no colours");
    let plain = check(&first).env("NO_COLOR", "1").terminal().finish();
    assert!(!plain.status(0).stdout.contains('\u{1b}'), "colours");
    check(&first)
        .args(["--output", "table"])
        .run()
        .stdout_lacks("\u{1b}");
    check(&first)
        .args(["--color", "always"])
        .run()
        .stdout_has("\u{1b}[32m[OK]\u{1b}[0m");

    let json = check_json(&first).run().status(0).stderr_empty().json();
    assert_eq!(json["healthy"], true);
    assert_eq!(json["slots_covered"], 16384);
    assert_eq!(json["findings"], serde_json::json!([]));
    assert_eq!(json["nodes"].as_array().unwrap().len(), 6);
    let master = node(&json, &nodes[0]);
    assert_eq!(master["addr"], *first);
    assert_eq!(master["role"], "master");
    assert_eq!(master["slots"], serde_json::json!([[0, 5460]]));
    assert_eq!(master["replicates"], Value::Null);
    assert_eq!(master["keys"], 2);
    assert_eq!(master["flags"], serde_json::json!(["master"]));
    assert_eq!(master["link"], "connected");
    // Its value depends on which nodes met while the epochs were still the same.
    assert!(master["epoch"].as_u64().unwrap() > 0);
    assert_eq!(master["version"], "7.0.15");
    let replica = node(&json, &nodes[3]);
    assert_eq!(replica["role"], "replica");
    assert_eq!(replica["slots"], serde_json::json!([]));
    assert_eq!(replica["replicates"], *id);
    assert_eq!(replica["master_link"], "up");

    check(&first)
        .args(["-o", "prometheus"])
        .run()
        .status(0)
        .stderr_empty()
        .stdout_has("# TYPE redis_trib_cluster_healthy gauge\nredis_trib_cluster_healthy 1\n")
        .stdout_has("redis_trib_cluster_slots_covered 16384\n")
        .stdout_has("redis_trib_cluster_nodes{role=\"replica\"} 3\n")
        .stdout_has(&format!(
            "redis_trib_node_keys{{id=\"{id}\",addr=\"{first}\"}} 2\n"
        ))
        .stdout_has("redis_trib_findings{code=\"slots-uncovered\",severity=\"error\"} 0\n");
    check(&first)
        .args(["-o", "nagios"])
        .run()
        .status(0)
        .stderr_empty()
        .stdout_is("CLUSTER OK - 6 nodes, 16,384 slots, 2 keys|slots_covered=16384 nodes=6 masters=3 keys=2 errors=0 warnings=0\n");
    check(&first)
        .args(["--wait", "5s", "-q"])
        .run()
        .status(0)
        .stderr_empty();
}

/// `check` as the users of these arguments would.
fn healthy(addr: &str, args: &[&str]) {
    check(addr)
        .args(args)
        .run()
        .status(0)
        .stdout_has("[OK] All 16384 slots covered.");
}

#[test]
fn a_password_comes_from_anywhere() {
    let nodes = Nodes::with(3, &Spec::new().quick().password("s3cret"));
    nodes.form(3);
    let (addr, port) = (nodes[0].addr(), nodes[0].port());
    let file = nodes[0].dir().join("password");
    std::fs::write(&file, "s3cret\nnot this\n").unwrap();
    let file = file.display().to_string();

    healthy(&addr, &["-a", "s3cret"]);
    healthy(&addr, &["--pass", "s3cret", "--user", "default"]);
    healthy(&addr, &["--pass-file", &file]);
    healthy(&format!("redis://:s3cret@127.0.0.1:{port}"), &[]);
    healthy(&format!("redis://default:s3cret@127.0.0.1:{port}"), &[]);
    // The user comes from the address, the password from an option.
    healthy(
        &format!("redis://default@127.0.0.1:{port}"),
        &["-a", "s3cret"],
    );
    let variable = || check(&addr).env("REDISCLI_AUTH", "s3cret");
    variable().run().status(0);
    variable().args(["-a", "wrong"]).run().status(4);

    for (finished, why) in [
        (check(&addr).run(), "needs a password"),
        (
            check(&addr).env("REDISCLI_AUTH", "").run(),
            "needs a password",
        ),
        (
            check(&addr).args(["-a", "wr0ng"]).run(),
            "wrong password (user default)",
        ),
        (
            check(&addr).args(["-a", "wr0ng", "--user", "ann"]).run(),
            "wrong password (user ann)",
        ),
    ] {
        finished
            .status(4)
            .stdout_empty()
            .stderr_has(&addr)
            .stderr_has(why)
            .stderr_lacks("wr0ng");
    }
    // Waiting makes no password right.
    check(&addr)
        .args(["-a", "wr0ng", "--wait", "60s"])
        .run()
        .status(4)
        .within(Duration::from_secs(20));
    check(&addr)
        .args(["-o", "nagios"])
        .run()
        .status(2)
        .stdout_has("CLUSTER CRITICAL - ")
        .stderr_empty();
    // Others than the nodes can be wrong, too.
    check(&addr)
        .args(["--pass-file", "/no/such/file"])
        .run()
        .status(2)
        .stderr_has("--pass-file /no/such/file");
    check(&addr)
        .args(["-a", "x", "--pass-file", &file])
        .run()
        .status(2)
        .stderr_has("--pass-file");
    check(&addr)
        .arg("--askpass")
        .run()
        .status(2)
        .stderr_has("--askpass")
        .stderr_has("REDISCLI_AUTH");
}

#[test]
fn a_password_is_asked_for_without_an_echo() {
    let nodes = Nodes::with(1, &Spec::new().quick().password("s3cret"));
    nodes.form(1);
    let addr = nodes[0].addr();
    let ask = || {
        // The shell outlives the program, and tells what became of the terminal.
        let script = "stty echo; trap : INT; stty -a | grep -o '.echo '; \"$@\"; echo \"status $?\"; stty -a | grep -o '.echo '";
        let trib = env!("CARGO_BIN_EXE_redis-trib");
        Trib::new()
            .program("sh")
            .args(["-c", script, "sh", trib, "check", &addr, "--askpass"])
    };
    let mut terminal = ask().terminal();
    terminal
        .expect("Password")
        .expect(": ")
        .send_line("s3cret")
        .expect("16,384 slots are served")
        .expect("status 0");
    let shown = terminal.finish().screen();
    assert!(
        !shown.contains("s3cret") && !shown.contains("-echo"),
        "{shown}"
    );

    let mut terminal = ask().terminal();
    terminal
        .expect("Password")
        .expect(": ")
        .send("s3c")
        .control('c')
        .expect("status 130");
    let shown = terminal.finish().screen();
    assert!(
        !shown.contains("s3c") && !shown.contains("-echo"),
        "{shown}"
    );

    // Asked once, however often it looks.
    let reserved = ports::reserve();
    let gone = format!("127.0.0.1:{}", reserved.port);
    let mut terminal = check(&gone).args(["--askpass", "--wait", "3s"]).terminal();
    terminal.expect("Password").expect(": ").send_line("s3cret");
    let finished = terminal.finish().status(1);
    assert_eq!(
        finished.screen().matches("[hidden]").count(),
        1,
        "{}",
        finished.screen()
    );
}

/// The least that `check` and `info` need: as docs/security.md says it.
const LEAST: &str = "+cluster|nodes +cluster|info +info";
#[test]
fn an_acl_user_with_the_least_rights_in_the_matrix() {
    for version in versions() {
        let spec = Spec::new()
            .quick()
            .version(version)
            .user("looker", "s3cret", LEAST);
        let nodes = Nodes::with(2, &spec);
        nodes.form(1);
        let addr = nodes[0].addr();
        let args = ["--user", "looker", "-a", "s3cret"];
        let json = check_json(&addr).args(args).run().status(0).json();
        assert_eq!(codes(&json), ["single-host"], "{version}");
        Trib::new().args(["info", &addr]).args(args).run().status(0);
        check(&addr).arg("--local").args(args).run().status(0);
        // What it may not is said by name.
        let json = check_json(&addr)
            .args(args)
            .arg("--probe-write")
            .run()
            .status(1)
            .json();
        let message = finding(&json, "probe-write-failed")["message"]
            .as_str()
            .unwrap();
        assert!(message.contains("may not run SET"), "{message}");
    }
    let nodes = Nodes::with(1, &Spec::new().quick().user("nobody", "s3cret", "+ping"));
    nodes.form(1);
    check(&nodes[0].addr())
        .args(["--user", "nobody", "-a", "s3cret"])
        .run()
        .status(4)
        .stderr_has("CLUSTER NODES")
        .stderr_has("ACL");
}

#[test]
fn tls_is_checked_as_far_as_asked() {
    let good = Material::new();
    let nodes = Nodes::with(3, &Spec::new().quick().tls(&good));
    nodes.form(3);
    let (addr, port) = (nodes[0].addr(), nodes[0].port());
    let ca = good.ca.display().to_string();
    let ca_dir = good.ca_dir.display().to_string();
    let other = good.other_ca.display().to_string();

    healthy(&addr, &["--tls", "--cacert", &ca]);
    healthy(&addr, &["--tls", "--cacertdir", &ca_dir]);
    healthy(&addr, &["--tls", "--cacert", &ca, "--sni", "localhost"]);
    healthy(&addr, &["--tls", "--insecure"]);
    healthy(&addr, &["--tls", "--tls-verify", "none"]);
    healthy(&format!("rediss://127.0.0.1:{port}"), &["--cacert", &ca]);
    healthy(&format!("localhost:{port}"), &["--tls", "--cacert", &ca]);

    for (args, why) in [
        (&["--tls", "--cacert", &other][..], "--cacert"),
        (
            &["--tls", "--cacert", &ca, "--sni", "elsewhere.example"],
            "elsewhere.example",
        ),
        (&[], "--tls"),
    ] {
        check(&addr)
            .args(args)
            .run()
            .status(4)
            .stdout_empty()
            .stderr_has(&addr)
            .stderr_has(why);
    }
    healthy(
        &addr,
        &[
            "--tls",
            "--cacert",
            &ca,
            "--sni",
            "elsewhere.example",
            "--tls-verify",
            "chain",
        ],
    );
    for (args, why) in [
        (&["--cacert", &ca][..], "add --tls"),
        (
            &["--tls", "--cacert", "/no/such/file"],
            "--cacert /no/such/file",
        ),
        (&["--tls", "--cert", &ca], "--key"),
    ] {
        check(&addr).args(args).run().status(2).stderr_has(why);
    }
}

#[test]
fn certificates_that_are_wrong_are_named() {
    let good = Material::new();
    let ca = good.ca.display().to_string();
    let one = |pair: &crate::support::tls::Pair| {
        Spec::new()
            .tls(&good)
            .tls_certificate(&pair.cert, &pair.key)
            .start()
    };
    let fails = |server: &Server, why: &str| {
        check(&server.addr())
            .args(["--tls", "--cacert", &ca])
            .run()
            .status(4)
            .stderr_has(why);
    };
    fails(&one(&good.expired), "expired");
    fails(&one(&good.foreign), "not trusted");
    let misnamed = one(&good.misnamed);
    fails(&misnamed, "elsewhere.example");
    let nameless = one(&good.nameless);
    fails(&nameless, "subjectAltName");
    for server in [&misnamed, &nameless] {
        let args = ["--tls", "--cacert", &ca, "--local"];
        check(&server.addr())
            .args(args)
            .args(["--tls-verify", "chain"])
            .run()
            .status(0);
    }

    let demanding = Spec::new()
        .tls(&good)
        .arg("--tls-auth-clients", "yes")
        .start();
    fails(&demanding, "--cert");
    let (cert, key) = (
        good.client.cert.display().to_string(),
        good.client.key.display().to_string(),
    );
    let args = [
        "--tls", "--cacert", &ca, "--cert", &cert, "--key", &key, "--local",
    ];
    check(&demanding.addr()).args(args).run().status(0);

    let plain = Spec::new().start();
    check(&plain.addr())
        .args(["--tls", "--cacert", &ca, "--connect-timeout", "1s"])
        .run()
        .status(4)
        .stderr_has("--tls");
}

#[test]
fn ipv6_addresses_have_brackets() {
    if !has_ipv6() {
        return;
    }
    let nodes = Nodes::with(3, &Spec::new().quick().bind("::1"));
    nodes.form(3);
    let addr = nodes[0].addr();
    healthy(&addr, &[]);
    healthy(&format!("redis://{addr}"), &[]);
    let json = check_json(&addr).run().status(0).json();
    for server in nodes.iter() {
        assert_eq!(node(&json, server)["addr"], server.addr());
    }
    check(&format!("::1:{}", nodes[0].port()))
        .run()
        .status(2)
        .stderr_has("[::1]:7000");
    Trib::new()
        .args(["check", "::1", &nodes[0].port().to_string()])
        .run()
        .status(0);
}

#[test]
fn addresses_are_mapped_to_proxies() {
    let (nodes, proxies) = Nodes::behind_proxies(3, &Spec::new().quick());
    nodes.form(3);
    // The nodes announce the addresses of the proxies: none is asked directly.
    let json = check_json(&proxies[0].addr()).run().status(0).json();
    assert_eq!(node(&json, &nodes[1])["addr"], proxies[1].addr());
    assert!(proxies.iter().all(|proxy| proxy.count("CLUSTER NODES") > 0));

    // And the other way round: what they announce can't be reached from here.
    for proxy in &proxies {
        proxy.refuse();
    }
    let found = check_json(&nodes[0].addr()).run().status(1).json();
    // One finding or two, since a connection that is reset can end in two ways.
    let unreachable: usize = found["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|finding| finding["code"] == "announced-address-unreachable")
        .map(|finding| finding["nodes"].as_array().unwrap().len())
        .sum();
    assert_eq!(unreachable, 2, "{:#}", found["findings"]);
    let remedy = finding(&found, "announced-address-unreachable")["remedy"]
        .as_str()
        .unwrap();
    assert!(remedy.contains("--address-map"), "{remedy}");
    let mapped: Vec<String> = proxies
        .iter()
        .zip(nodes.iter())
        .map(|(proxy, node)| format!("--address-map={}={}", proxy.addr(), node.addr()))
        .collect();
    let json = check_json(&nodes[0].addr())
        .args(&mapped)
        .run()
        .status(0)
        .json();
    assert_eq!(node(&json, &nodes[1])["addr"], nodes[1].addr());
}

#[test]
fn a_name_stands_for_all_its_addresses() {
    // One port for all, as in a service.
    let mut servers = vec![apart(0).start()];
    for host in 1..3 {
        let beside = apart(host).start_beside(&servers[0]);
        servers.push(beside);
    }
    let port = servers[0].port();
    let name = format!("tasks.master:{port}");
    let join = |one: &Server, other: &Server| {
        one.cmd(&["CLUSTER", "MEET", other.host(), &port.to_string()]);
    };
    servers[0].cmd(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    join(&servers[0], &servers[1]);
    until("the two to know each other", PATIENCE, || {
        match servers[1].field("cluster_state").as_deref() {
            Some("ok") if servers[0].field("cluster_state").as_deref() == Some("ok") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    let service = [("tasks.master", "127.0.0.1"), ("tasks.master", "127.0.0.2")];
    let args = ["check", &name, "-o", "json"];
    let json = where_names_are(&service, &args).run().status(0).json();
    assert_eq!(json["nodes"].as_array().unwrap().len(), 2);
    let args_expecting = [
        "check",
        &name,
        "--expect-nodes",
        "3",
        "--resolve-timeout",
        "600ms",
    ];
    where_names_are(&service, &args_expecting)
        .run()
        .status(3)
        .stderr_has("3 expected (--expect-nodes)")
        .stderr_has(servers[1].host());

    // The third is bare: it was named, and is in no cluster. The first that is a member leads.
    let all = [("tasks.master", "127.0.0.3"), service[0], service[1]];
    let json = where_names_are(&all, &args).run().status(1).json();
    assert_eq!(codes(&json), ["seed-not-member", "master-without-replicas"]);
    // --local judges one process.
    where_names_are(&all, &["check", &name, "--local"])
        .run()
        .status(2)
        .stderr_has("--local")
        .stderr_has("3");

    // It makes a cluster of its own.
    servers[2].cmd(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    where_names_are(&all, &args)
        .run()
        .status(3)
        .stdout_has("{\"format\":\"redis-trib/check\",\"version\":1,\"error\":{\"code\":3,")
        .stderr_has("different clusters")
        .stderr_has("127.0.0.3");

    // No server at the address: `check` says so, and still checks the cluster.
    let missing = [service[0], service[1], ("tasks.master", "127.0.0.77")];
    let json = where_names_are(&missing, &args).run().status(0).json();
    assert!(
        json["notes"][0].as_str().unwrap().contains("127.0.0.77"),
        "{:#}",
        json["notes"]
    );

    where_names_are(&[], &["check", "no.such.name.invalid"])
        .run()
        .status(4)
        .stderr_has("no.such.name.invalid");
}

#[test]
fn announced_names_and_zones_are_shown() {
    let nodes = Nodes::each(2, |i| {
        apart(i).arg("--cluster-announce-hostname", format!("node-{i}.example"))
    });
    nodes.form(1);
    let addr = nodes[0].addr();
    let told = until("the names to spread", PATIENCE, || {
        let json = check_json(&addr).run().json();
        match json["nodes"][1]["hostname"].as_str() {
            Some(name) => Ok(name.to_owned()),
            None => Err(format!("{json:#}")),
        }
    });
    assert_eq!(told, "node-1.example");
    let table = check(&addr).terminal().finish();
    assert!(
        table.screen().contains("node-1.example"),
        "{}",
        table.screen()
    );
    check(&addr)
        .args(["--zone-from", "hostname", "-o", "json"])
        .run()
        .stdout_has(r#""zone":"node-1.example""#);
}

#[test]
fn every_version_of_the_matrix_is_checked() {
    for version in versions() {
        let nodes = Nodes::each(4, |i| apart(i).version(version));
        nodes.form(2);
        let addr = nodes[3].addr();
        check(&addr)
            .run()
            .status(0)
            .stderr_empty()
            .stdout_has("[OK] All 16384 slots covered.");
        let json = check_json(&addr)
            .arg("--probe-write")
            .run()
            .status(0)
            .json();
        assert_eq!(codes(&json), [] as [&str; 0], "{version}");
        let (product, number) = version.split_once('-').unwrap();
        let told = node(&json, &nodes[0]);
        assert_eq!(told["product"], product, "{version}");
        assert!(
            told["version"].as_str().unwrap().starts_with(number),
            "{version}: {told}"
        );
        Trib::new()
            .args(["info", &addr])
            .run()
            .status(0)
            .stdout_has("in 2 masters.");

        // A zone of each server where it tells one.
        if product == "valkey" {
            for (i, server) in nodes.iter().enumerate() {
                server.cmd(&[
                    "CONFIG",
                    "SET",
                    "availability-zone",
                    ["east", "west"][i / 2],
                ]);
            }
            let json = check_json(&addr).run().json();
            assert_eq!(node(&json, &nodes[0])["zone"], "east", "{version}");
            assert_eq!(finding(&json, "zone-holds-quorum")["severity"], "warning");
        }
    }
}

#[test]
fn an_old_server_without_config_is_judged_too() {
    // A managed service renames CONFIG, and more.
    let nodes = Nodes::with(
        1,
        &Spec::new()
            .quick()
            .words("--rename-command", &["CONFIG", ""]),
    );
    nodes.form(1);
    let json = check_json(&nodes[0].addr())
        .args(["--zone-from", "human-nodename"])
        .run()
        .status(0)
        .json();
    assert_eq!(json["healthy"], true);
}

#[test]
fn what_goes_over_the_wire_can_be_watched() {
    let node = Script::new().on("CLUSTER", Reply::error("ERR no")).start();
    check(&node.addr())
        .args(["--verbose", "-a", "s3cret"])
        .run()
        .status(4)
        .stdout_empty()
        .stderr_has("CLUSTER NODES")
        .stderr_lacks("s3cret");
}
