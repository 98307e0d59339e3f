use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::cluster::parse::EntryPool;
use crate::cluster::slot::{Slot, SlotRange};

fn id(number: u8) -> NodeId {
    format!("{number:040x}").parse().unwrap()
}

fn slots(start: u16, end: u16) -> SlotSet {
    let range = SlotRange::new(Slot::new(start).unwrap(), Slot::new(end).unwrap());
    range.into_iter().collect()
}

fn node(role: Role, master: Option<u8>, epoch: u64, slots: SlotSet) -> WatchedNode {
    WatchedNode {
        addr: Some(Addr::new("10.0.0.1", 6379)),
        hostname: None,
        role,
        master: master.map(id),
        epoch,
        slots,
        open: Vec::new(),
        health: Health::Up,
        run_id: Some("a".into()),
    }
}

/// Two masters, and a replica of the first.
fn cluster() -> Snapshot {
    let nodes = [
        (id(1), node(Role::Master, None, 1, slots(0, 8191))),
        (id(2), node(Role::Master, None, 2, slots(8192, 16383))),
        (id(3), node(Role::Replica, Some(1), 1, SlotSet::new())),
    ];
    Snapshot {
        nodes: nodes.into(),
        current_epoch: 2,
        is_ok: Some(true),
    }
}

#[test]
fn each_change_is_one_event() {
    let before = cluster();
    assert_eq!(between(&before, &before), []);
    let only = |change: &dyn Fn(&mut Snapshot)| {
        let mut after = cluster();
        change(&mut after);
        let changes = between(&before, &after);
        assert_eq!(changes.len(), 1, "{changes:?}");
        changes.into_iter().next().unwrap()
    };
    assert_eq!(
        only(&|after| after.is_ok = Some(false)),
        Change::State { is_ok: false }
    );
    assert_eq!(
        only(&|after| after.current_epoch = 3),
        Change::Epoch { from: 2, to: 3 }
    );
    for health in [Health::Silent, Health::Failed] {
        let lost = only(&|after| after.nodes.get_mut(&id(2)).unwrap().health = health);
        assert_eq!(lost, Change::Lost(id(2)));
    }
    assert_eq!(
        only(&|after| after.nodes.get_mut(&id(2)).unwrap().run_id = Some("b".into())),
        Change::Restarted(id(2))
    );
    assert_eq!(
        only(&|after| drop(after.nodes.remove(&id(3)))),
        Change::Left(id(3))
    );
    assert_eq!(
        only(&|after| {
            let new = node(Role::Master, None, 0, SlotSet::new());
            after.nodes.insert(id(4), new);
        }),
        Change::Joined(id(4))
    );
    assert_eq!(
        only(&|after| after.nodes.get_mut(&id(3)).unwrap().master = Some(id(2))),
        Change::Follows {
            replica: id(3),
            master: Some(id(2))
        }
    );
    assert_eq!(
        only(&|after| {
            after.nodes.get_mut(&id(1)).unwrap().slots = slots(0, 8189);
            after.nodes.get_mut(&id(2)).unwrap().slots = slots(8190, 16383);
        }),
        Change::SlotsMoved {
            from: Some(id(1)),
            to: Some(id(2)),
            slots: slots(8190, 8191)
        }
    );
    // The old master and the slots are parts of the failover.
    assert_eq!(
        only(&|after| {
            after
                .nodes
                .insert(id(3), node(Role::Master, None, 3, slots(0, 8191)));
            after
                .nodes
                .insert(id(1), node(Role::Replica, Some(3), 3, SlotSet::new()));
        }),
        Change::FailedOver {
            to: id(3),
            from: id(1),
            slots: slots(0, 8191)
        }
    );
}

#[test]
fn a_lost_node_that_is_flagged_later_is_lost_once() {
    let (mut silent, mut failed) = (cluster(), cluster());
    silent.nodes.get_mut(&id(2)).unwrap().health = Health::Silent;
    failed.nodes.get_mut(&id(2)).unwrap().health = Health::Failed;
    assert_eq!(between(&silent, &failed), []);
    assert_eq!(between(&failed, &cluster()), [Change::Back(id(2))]);
}

fn view(lines: &[String]) -> View {
    EntryPool::default().view(&lines.join("\n")).unwrap()
}

fn line(number: u8, flags: &str, master: &str, epoch: u64, slots: &str) -> String {
    let id = id(number);
    format!("{id} 10.0.0.{number}:6379@16379 {flags} {master} 0 0 {epoch} connected {slots}")
}

#[test]
fn an_old_view_undoes_nothing() {
    let new = view(&[
        line(1, "master", "-", 1, "0-99"),
        line(2, "myself,master", "-", 5, "100-16383"),
    ]);
    let old = view(&[
        line(1, "myself,master", "-", 1, "0-100"),
        line(2, "master", "-", 2, "101-16383"),
    ]);
    let next = |before: &Snapshot, views: &[&View]| {
        before.next(&Answers {
            views: views.iter().map(|view| (*view).clone()).collect(),
            up: [(id(1), None), (id(2), None)].into(),
            current_epoch: 5,
            is_ok: Some(true),
        })
    };
    let first = next(&Snapshot::default(), &[&new]);
    assert_eq!(first.slots_covered(), 16384);
    for views in [vec![&old], vec![&old, &new], vec![&new, &old], vec![]] {
        let second = next(&first, &views);
        assert_eq!(between(&first, &second), [], "{views:?}");
    }
}

prop_compose! {
    fn sample()(
        at_ms in 0_u64..10_000,
        run in option::of(0_u8..3),
        counters in vec(option::of(any::<u64>()), 4),
    ) -> Sample {
        Sample {
            at_ms,
            run_id: run.map(|run| run.to_string().into()),
            commands: counters[0],
            bytes_in: counters[1],
            bytes_out: counters[2],
            cpu_us: counters[3],
            clients: None,
        }
    }
}

proptest! {
    #[test]
    fn rates_are_never_negative(before in sample(), after in sample()) {
        let rates = after.since(&before);
        prop_assert!(rates.cpu.is_none_or(|cpu| cpu >= 0.0 && cpu.is_finite()));
        if after.run_id != before.run_id || after.commands < before.commands {
            prop_assert_eq!(rates.ops, None);
        }
        prop_assert_eq!(before.since(&before), Rates::default());
    }

    #[test]
    fn equal_snapshots_have_no_changes(
        roles in vec((any::<bool>(), 0_u8..4, 0_u64..4, 0_u16..16384, 0_u16..16384, any::<bool>()), 1..6),
        epoch in 0_u64..5,
    ) {
        let nodes = roles.iter().zip(1..).map(|(one, number)| {
            let (is_master, master, epoch, start, end, is_up) = *one;
            let role = if is_master { Role::Master } else { Role::Replica };
            let mut node = node(role, (!is_master).then_some(master), epoch, slots(start.min(end), start.max(end)));
            node.health = if is_up { Health::Up } else { Health::Silent };
            (id(number), node)
        });
        let mut snapshot = Snapshot { nodes: nodes.collect(), current_epoch: epoch, is_ok: None };
        settle_slots(&mut snapshot.nodes);
        prop_assert_eq!(between(&snapshot, &snapshot), []);
        // Each slot has one owner at most, and every slot that moved is told once.
        let owned: usize = snapshot.nodes.values().map(|node| node.slots.count()).sum();
        prop_assert!(owned <= 16384);
        let told: usize = between(&Snapshot::default(), &snapshot).iter().map(|change| match change {
            Change::SlotsMoved { slots, .. } => slots.count(),
            _ => 0,
        }).sum();
        prop_assert_eq!(told, owned);
    }

    #[test]
    fn text_of_any_kind_is_read(text in "\\PC*|(used_cpu_sys:[-0-9.einfNa]*\r\nused_cpu_user:[-0-9.e]*)") {
        let sample = Sample::parse(&text, 1);
        let _ = sample.since(&Sample::default());
    }
}

#[test]
fn counters_of_the_main_thread_come_first() {
    let info = "# CPU\r\nused_cpu_sys:1.5\r\nused_cpu_user:2.0\r\n";
    assert_eq!(Sample::parse(info, 0).cpu_us, Some(3_500_000));
    let info =
        format!("{info}used_cpu_sys_main_thread:0.25\r\nused_cpu_user_main_thread:0.000001\r\n");
    assert_eq!(Sample::parse(&info, 0).cpu_us, Some(250_001));
}

#[test]
fn keys_that_have_left() {
    let left = |pairs: &[(u16, u64)]| -> KeysLeft {
        let slot = |number| Slot::new(number).unwrap();
        pairs.iter().map(|(s, keys)| (slot(*s), *keys)).collect()
    };
    let before = left(&[(1, 10), (2, 5), (3, 1)]);
    assert_eq!(keys_moved(&before, &left(&[(1, 4), (3, 9), (4, 7)])), 11);
}
