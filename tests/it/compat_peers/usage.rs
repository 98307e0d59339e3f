//! Command lines that are wrong, or are refused before anything changes.

use super::row::{Row, same};

const LOOPS: &str = "it asks for ever at the end of its input";
const WANTS: &str = "a line with fewer words than it needs is refused";

/// On the cluster of [`super::reading::healthy`].
pub(super) fn rows() -> Vec<Row> {
    vec![
        same("--cluster help"),
        same("--cluster"),
        same("--cluster nosuchcommand {a0}"),
        same("--cluster check"),
        same("--cluster check 127.0.0.1:notaport"),
        same("--cluster check {a0} --cluster-nosuchoption"),
        same("--cluster info"),
        same("--cluster fix"),
        same("--cluster reshard"),
        same("--cluster rebalance"),
        same("--cluster create"),
        same("--cluster create {a6}"),
        same("--cluster create {a6} {a7} --cluster-yes"),
        same("--cluster create {a6} {a7} 127.0.0.1:1 --cluster-yes"),
        same("--cluster create {a6} {a7} {a0} --cluster-yes"),
        same("--cluster add-node {a6}"),
        same("--cluster add-node"),
        same("--cluster add-node 127.0.0.1:1 {a0}").only_theirs(">>> Adding", WANTS),
        same("--cluster add-node {a6} 127.0.0.1:1"),
        same("--cluster add-node {a3} {a0}"),
        same("--cluster add-node {a1} {a0} --cluster-slave").only_theirs(
            "Automatically selected master",
            "a node that is a member is refused before",
        ),
        same(
            "--cluster add-node {a6} {a0} --cluster-slave --cluster-master-id ffffffffffffffffffffffffffffffffffffffff",
        ),
        same("--cluster del-node {a0}"),
        same("--cluster del-node"),
        same("--cluster del-node {a0} {i1}"),
        same("--cluster del-node {a0} ffffffffffffffffffffffffffffffffffffffff"),
        same("--cluster del-node 127.0.0.1:1 {i1}"),
        same("--cluster set-timeout {a0}"),
        same("--cluster set-timeout {a0} 5"),
        same("--cluster set-timeout {a0} 99"),
        same("--cluster set-timeout {a0} abc"),
        same("--cluster set-timeout {a0} -1000"),
        same("--cluster set-timeout 127.0.0.1:1 1000"),
        same("--cluster import {a0}"),
        same("--cluster import {a0} --cluster-from 127.0.0.1:1"),
        same("--cluster import {a0} --cluster-from {a1}"),
        same("--cluster import {a0} --cluster-from {a6}"),
        same("--cluster import 127.0.0.1:1 --cluster-from {a1}"),
        same("--cluster backup {a0}"),
        same("--cluster backup {a0} {dir}/nosuchfolder/deeper"),
        same(
            "--cluster reshard {a0} --cluster-from {i1} --cluster-to ffff --cluster-slots 5 --cluster-yes",
        ),
        same(
            "--cluster reshard {a0} --cluster-from ffff --cluster-to {i1} --cluster-slots 5 --cluster-yes",
        ),
        same(
            "--cluster reshard {a0} --cluster-from {i1} --cluster-to {i4} --cluster-slots 5 --cluster-yes",
        ),
        same(
            "--cluster reshard {a0} --cluster-from {i4} --cluster-to {i1} --cluster-slots 5 --cluster-yes",
        ),
        same(
            "--cluster reshard {a0} --cluster-from {i1} --cluster-to {i1} --cluster-slots 5 --cluster-yes",
        ),
        same(
            "--cluster reshard {a0} --cluster-from {i1},{i4} --cluster-to {i0} --cluster-slots 5 --cluster-yes",
        ),
        same("--cluster reshard {a0} --cluster-from {i1} --cluster-to {i0} --cluster-slots 5"),
        same("--cluster reshard {a0} --cluster-from {i1} --cluster-to {i0} --cluster-slots 5")
            .stdin("no"),
        same("--cluster reshard {a0} --cluster-from {i1} --cluster-to {i0} --cluster-slots 5")
            .stdin("y\n"),
        same(
            "--cluster reshard 127.0.0.1:1 --cluster-from {i1} --cluster-to {i0} --cluster-slots 5",
        ),
        same("--cluster reshard {a0}").ours_alone(1, LOOPS),
        same("--cluster reshard {a0} --cluster-slots 5").ours_alone(1, LOOPS),
        same("--cluster reshard {a0} --cluster-slots 5 --cluster-to {i0}").ours_alone(1, LOOPS),
    ]
}
