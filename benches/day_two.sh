# Commands that only read, on many nodes; redis-cli has none of them. `slots` without its sample of 1 s; `watch` in processor
# time for each frame, of which there is one a second, its start included.
# shellcheck shell=bash
servers=${REDIS_TRIB_SERVERS:-target/servers}
[ -x "$servers/redis-8.10/redis-server" ] || tests/servers.sh matrix
server=$servers/redis-8.10/redis-server
start_servers "$BENCH_NODES" --cluster-slot-stats-enabled yes
mapfile -t nodes < <(addresses)
timed "$trib" create --yes --replicas 1 "${nodes[@]}"
usable $((BENCH_NODES / 2))
frames=20
TIMEFORMAT='%U %S'
for _ in $(seq "$BENCH_RUNS"); do
    timed "$trib" drift "${nodes[0]}"
    keep drift "$took"
    timed "$trib" slots "${nodes[0]}" --for 1s
    keep slots $((took - 1000000))
    # The pipe closes after the last frame, which ends it.
    { time { "$trib" watch "${nodes[0]}" -n 1s -o json | head -n "$frames" >/dev/null; }; } 2>"$dir/used"
    keep watch "$(tail -n 1 "$dir/used" | awk -v n="$frames" '{ printf "%d", ($1 + $2) * 1e6 / n }')"
done
stop_servers
server=redis-server
row "drift, $BENCH_NODES nodes" "$(spread drift)" "" "" ""
row "slots, $BENCH_NODES nodes, besides the sample" "$(spread slots)" "" "" ""
row "watch, $BENCH_NODES nodes, processor time of a frame" "$(spread watch)" "" "" ""
