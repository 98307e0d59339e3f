# Ten nodes join a cluster of twenty: one call of ours, ten of redis-cli's. Until the calls return (ours with
# --no-wait, which returns when all know the new nodes and agree; redis-cli's when it has asked for that), until all
# know each other, and until all serve. A redis-cli that meets nodes that don't agree yet is called again, as a script
# would.
# shellcheck shell=bash
members=20 newcomers=10

# A cluster of the first twenty, the other ten empty.
cluster_and_newcomers() {
    start_servers $((members + newcomers))
    mapfile -t nodes < <(addresses)
    timed "$trib" create --yes --replicas 1 "${nodes[@]:0:members}"
}

one_by_one() {
    local node tries
    for node in "${nodes[@]:members}"; do
        for tries in $(seq 100); do
            if redis-cli --cluster add-node "$node" "${nodes[0]}"; then continue 2; fi
            sleep 0.1
        done
        die "redis-cli did not add $node in $tries tries"
    done
}

# says FACT: waits until every node reports it, whatever the tool says.
says() {
    local port patience=600
    for port in "${ports[@]}"; do
        until redis-cli -p "$port" cluster info | tr -d '\r' | grep -qx "$1"; do
            patience=$((patience - 1))
            [ "$patience" -gt 0 ] || die "port $port did not say $1 after 60 s"
            sleep 0.1
        done
    done
}
known() { says "cluster_known_nodes:$((members + newcomers))"; }
serving() { says cluster_state:ok; }

for run in $(seq "$BENCH_RUNS"); do
    cluster_and_newcomers
    timed "$trib" add-node --yes --no-wait "${nodes[@]:members}" "${nodes[0]}"
    returned=$took
    keep add-ours "$returned"
    timed known
    keep known-ours $((returned + took))
    stop_servers

    cluster_and_newcomers
    timed one_by_one
    returned=$took
    keep add-theirs "$returned"
    timed known
    returned=$((returned + took))
    keep known-theirs "$returned"
    timed serving
    keep serving-theirs $((returned + took))
    stop_servers

    cluster_and_newcomers
    timed "$trib" add-node --yes "${nodes[@]:members}" "${nodes[0]}"
    returned=$took
    timed serving
    keep serving-ours $((returned + took))
    stop_servers
    say "   run $run of $BENCH_RUNS done"
done
# A return that waits for nothing is no measure of joining, and has no target.
row "add-node, 10 to 20 nodes, until it returns (ours: \`--no-wait\`)" "$(spread add-ours)" "$(spread add-theirs)" \
    "$(awk -v a="$(median add-ours)" -v b="$(median add-theirs)" 'BEGIN { printf "%.2f", a / b }')" ""
compare "add-node, 10 to 20 nodes, until all know each other" known-ours known-theirs 0.33
compare "add-node, 10 to 20 nodes, until they serve" serving-ours serving-theirs 0.33
