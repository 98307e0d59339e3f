use super::*;

fn id(number: usize) -> NodeId {
    format!("{number:040x}").parse().unwrap()
}

const UP: Option<MasterLink> = Some(MasterLink::Up);
const SYNCING: Option<MasterLink> = Some(MasterLink::Syncing);
const NEVER_UP: Option<MasterLink> = Some(MasterLink::Down(None));

fn down(seconds: u64) -> Option<MasterLink> {
    Some(MasterLink::Down(Some(seconds)))
}

/// A copy with the history `a`.
fn facts(link: Option<MasterLink>, keys: u64, offset: u64) -> CopyFacts {
    CopyFacts {
        keys,
        offset: Some(offset),
        link,
        id: Some("a".into()),
        has_backlog: Some(true),
        ..CopyFacts::nothing()
    }
}

fn with_history(name: &str, facts: CopyFacts) -> CopyFacts {
    CopyFacts {
        id: Some(name.into()),
        ..facts
    }
}

/// The master is node 1, the replicas are 2 and up. `None` does not answer.
fn shard(master: Option<CopyFacts>, replicas: &[Option<CopyFacts>]) -> ShardCopies {
    let replicas = (2..).zip(replicas).map(|(number, facts)| ShardCopy {
        id: id(number),
        role: Role::Replica,
        facts: facts.clone(),
    });
    let master_is_up = master.is_some();
    let master = ShardCopy {
        id: id(1),
        role: Role::Master,
        facts: master,
    };
    ShardCopies {
        copies: std::iter::once(master).chain(replicas).collect(),
        master_is_up,
    }
}

fn why(shard: &ShardCopies, number: usize) -> Option<Unsafe> {
    shard.danger(id(number)).map(|danger| danger.why)
}

fn better(shard: &ShardCopies, number: usize) -> Option<NodeId> {
    shard.danger(id(number))?.better
}

/// The best of the safe replicas.
fn best(shard: &ShardCopies) -> Option<NodeId> {
    let replicas = shard.copies.iter().skip(1).map(|copy| copy.id);
    shard.best(replicas.filter(|id| shard.danger(*id).is_none()))
}

#[test]
fn what_is_wrong_with_the_only_copy() {
    let only = |facts| why(&shard(None, &[Some(facts)]), 2);
    assert_eq!(only(facts(down(6), 3000, 500)), None);
    assert_eq!(only(facts(NEVER_UP, 0, 0)), Some(Unsafe::NeverSynced));
    assert_eq!(only(facts(NEVER_UP, 0, 1)), Some(Unsafe::NeverSynced));
    // Loaded from its own file; from an append-only file without the offset.
    assert_eq!(only(facts(NEVER_UP, 0, 14)), None);
    assert_eq!(only(facts(NEVER_UP, 2000, 400)), None);
    assert_eq!(only(facts(NEVER_UP, 2000, 0)), None);
    assert_eq!(only(facts(SYNCING, 3000, 500)), Some(Unsafe::Syncing));
    assert_eq!(only(facts(None, 0, 0)), Some(Unsafe::NotReported));
    let loading = CopyFacts {
        is_loading: true,
        ..facts(down(6), 10, 0)
    };
    assert_eq!(only(loading), Some(Unsafe::Loading));
    let cut_off = CopyFacts {
        has_backlog: Some(false),
        ..facts(down(6), 0, 0)
    };
    assert_eq!(only(cut_off), Some(Unsafe::CutOff));
    // It was given this master and did not get its data.
    let of_other = CopyFacts {
        keys_of_shard: Some(0),
        ..facts(down(6), 700, 500)
    };
    assert_eq!(only(of_other), Some(Unsafe::OtherShard));
    let of_other = CopyFacts {
        is_of_other_shard: true,
        ..facts(down(6), 0, 500)
    };
    assert_eq!(only(of_other), Some(Unsafe::OtherShard));
}

#[test]
fn a_copy_behind_another_is_unsafe() {
    let two = shard(
        None,
        &[
            Some(facts(down(6), 900, 1000)),
            Some(facts(down(6), 1000, 9000)),
        ],
    );
    assert_eq!(why(&two, 2), Some(Unsafe::Behind(8000)));
    assert_eq!(better(&two, 2), Some(id(3)));
    assert_eq!(why(&two, 3), None);
    assert_eq!(best(&two), Some(id(3)));
    // The dying master sent one PING more to the other; the most advanced is chosen all the same.
    let ping = shard(
        None,
        &[
            Some(facts(down(6), 1000, 9000)),
            Some(facts(down(6), 1000, 9014)),
        ],
    );
    assert_eq!(why(&ping, 2), None);
    assert_eq!(best(&ping), Some(id(3)));
    let equal = facts(down(6), 1000, 9000);
    let equal = shard(None, &[Some(equal.clone()), Some(equal)]);
    assert_eq!(best(&equal), Some(id(2)));
}

#[test]
fn live_copies_differ_by_what_is_in_flight() {
    let master = facts(None, 1000, 200_000);
    let alive = |facts| shard(Some(master.clone()), &[Some(facts)]);
    assert_eq!(why(&alive(facts(UP, 990, 150_000)), 2), None);
    let lost = alive(facts(down(60), 990, 150_000));
    assert_eq!(why(&lost, 2), Some(Unsafe::Behind(50_000)));
    assert_eq!(better(&lost, 2), Some(id(1)));
    let late = facts(None, 1000, 200_000 + (128 << 20));
    let late = shard(Some(late), &[Some(facts(UP, 990, 200_000))]);
    assert_eq!(why(&late, 2), Some(Unsafe::Behind(128 << 20)));
}

#[test]
fn what_a_copy_lacks_is_told_within_one_history_only() {
    let (own, master) = (facts(UP, 10, 500), facts(None, 12, 740));
    assert_eq!(own.lacks(&master), 240);
    assert_eq!(master.lacks(&own), 0);
    assert_eq!(own.lacks(&with_history("b", master)), 0);
}

#[test]
fn offsets_of_different_histories_are_not_compared() {
    // A replica that was in sync a moment ago, and one that loaded an old file of an earlier history.
    let loaded = with_history("b", facts(NEVER_UP, 5000, 99_000));
    let two = shard(
        None,
        &[Some(loaded.clone()), Some(facts(down(6), 900, 1000))],
    );
    assert_eq!(why(&two, 2), Some(Unsafe::Older));
    assert_eq!(better(&two, 2), Some(id(3)));
    assert_eq!(best(&two), Some(id(3)));
    // Alone it is all there is.
    assert_eq!(why(&shard(None, &[Some(loaded)]), 2), None);
    // Both were in sync; one lost its link long before.
    let two = shard(
        None,
        &[
            Some(with_history("b", facts(down(400), 900, 99_000))),
            Some(facts(down(6), 900, 1000)),
        ],
    );
    assert_eq!(why(&two, 2), Some(Unsafe::Older));
    assert_eq!(why(&two, 3), None);
}

#[test]
fn of_copies_that_were_loaded_from_disk_the_larger_one_is_taken() {
    // An append-only file has no history and no offset.
    let loaded = |name, keys| Some(with_history(name, facts(NEVER_UP, keys, 1)));
    let two = shard(None, &[loaded("b", 10), loaded("c", 1010)]);
    assert_eq!(why(&two, 2), Some(Unsafe::FewerKeys));
    assert_eq!(better(&two, 2), Some(id(3)));
    assert_eq!(why(&two, 3), None);
    assert_eq!(best(&two), Some(id(3)));
    let equal = shard(None, &[loaded("b", 10), loaded("c", 10)]);
    assert_eq!(why(&equal, 2), None);
    // A file with a history tells more than the number of keys.
    let two = shard(
        None,
        &[
            Some(facts(NEVER_UP, 900, 9000)),
            Some(facts(NEVER_UP, 1000, 500)),
        ],
    );
    assert_eq!(why(&two, 2), None);
    assert_eq!(why(&two, 3), Some(Unsafe::Behind(8500)));
}

#[test]
fn nothing_is_in_flight_from_a_master_that_is_silent() {
    // It was stopped: the links are up until they time out.
    let two = shard(
        None,
        &[
            Some(facts(UP, 990, 150_000)),
            Some(facts(UP, 1000, 200_000)),
        ],
    );
    assert_eq!(why(&two, 2), Some(Unsafe::Behind(50_000)));
    assert_eq!(best(&two), Some(id(3)));
}

#[test]
fn a_history_that_is_continued_is_compared() {
    let continued = |facts| CopyFacts {
        earlier: Some(("a".into(), 501)),
        ..with_history("b", facts)
    };
    let two = |old| {
        shard(
            None,
            &[Some(old), Some(continued(facts(down(6), 1000, 9000)))],
        )
    };
    let old = two(facts(NEVER_UP, 900, 500));
    assert_eq!(why(&old, 2), Some(Unsafe::Behind(8500)));
    // It went on by itself after the other history branched off.
    let branched = two(facts(down(6), 900, 502));
    assert_eq!(why(&branched, 2), None);
}

#[test]
fn a_master_that_restarted_empty_is_no_better_copy() {
    let empty = with_history("b", facts(None, 0, 0));
    let rescue = shard(Some(empty), &[Some(facts(down(30), 3000, 9000))]);
    assert_eq!(why(&rescue, 2), None);
}

#[test]
fn an_empty_shard_is_legitimate() {
    // In sync, and the master dies before its first PING.
    assert_eq!(why(&shard(None, &[Some(facts(down(6), 0, 0))]), 2), None);
    let never = with_history("b", facts(NEVER_UP, 0, 0));
    let beside = shard(None, &[Some(never.clone()), Some(facts(down(6), 0, 14))]);
    assert_eq!(why(&beside, 2), None);
    assert_eq!(best(&beside), Some(id(3)));
    let alive = shard(Some(facts(None, 0, 14)), &[Some(never.clone())]);
    assert_eq!(why(&alive, 2), None);
    // The same replicas beside one with keys.
    let filled = shard(None, &[Some(never.clone()), Some(facts(down(6), 10, 1400))]);
    assert_eq!(why(&filled, 2), Some(Unsafe::NeverSynced));
    assert_eq!(better(&filled, 2), Some(id(3)));
    // No copy tells what the dead master had.
    let none = shard(None, &[Some(never.clone()), Some(never)]);
    assert_eq!(why(&none, 2), Some(Unsafe::NeverSynced));
    assert_eq!(better(&none, 2), None);
}

#[test]
fn copies_that_do_not_answer_count_for_nothing() {
    let shard = shard(None, &[None, Some(facts(down(6), 10, 1400)), None]);
    assert_eq!(why(&shard, 2), None);
    assert_eq!(best(&shard), Some(id(3)));
    assert_eq!(shard.best_of_all([id(2)]), None);
}

#[test]
fn whatever_is_wrong_the_most_advanced_is_found() {
    let shard = shard(
        None,
        &[
            Some(facts(SYNCING, 0, 0)),
            Some(with_history("b", facts(NEVER_UP, 0, 0))),
        ],
    );
    assert_eq!(shard.best([id(2), id(3)]), None);
    assert_eq!(shard.best_of_all([id(2), id(3)]), Some(id(3)));
}
