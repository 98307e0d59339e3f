# Making a cluster: until the command returns (ours with --no-wait, which returns where redis-cli does), and until
# the cluster is usable.
# shellcheck shell=bash
masters=$((BENCH_NODES / 2))
mapfile_nodes() { mapfile -t nodes < <(addresses); }
for run in $(seq "$BENCH_RUNS"); do
    start_servers "$BENCH_NODES"; mapfile_nodes
    timed "$trib" create --yes --no-wait --replicas 1 "${nodes[@]}"
    keep create-ours "$took"
    stop_servers

    start_servers "$BENCH_NODES"; mapfile_nodes
    timed redis-cli --cluster create "${nodes[@]}" --cluster-replicas 1 --cluster-yes
    returned=$took
    keep create-theirs "$returned"
    timed usable "$masters"
    keep usable-theirs $((returned + took))
    stop_servers

    start_servers "$BENCH_NODES"; mapfile_nodes
    timed "$trib" create --yes --replicas 1 "${nodes[@]}"
    returned=$took
    timed usable "$masters"
    keep usable-ours $((returned + took))
    stop_servers

    # What no tool can avoid: a master serves min(node timeout, 5 s) after it got its slots, and replicas have their first
    # sync. Measured on as many servers, each two of them a cluster: nobody has to wait for the others.
    start_servers "$BENCH_NODES"
    floor=$(python3 benches/load.py floor "${ports[@]}") || die "no clusters"
    keep usable-floor "$floor"
    stop_servers
    say "   run $run of $BENCH_RUNS done"
done
compare "create, $BENCH_NODES nodes, until it returns (ours: \`--no-wait\`)" create-ours create-theirs 0.25
compare "create, $BENCH_NODES nodes, until usable" usable-ours usable-theirs 0.80
above=$(awk -v a="$(median usable-ours)" -v f="$(median usable-floor)" 'BEGIN { printf "%.2f", (a - f) / 1e6 }')
row "…the servers' floor: each two of them a cluster, by bare commands, until the last is usable" "$(spread usable-floor)" "" "" \
    "ours ≤ 2 s above it: $above s, $(awk -v a="$above" 'BEGIN { print (a <= 2 ? "met" : "missed") }')"
