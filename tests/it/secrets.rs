//! A password is never shown, whatever happens.

use std::fs;

use crate::support::cluster::Nodes;
use crate::support::command::{Finished, Trib};
use crate::support::scripted::{Reply, Script};
use crate::support::server::Spec;

const SECRET: &str = "hunter2-hunter2";

/// Every command with every source of the password, as loud as it can be.
fn everything_said(addr: &str) -> Vec<Finished> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), SECRET).unwrap();
    let file = file.path().display().to_string();
    let (host, port) = addr.rsplit_once(':').unwrap();
    let url = format!("redis://ann:{SECRET}@{host}:{port}");
    let mut said = Vec::new();
    for command in [
        &["check"][..],
        &["check", "--local"],
        &["info"],
        &["create", "--yes", "--allow-few-masters"],
    ] {
        let trib = |addr: &str| {
            Trib::new()
                .args(command)
                .args([addr, "--verbose", "--command-timeout", "500ms"])
        };
        said.push(trib(addr).args(["-a", SECRET]).run());
        said.push(
            trib(addr)
                .args(["--pass-file", &file, "--user", "ann"])
                .run(),
        );
        said.push(trib(addr).env("REDISCLI_AUTH", SECRET).run());
        for format in ["classic", "json"] {
            said.push(trib(&url).args(["-o", format]).run());
        }
    }
    said
}

#[track_caller]
fn keeps_the_secret(addr: &str) {
    for finished in everything_said(addr) {
        finished.stdout_lacks("hunter2").stderr_lacks("hunter2");
    }
}

#[test]
fn no_password_is_shown() {
    let nodes = Nodes::with(2, &Spec::new().quick().password(SECRET));
    nodes.form(1);
    keeps_the_secret(&nodes[0].addr());
    // Another one, and none.
    keeps_the_secret(&Spec::new().password("other").start().addr());
    keeps_the_secret(&Spec::new().start().addr());
}

#[test]
fn no_password_comes_back_from_whoever_listens() {
    // What speaks in lines likes to repeat what it did not understand.
    for reply in [
        Reply::raw(format!("500 Command unrecognized: \"AUTH {SECRET}\"\r\n")),
        Reply::error(&format!(
            "ERR unknown command 'AUTH' with args beginning with: '{SECRET}'"
        )),
        Reply::error(&format!("{SECRET} is not a command")),
        Reply::raw(format!("{SECRET}\r\n")),
        Reply::bulk(SECRET),
    ] {
        keeps_the_secret(&Script::default().on("", reply).start().addr());
    }
}

#[test]
fn no_password_stands_in_a_usage_error() {
    for line in [
        &["check", "redis://ann:hunter2@h:99999"][..],
        &["check", "redis://ann:hunter2@h/3"],
        &["check", "redis://ann:hunter2@"],
        &["check", "http://ann:hunter2@h"],
        &["check", "redis://ann:hunter2@h", "6379"],
        &["check", "h", "6379", "redis://ann:hunter2@h"],
        &["check", "--zone", "redis://ann:hunter2@h=east", "h"],
        &["check", "--address-map", "redis://ann:hunter2@h=h", "h"],
        &["check", "ann:hunter2@h:7000"],
        &["check", "redis:/ann:hunter2@h:7000"],
        &["check", "-a", "hunter2", "--askpass", "h"],
        &["check", "-a", "hunter2"],
        &["check", "-ahunter2", "--no-such", "h"],
        &["create", "redis://ann:hunter2@h:99999"],
    ] {
        let finished = Trib::new().args(line).run().status(2);
        finished.stdout_lacks("hunter2").stderr_lacks("hunter2");
    }
    // The old spellings know one code for all that is wrong.
    for line in [
        &["--cluster", "redis://ann:hunter2@h"][..],
        &["--cluster", "check", "redis://ann:hunter2@h:99999"],
        &["--cluster", "check", "h", "-p", "redis://ann:hunter2@h"],
        &["--cluster", "check", "ann:hunter2@h:7000"],
        &["--cluster", "check", "-a", "hunter2"],
        &["--cluster", "import", "h:1", "--cluster-from-pass=hunter2"],
        &[
            "--cluster",
            "reshard",
            "h:1",
            "--cluster-pipeline",
            "a:hunter2@h",
        ],
        &["-u", "http://ann:hunter2@h", "--cluster", "check", "h:1"],
        &["-u", "redis://ann:hunter2@h:99999", "--cluster", "check"],
    ] {
        let finished = Trib::new().args(line).run().status(1);
        finished.stdout_lacks("hunter2").stderr_lacks("hunter2");
    }
}
