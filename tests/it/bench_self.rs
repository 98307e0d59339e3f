//! Tests of the bench itself: what the other tests take for granted.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::cluster::Nodes;
use crate::support::command::{Ended, Signal, Trib};
use crate::support::proxy::{Cut, How, Proxy};
use crate::support::resp;
use crate::support::scripted::{Reply, Script, fake_cluster};
use crate::support::server::{Server, Spec, has_ipv6, versions};
use crate::support::tls::Material;
use crate::support::wait::{PATIENCE, until};

fn gone(pid: u32) -> Result<(), String> {
    if Path::new(&format!("/proc/{pid}")).exists() {
        Err(format!("{pid} is there"))
    } else {
        Ok(())
    }
}

/// A connection that sends commands and reads whole replies.
struct Wire(TcpStream, Vec<u8>);

impl Wire {
    fn to(addr: &str) -> Self {
        let wire = Self(TcpStream::connect(addr).unwrap(), Vec::new());
        wire.wait_for(PATIENCE);
        wire
    }

    /// How long it waits for a reply.
    fn wait_for(&self, limit: Duration) {
        self.0.set_read_timeout(Some(limit)).unwrap();
    }

    fn send(&mut self, command: &str) {
        self.0
            .write_all(format!("{command}\r\n").as_bytes())
            .unwrap();
    }

    /// The next reply; empty at an orderly end.
    fn reply(&mut self) -> std::io::Result<String> {
        loop {
            if let Ok(Some(length)) = resp::message_length(&self.1) {
                let bytes: Vec<u8> = self.1.drain(..length).collect();
                return Ok(String::from_utf8_lossy(&bytes).into_owned());
            }
            let mut chunk = [0; 4096];
            match self.0.read(&mut chunk)? {
                0 => return Ok(String::new()),
                count => self.1.extend_from_slice(&chunk[..count]),
            }
        }
    }

    fn ask(&mut self, command: &str) -> std::io::Result<String> {
        self.send(command);
        self.reply()
    }
}

#[test]
fn a_cluster_forms_and_is_reaped() {
    let nodes = Nodes::quick(3);
    nodes.form(2);
    assert_eq!(nodes[0].field("cluster_slots_ok").as_deref(), Some("16384"));
    assert_eq!(nodes[2].field("role").as_deref(), Some("slave"));
    assert_eq!(nodes[1].nodes_text().lines().count(), 3);
    let (pids, dir): (Vec<_>, _) = (
        nodes.iter().map(Server::pid).collect(),
        nodes[0].dir().to_owned(),
    );
    nodes[0].stop();
    drop(nodes);
    for pid in pids {
        gone(pid).unwrap();
    }
    assert!(!dir.exists());
}

#[test]
fn a_server_dies_with_the_process_that_started_it() {
    // The same wrapper as for servers, under a parent that is killed as a test process might be. The
    // process that prints its pid runs inside the wrapper.
    let parent = Trib::new()
        .program("sh")
        .args([
            "-c",
            "setpriv --pdeathsig KILL -- sh -c 'echo $$; exec sleep 600' & wait",
        ])
        .spawn();
    parent.wait_stdout("\n");
    let child: u32 = {
        parent.signal(Signal::SIGKILL);
        parent
            .wait()
            .killed_by(Signal::SIGKILL)
            .stdout
            .trim()
            .parse()
            .unwrap()
    };
    until("the orphan to die", Duration::from_secs(5), || {
        // The process that adopts it may reap it late: a zombie counts as dead.
        let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        if stat.is_empty() || stat.contains(") Z ") {
            Ok(())
        } else {
            Err(stat)
        }
    });
}

#[test]
fn a_server_comes_back_as_the_same_node() {
    let server = Spec::new().password("secret").start();
    let id = server.id();
    server.kill();
    assert!(server.try_cmd(&["PING"]).is_err());
    server.restart();
    assert_eq!(server.id(), id);
    assert!(server.log().contains("Ready to accept connections"));
    assert!(
        Wire::to(&server.addr())
            .ask("PING")
            .unwrap()
            .starts_with("-NOAUTH")
    );
}

#[test]
fn servers_of_other_kinds() {
    let plain = Spec::new().plain().start();
    assert!(plain.try_cmd(&["CLUSTER", "INFO"]).is_err());

    let acl = Spec::new()
        .user("operator", "secret", "~* &* +@all")
        .start();
    assert!(
        Wire::to(&acl.addr())
            .ask("AUTH operator secret")
            .unwrap()
            .starts_with("+OK")
    );

    let elsewhere = Spec::new().bind("127.0.0.9").start();
    assert!(elsewhere.addr().starts_with("127.0.0.9:"));

    if has_ipv6() {
        let six = Spec::new().bind("::1").start();
        assert!(
            Wire::to(&six.addr())
                .ask("PING")
                .unwrap()
                .starts_with("+PONG")
        );
    }
}

#[test]
fn a_cluster_speaks_tls() {
    let material = Material::new();
    let nodes = Nodes::with(2, &Spec::new().quick().tls(&material));
    nodes.form(1);
    let cli = |ca: &Path| {
        Trib::new()
            .program("redis-cli")
            .args([
                "-p",
                &nodes[0].port().to_string(),
                "--tls",
                "--cacert",
                &ca.display().to_string(),
                "PING",
            ])
            .run()
    };
    cli(&material.ca).status(0).stdout_is("PONG\n");
    cli(&material.other_ca)
        .status(1)
        .stderr_has("certificate verify failed");
}

#[test]
fn the_proxy_counts_and_delays() {
    let server = Spec::new().start();
    let proxy = Proxy::to(&server.addr());
    let mut wire = Wire::to(&proxy.addr());
    assert!(
        wire.ask("*2\r\n$7\r\nCLUSTER\r\n$4\r\nmyid")
            .unwrap()
            .starts_with('$')
    );
    let delay = Duration::from_secs(2);
    proxy.delay_replies(delay);
    let started = Instant::now();
    // Three at once wait together, not one after the other.
    wire.send("PING\r\nPING\r\nPING");
    for _ in 0..3 {
        wire.reply().unwrap();
    }
    let took = started.elapsed();
    assert!(took >= delay && took < 3 * delay, "{took:?}");
    assert_eq!(proxy.commands(), ["CLUSTER myid", "PING", "PING", "PING"]);
    assert_eq!(
        (
            proxy.count("cluster MYID"),
            proxy.count(""),
            proxy.connections()
        ),
        (1, 4, 1)
    );

    proxy.delay_replies(Duration::ZERO);
    proxy.stall();
    wire.wait_for(Duration::from_millis(200));
    assert!(wire.ask("PING").is_err());
    proxy.resume();
    wire.wait_for(PATIENCE);
    assert_eq!(wire.reply().unwrap(), "+PONG\r\n");
}

#[test]
fn the_proxy_cuts() {
    let server = Spec::new().plain().start();
    let proxy = Proxy::to(&server.addr());

    proxy.cut(Cut::before("INCR").nth(2));
    let mut wire = Wire::to(&proxy.addr());
    assert_eq!(wire.ask("INCR a").unwrap(), ":1\r\n");
    assert_eq!(wire.ask("INCR a").unwrap(), "");
    assert_eq!(server.text(&["GET", "a"]), "1");

    proxy.cut(Cut::after("INCR").reset());
    let mut wire = Wire::to(&proxy.addr());
    wire.send("PING\r\nINCR a");
    assert_eq!(wire.reply().unwrap(), "+PONG\r\n");
    assert_eq!(
        wire.reply().unwrap_err().kind(),
        std::io::ErrorKind::ConnectionReset
    );
    assert_eq!(server.text(&["GET", "a"]), "2");

    proxy.cut(Cut::at_reply_byte(3).then_refuse());
    let mut wire = Wire::to(&proxy.addr());
    assert_eq!(wire.ask("PING").unwrap(), "");
    assert_eq!(wire.1, b"+PO");
    assert!(Wire::to(&proxy.addr()).reply().is_err());

    proxy.resume();
    let mut wire = Wire::to(&proxy.addr());
    assert_eq!(wire.ask("PING").unwrap(), "+PONG\r\n");
    proxy.cut_now(How::Reset);
    assert!(wire.reply().is_err());
}

#[test]
fn nodes_behind_proxies_announce_them() {
    let (nodes, proxies) = Nodes::behind_proxies(3, &Spec::new().quick());
    nodes.form(3);
    for proxy in &proxies {
        assert!(
            nodes[0]
                .nodes_text()
                .contains(&format!("127.0.0.1:{}@", proxy.port()))
        );
        assert_eq!(Wire::to(&proxy.addr()).ask("PING").unwrap(), "+PONG\r\n");
    }
}

#[test]
fn a_scripted_node_answers_as_told() {
    let node = Script::new()
        .on_each("GET", [Reply::null(), Reply::bulk("second")])
        .on("GET slow", Reply::int(7).after(Duration::from_millis(100)))
        .on(
            "GET http",
            Reply::raw("HTTP/1.1 400 Bad Request\r\n\r\n").then_close(),
        )
        .on("GET never", Reply::never())
        .on("GET much", Reply::endless_bulk())
        .start();
    let mut wire = Wire::to(&node.addr());
    assert_eq!(wire.ask("get x").unwrap(), "$-1\r\n");
    assert_eq!(wire.ask("GET x").unwrap(), "$6\r\nsecond\r\n");
    assert_eq!(wire.ask("GET slow").unwrap(), ":7\r\n");
    assert!(
        wire.ask("NOSUCH")
            .unwrap()
            .starts_with("-ERR unknown command 'NOSUCH'")
    );
    wire.send("GET http");
    let mut rest = String::new();
    wire.0.read_to_string(&mut rest).unwrap();
    assert!(rest.starts_with("HTTP/1.1 400"));
    assert_eq!(node.commands().last().map(String::as_str), Some("GET http"));

    let mut wire = Wire::to(&node.addr());
    wire.wait_for(Duration::from_millis(100));
    assert!(wire.ask("GET never").is_err());

    let mut wire = Wire::to(&node.addr());
    wire.send("GET much");
    let mut much = vec![0; 10_000_000];
    wire.0.read_exact(&mut much).unwrap();
}

#[test]
fn a_thousand_fake_nodes_tell_the_same() {
    let cluster = fake_cluster(500, 500);
    for index in [0, 499, 500, 999] {
        let mut wire = Wire::to(&cluster.nodes[index].addr());
        let nodes = wire.ask("CLUSTER NODES").unwrap();
        assert_eq!(nodes.matches('\n').count(), 1000 + 2);
        let myself = nodes.lines().find(|line| line.contains("myself,")).unwrap();
        assert!(myself.starts_with(&cluster.ids[index]), "{myself}");
        let role = if index < 500 {
            "role:master"
        } else {
            "role:slave"
        };
        assert!(wire.ask("INFO").unwrap().contains(role));
    }
}

#[test]
fn a_program_runs_in_clean_surroundings() {
    let shell = |script: &str| Trib::new().program("sh").args(["-c", script]);
    shell("env | cut -d= -f1 | sort")
        .env("MINE", "1")
        .run()
        .status(0)
        .stdout_has("COLUMNS\nHOME\nLANG\nMINE\nPATH\n")
        .stdout_lacks("CARGO")
        .stderr_empty();
    shell("cat; echo no >&2; exit 3")
        .stdin("yes")
        .run()
        .status(3)
        .stdout_is("yes")
        .stderr_has("no");
    let lines = shell(r#"echo '{"a":1}'; echo '{"a":2}'"#)
        .run()
        .json_lines();
    assert_eq!(lines[1]["a"], 2);
    shell("ulimit -Sn")
        .descriptors(100)
        .run()
        .stdout_is("100\n");
    shell("echo $0")
        .program("/bin/sh")
        .called("redis-trib.rb")
        .run()
        .stdout_has("/redis-trib.rb\n");
    let running = shell("echo ready; exec sleep 60").spawn();
    running.wait_stdout("ready");
    running.signal(Signal::SIGTERM);
    running
        .wait()
        .killed_by(Signal::SIGTERM)
        .within(Duration::from_secs(20));
}

#[test]
fn a_program_runs_on_a_terminal() {
    let script = "stty size; printf '\\033[31m┌─ name? \\033[0m'; read name; echo \"hello $name\"; exec sleep 60";
    let mut terminal = Trib::new().program("sh").args(["-c", script]).terminal();
    terminal
        .expect("40 120")
        .expect("┌─ name? ")
        .send_line("Ada")
        .expect("hello Ada")
        .control('c');
    let finished = terminal.finish();
    assert_eq!(finished.status, Ended::Signal(Signal::SIGINT as i32));
    assert!(
        finished.screen().contains("┌─ name? hello Ada"),
        "{}",
        finished.screen()
    );
}

#[test]
fn every_server_of_the_matrix_starts_and_joins() {
    for version in versions() {
        let nodes = Nodes::with(2, &Spec::new().quick().version(version));
        let server = &nodes[0];
        let info = server.text(&["INFO", "server"]);
        let (kind, number) = version.split_once('-').unwrap();
        let field = format!("{kind}_version:{number}.");
        assert!(info.contains(&field), "{version}: {info}");
        assert_eq!(server.field("cluster_state").as_deref(), Some("fail"));
        nodes.form(1);
        assert_eq!(nodes[1].field("role").as_deref(), Some("slave"));
    }
}
