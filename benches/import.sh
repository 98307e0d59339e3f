# A standalone server's 200,000 keys of 100 B go into a cluster of three masters: copied by both tools, and deleted at
# the source by both; and beside what MIGRATE alone takes for as many keys, in calls as large as our batches.
# shellcheck shell=bash
keys=200000
load_py=benches/load.py

# A source with the keys, and an empty cluster.
source_and_cluster() {
    local node
    start_servers 1 --cluster-enabled no
    source=${ports[0]} node=${pids[0]}
    python3 "$load_py" plain "$source" "$keys" 100 || die "no keys"
    start_servers 3
    pids+=("$node")
    mapfile -t nodes < <(addresses)
    timed "$trib" create --yes "${nodes[@]}"
}

copy_ours() { "$trib" import --from "127.0.0.1:$source" "${nodes[0]}" --yes; }
copy_theirs() { redis-cli --cluster import "${nodes[0]}" --cluster-from "127.0.0.1:$source" --cluster-copy; }
move_ours() { "$trib" import --from "127.0.0.1:$source" "${nodes[0]}" --move --yes; }
move_theirs() { redis-cli --cluster import "${nodes[0]}" --cluster-from "127.0.0.1:$source"; }

# all_there: whatever a tool says, the cluster has to hold every key.
all_there() {
    local port sum=0
    for port in "${ports[@]}"; do sum=$((sum + $(redis-cli -p "$port" dbsize))); done
    [ "$sum" -eq "$keys" ] || die "$sum of $keys keys arrived"
}

for run in $(seq "$BENCH_RUNS"); do
    for what in copy_ours copy_theirs move_ours move_theirs; do
        source_and_cluster
        timed "$what"
        keep "$what" "$took"
        all_there
        stop_servers
    done
    start_servers 2 --cluster-enabled no
    keep import-bare "$(python3 "$load_py" migrate "${ports[@]}" "$keys" 512)"
    stop_servers
    say "   run $run of $BENCH_RUNS done"
done
compare "import, 200,000 keys of 100 B into three masters" copy_ours copy_theirs 0.05
compare "import, the same, deleted at the source" move_ours move_theirs 0.10
compare "…beside MIGRATE alone, one plain server to another, 512 keys a call" move_ours import-bare ''
