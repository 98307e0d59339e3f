# Looking at a healthy cluster.
# shellcheck shell=bash
start_servers "$BENCH_NODES"
mapfile -t nodes < <(addresses)
timed "$trib" create --yes --replicas 1 "${nodes[@]}"
for _ in $(seq $((BENCH_RUNS * 5))); do
    timed "$trib" check "${nodes[0]}"
    keep check-ours "$took"
    timed redis-cli --cluster check "${nodes[0]}"
    keep check-theirs "$took"
done
stop_servers
compare "check, $BENCH_NODES nodes" check-ours check-theirs 1.00
