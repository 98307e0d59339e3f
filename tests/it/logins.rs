//! Passwords as bytes, and members that are named by host names.

use std::fs;

use crate::support::cluster::three;
use crate::support::command::Trib;
use crate::support::server::quick;
use crate::support::subcommands::{check, has_redis_cli, redis_cli, reshard};

#[test]
fn a_password_may_begin_with_a_dash() {
    let nodes = three(&quick().password("-rf"));
    let addr = nodes[0].addr();
    for words in [
        &["-a", "-rf"][..],
        &["-a-rf"],
        &["--pass", "-rf"],
        &["--pass=-rf"],
    ] {
        check(&addr).args(words).run().status(0);
    }
    if has_redis_cli() {
        redis_cli()
            .args(["-a", "-rf", "--cluster", "check", &addr])
            .run()
            .status(0);
    }
    Trib::new()
        .args(["-a", "-rf", "info", &addr])
        .run()
        .status(0);
}

#[test]
fn a_password_is_any_bytes() {
    let nodes = three(&quick());
    let password = b"\xff\xfep w\xc3";
    for node in nodes.iter() {
        let mut connection = node.connection().unwrap();
        redis::cmd("ACL")
            .arg("SETUSER")
            .arg("bytes")
            .arg("on")
            .arg([&b">"[..], &password[..]].concat())
            .arg("~*")
            .arg("&*")
            .arg("+@all")
            .query::<()>(&mut connection)
            .unwrap();
    }
    let file = nodes[0].dir().join("password");
    fs::write(&file, [&password[..], b"\r\nanother line"].concat()).unwrap();
    let file = file.display().to_string();
    let addr = nodes[0].addr();
    let as_user = |trib: Trib| trib.args(["--user", "bytes", "--pass-file", &file]);
    as_user(check(&addr)).run().status(0);
    // MIGRATE sends it, too.
    let to = nodes[1].id();
    as_user(reshard(&nodes[0]).args(["--slot-ranges", "0-3", "--to", &to, "--yes"]))
        .run()
        .status(0);
    let address = format!("redis://bytes:%ff%fep%20w%c3@{addr}");
    check(&address).run().status(0);
}

#[test]
fn members_are_named_by_host_names() {
    let spec = quick()
        .version("redis-8.2")
        .arg("--cluster-announce-hostname", "Redis.example");
    let nodes = three(&spec);
    let (one, two) = (nodes[0].port(), nodes[1].port());
    let go = |from: String, to: String| {
        reshard(&nodes[2])
            .args(["--slots", "1", "--from", &from, "--to", &to, "--yes"])
            .run()
    };
    go(format!("localhost:{one}"), format!("LOCALHOST:{two}")).status(0);
    go(format!("redis.example:{two}"), format!("127.0.0.1:{one}")).status(0);
    go(
        format!("localhost:{one}"),
        "no-such-host.invalid:7000".to_owned(),
    )
    .status(3)
    .stderr_has("no-such-host.invalid:7000");
    // The cluster is reached by a name, and the member is named by its address.
    Trib::new()
        .args([
            "ok-to-stop",
            &format!("localhost:{one}"),
            &format!("127.0.0.1:{one}"),
        ])
        .run();
}
