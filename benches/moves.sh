# What the benches of slot moves share; sourced by them.
# shellcheck shell=bash
runs=${BENCH_MOVE_RUNS:-5}
load_py=benches/load.py

# make_cluster ADDRESS...: half of the nodes as masters with a replica each. `first` is the port where the tools are
# sent, `ids` are the masters' ids in the order of their slots.
make_cluster() {
    "$trib" create --yes --quiet --replicas "${replicas:-1}" "$@" >"$dir/out" 2>&1 || { cat "$dir/out" >&2; die "no cluster"; }
    first=${1##*:}
    # Until all nodes know that a node is a replica, it counts as a master without slots.
    mapfile -t ids < <(redis-cli -p "$first" cluster nodes |
        awk '/master/ && $9 { split($9, slots, "-"); print slots[1], $1 }' | sort -n | cut -d' ' -f2)
}

# four_masters: with a replica each, on servers of their own.
four_masters() {
    start_servers 8
    mapfile -t nodes < <(addresses)
    make_cluster "${nodes[@]}"
}

ours() { "$trib" reshard "127.0.0.1:$first" --slots "$1" --from "$2" --to "$3" --yes; }
theirs() {
    redis-cli --cluster reshard "127.0.0.1:$first" --cluster-slots "$1" --cluster-from "$2" --cluster-to "$3" \
        --cluster-yes
}

# fill SLOTS KEYS BYTES: the lowest slots of each master.
fill() { python3 "$load_py" fill "$first" "$@" || die "no keys"; }

# three_to_one WHO NAME SLOTS: from the first three masters to the last, its time kept as NAME-WHO.
three_to_one() {
    timed "$1" "$3" "${ids[0]},${ids[1]},${ids[2]}" "${ids[3]}"
    keep "$2-$1" "$took"
}

# by_both NAME KEYS BYTES SLOTS: each tool moves so many slots with so many keys in each, on a cluster of its own.
by_both() {
    local run who
    for run in $(seq "$runs"); do
        for who in ours theirs; do
            four_masters
            fill $(($4 / 3 + 4)) "$2" "$3"
            three_to_one "$who" "$1" "$4"
            stop_servers
        done
        say "   $1: run $run of $runs done"
    done
}

# meanwhile WHO NAME CLIENTS...: `seen` is what these clients of load.py saw while that tool moved `slots` slots.
meanwhile() {
    local said=$dir/clients pid
    # The last one's "ready" is not this one's.
    rm -f "$said"
    python3 "$load_py" "${@:3}" >"$said" 2>"$said.err" &
    pid=$!
    until grep -qs ready "$said"; do
        kill -0 "$pid" 2>/dev/null || { cat "$said.err" >&2; die "no clients"; }
        sleep 0.05
    done
    three_to_one "$1" "$2" "$slots"
    kill -TERM "$pid"
    wait "$pid" || { cat "$said.err" >&2; die "the clients failed"; }
    seen=$(tail -1 "$said")
}

# saw NAME: that figure among what was seen.
saw() { awk -v name="$1" '{ for (i = 1; i < NF; i++) if ($i == name) print $(i + 1) }' <<<"$seen"; }
