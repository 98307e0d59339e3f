use super::*;
use crate::cluster::slot::{SLOTS, Slot};
use crate::plan::samples::{check_moves, clusters, masters, node, shown, slots};
use proptest::prelude::*;

fn count(
    owned: &[&str],
    slots: usize,
    from: Sources,
    to: &[usize],
) -> Result<MovePlan, ReshardError> {
    reshard(&Request {
        masters: masters(owned),
        what: What::Count {
            slots,
            from,
            to: to.iter().copied().map(node).collect(),
        },
    })
}

fn named(owned: &[&str], text: &str, to: &[usize]) -> Result<MovePlan, ReshardError> {
    reshard(&Request {
        masters: masters(owned),
        what: What::Slots {
            slots: slots(text),
            to: to.iter().copied().map(node).collect(),
        },
    })
}

fn from(nodes: &[usize]) -> Sources {
    Sources::Nodes(nodes.iter().copied().map(node).collect())
}

const THREE: [&str; 4] = ["0-5460", "5461-10922", "10923-16383", ""];

#[test]
fn the_walkthroughs_new_master_gets_the_walkthroughs_slots() {
    let plan = count(&THREE, 4096, Sources::All, &[4]).unwrap();
    assert_eq!(
        shown(&plan),
        ["1>4 0-1364", "2>4 5461-6826", "3>4 10923-12287"]
    );
    assert_eq!(plan.slots_moved(), 4096);
}

#[test]
fn the_walkthroughs_leaving_master_gives_its_lowest_slots() {
    let four = [
        "1365-5460",
        "0-1364,5461-6826,10923-12287",
        "6827-10922",
        "12288-16383",
    ];
    let plan = count(&four, 1365, from(&[2]), &[4]).unwrap();
    assert_eq!(shown(&plan), ["2>4 0-1364"]);
    let plan = count(&four, 4096, from(&[2]), &[4, 3, 1]).unwrap();
    assert_eq!(
        shown(&plan),
        ["2>4 0-1364,5461", "2>3 5462-6826", "2>1 10923-12287"]
    );
}

#[test]
fn what_redis_cli_miscounts_adds_up() {
    // redis-cli rounds up for the first source and down for the rest, which makes 9 and 1.
    let four = ["0-4095", "4096-8191", "8192-12287", "12288-16383", ""];
    let plan = count(&four, 10, Sources::All, &[5]).unwrap();
    assert_eq!(
        shown(&plan),
        [
            "1>5 0-2",
            "2>5 4096-4098",
            "3>5 8192-8193",
            "4>5 12288-12289"
        ]
    );
    let five = ["0-9", "10-19", "20-29", "30-39", "40-49", ""];
    let plan = count(&five, 2, Sources::All, &[6]).unwrap();
    assert_eq!(shown(&plan), ["1>6 0", "2>6 10"]);
}

#[test]
fn an_id_that_is_given_twice_counts_once() {
    let once = count(&THREE, 100, from(&[1, 2]), &[4]).unwrap();
    let twice = count(&THREE, 100, from(&[1, 2, 1]), &[4, 4]).unwrap();
    assert_eq!(once, twice);
    assert_eq!(twice.slots_moved(), 100);
}

#[test]
fn named_slots_move_and_those_at_a_target_stay() {
    let plan = named(&THREE, "0-9,5461-5470,10923", &[1, 4]).unwrap();
    // 1 keeps its 10; the other 11 make it 11 and 10.
    assert_eq!(shown(&plan), ["2>4 5461-5470", "3>1 10923"]);
    let done = named(&THREE, "0-9,10923", &[1, 3]);
    assert_eq!(
        done,
        Err(ReshardError::NothingToMove {
            slots: slots("0-9,10923")
        })
    );
}

#[test]
fn what_cannot_be_moved_is_refused_by_name() {
    let id = node;
    for (result, expected) in [
        (count(&THREE, 0, Sources::All, &[4]), ReshardError::NoSlots),
        (
            count(&THREE, 16385, Sources::All, &[4]),
            ReshardError::TooMany {
                asked: 16385,
                owned: 16384,
            },
        ),
        (
            count(&THREE, 5462, from(&[1]), &[4]),
            ReshardError::TooMany {
                asked: 5462,
                owned: 5461,
            },
        ),
        (count(&THREE, 1, Sources::All, &[]), ReshardError::NoTarget),
        (count(&THREE, 1, from(&[]), &[4]), ReshardError::NoSource),
        (
            count(&THREE, 1, from(&[1, 2]), &[2]),
            ReshardError::TargetIsSource { id: id(2) },
        ),
        (
            count(&THREE, 1, from(&[1, 4]), &[2]),
            ReshardError::SourceWithoutSlots { id: id(4) },
        ),
        (
            count(&THREE, 1, from(&[9]), &[4]),
            ReshardError::NotAMaster { id: id(9) },
        ),
        (
            count(&THREE, 1, Sources::All, &[9]),
            ReshardError::NotAMaster { id: id(9) },
        ),
        (
            count(&["0-99", ""], 1, Sources::All, &[1]),
            ReshardError::NothingBesidesTargets,
        ),
        (named(&THREE, "", &[4]), ReshardError::NoSlots),
        (
            named(&["0-99", "200-299"], "90-210", &[1]),
            ReshardError::Unowned {
                slots: slots("100-199"),
            },
        ),
        (
            count(&["0-99", "90-199", ""], 1, Sources::All, &[3]),
            ReshardError::Contested(Contested {
                slots: slots("90-99"),
                one: id(1),
                other: id(2),
            }),
        ),
    ] {
        assert_eq!(result, Err(expected));
    }
}

fn taken(plan: &MovePlan, by: NodeId) -> usize {
    plan.moves()
        .filter(|one| one.to == by)
        .map(|one| one.slots.count())
        .sum()
}

proptest! {
    #[test]
    fn by_count_exactly_that_many_move(
        masters in clusters(),
        slots in 1..=usize::from(SLOTS),
        targets in 1..4_usize,
    ) {
        let to: Vec<NodeId> = (1..=targets).map(node).collect();
        let what = What::Count { slots, from: Sources::All, to: to.clone() };
        let owned: usize = masters
            .iter()
            .filter(|master| !to.contains(&master.id))
            .map(|master| master.slots.count())
            .sum();
        let known = targets <= masters.len();
        match reshard(&Request { masters: masters.clone(), what }) {
            Ok(plan) => {
                check_moves(&masters, &plan)?;
                prop_assert_eq!(plan.slots_moved(), slots);
                for id in to {
                    let share = taken(&plan, id);
                    prop_assert!(share == slots / targets || share == slots.div_ceil(targets));
                }
                for master in &masters {
                    let gives: usize = plan
                        .moves()
                        .filter(|one| one.from == master.id)
                        .map(|one| one.slots.count())
                        .sum();
                    let part = slots * master.slots.count();
                    prop_assert!(gives == 0 || gives.abs_diff(part / owned) <= 1);
                }
            }
            Err(ReshardError::TooMany { asked, owned: said }) => {
                prop_assert_eq!((asked, said), (slots, owned));
                prop_assert!(slots > owned);
            }
            Err(ReshardError::NothingBesidesTargets) => prop_assert_eq!(owned, 0),
            Err(ReshardError::NotAMaster { .. }) => prop_assert!(!known),
            Err(other) => prop_assert!(false, "{}", other),
        }
    }

    #[test]
    fn by_name_those_slots_end_at_the_targets(
        masters in clusters(),
        numbers in proptest::collection::vec(0..SLOTS, 1..300),
        targets in 1..3_usize,
    ) {
        let slots: SlotSet = numbers.into_iter().filter_map(Slot::new).collect();
        let to: Vec<NodeId> = (1..=targets).map(node).collect();
        let what = What::Slots { slots: slots.clone(), to: to.clone() };
        match reshard(&Request { masters: masters.clone(), what }) {
            Ok(plan) => {
                check_moves(&masters, &plan)?;
                let moved = plan.moves().fold(SlotSet::new(), |sum, one| sum.union(&one.slots));
                let at_targets = masters[..targets]
                    .iter()
                    .fold(SlotSet::new(), |sum, master| sum.union(&master.slots));
                prop_assert_eq!(moved, slots.difference(&at_targets));
                let ends = |number: usize| {
                    let master = &masters[number - 1];
                    master.slots.intersection(&slots).count() + taken(&plan, master.id)
                };
                for one in 1..=targets {
                    for other in 1..=targets {
                        // Who took some has no more than the others, but for one.
                        prop_assert!(taken(&plan, node(one)) == 0 || ends(one) <= ends(other) + 1);
                    }
                }
            }
            Err(ReshardError::Unowned { slots: unowned }) => {
                prop_assert!(!unowned.is_empty());
                let claims = |master: &SlotOwner| !master.slots.intersection(&unowned).is_empty();
                prop_assert!(!masters.iter().any(claims));
            }
            Err(ReshardError::NothingToMove { .. }) => {}
            Err(other) => prop_assert!(false, "{}", other),
        }
    }
}
