//! Certificates of nodes that have the names of hosts only: each node is verified against the name that it announces.

use crate::support::cluster::Nodes;
use crate::support::command::Trib;
use crate::support::server::quick;
use crate::support::tls::Material;

/// Three nodes: the first shows a certificate for its IP address, the others one for a host name.
fn nodes(material: &Material, announced: Option<&str>) -> Nodes {
    let nodes = Nodes::each(3, |n| {
        let spec = quick().tls(material);
        if n == 0 {
            return spec;
        }
        let spec = spec.tls_certificate(&material.misnamed.cert, &material.misnamed.key);
        match announced {
            Some(name) => spec.arg("--cluster-announce-hostname", name),
            None => spec,
        }
    });
    nodes.form(3);
    nodes
}

fn check(nodes: &Nodes, material: &Material) -> Trib {
    let ca = material.ca.display().to_string();
    Trib::new().args([
        "check",
        &format!("rediss://{}", nodes[0].addr()),
        "--cacert",
        &ca,
    ])
}

#[test]
fn a_node_is_verified_against_the_name_that_it_announces() {
    let material = Material::new();
    let nodes = nodes(&material, Some("elsewhere.example"));
    check(&nodes, &material).run().status(0);
    // Commands that keep connections and move keys, too.
    let ca = material.ca.display().to_string();
    Trib::new()
        .args(["reshard", &nodes[0].addr(), "--tls", "--cacert", &ca])
        .args([
            "--slots",
            "5",
            "--from",
            &nodes[0].id(),
            "--to",
            &nodes[1].id(),
            "--yes",
        ])
        .run()
        .status(0);
    Trib::new()
        .args(["call", &nodes[0].addr(), "--tls", "--cacert", &ca, "PING"])
        .run()
        .status(0);
}

#[test]
fn a_wrong_name_is_no_excuse() {
    let material = Material::new();
    let nodes = nodes(&material, Some("nowhere.example"));
    let ended = check(&nodes, &material).run().status(1);
    let all = format!("{}{}", ended.stdout, ended.stderr);
    assert!(all.contains("nowhere.example or 127.0.0.1"), "{all}");
    assert!(all.contains("elsewhere.example"), "{all}");
    // What helps keeps the options by which nodes are reached.
    let lines = all.lines().filter(|line| line.contains("redis-trib "));
    for line in lines {
        assert!(line.contains("--tls"), "{line}");
        assert!(line.contains("--cacert"), "{line}");
    }
}

#[test]
fn an_address_in_the_certificate_is_enough() {
    let material = Material::new();
    // The name is announced, and the certificate has the IP address only.
    let nodes = Nodes::each(3, |_| {
        quick()
            .tls(&material)
            .arg("--cluster-announce-hostname", "some.example")
    });
    nodes.form(3);
    check(&nodes, &material).run().status(0);
}
