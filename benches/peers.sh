# The newest clients as peers: redis-cli 7.0 and 8.10 on Redis 8.10, valkey-cli 9.1 on Valkey 9.1. Slots with values of
# 100 B, 1 KB and 16 KB go from three masters to a fourth, with and without clients at work, while a probe pings each
# master. redis-cli 8.10 uses ASM tasks where all nodes can, valkey-cli with its option; redis-cli 7.0 goes key by key.
# shellcheck shell=bash
# shellcheck source=benches/moves.sh
. benches/moves.sh
servers=${REDIS_TRIB_SERVERS:-target/servers}
[ -x "$servers/valkey-9.1/valkey-cli" ] && [ -x "$servers/redis-8.10/redis-cli" ] || tests/servers.sh matrix
peer_runs=${BENCH_PEER_RUNS:-3}

cluster_reshard() {
    "${@:4}" --cluster reshard "127.0.0.1:$first" --cluster-slots "$1" --cluster-from "$2" --cluster-to "$3" --cluster-yes
}
redis_cli_7() { cluster_reshard "$1" "$2" "$3" redis-cli; }
redis_cli_8() { cluster_reshard "$1" "$2" "$3" "$servers/redis-8.10/redis-cli"; }
valkey_cli_9() {
    "$servers/valkey-9.1/valkey-cli" --cluster reshard "127.0.0.1:$first" --cluster-slots "$1" --cluster-from "$2" \
        --cluster-to "$3" --cluster-yes --cluster-use-atomic-slot-migration
}

# rate NAME BYTES: "median (least-most, n)" of the times of that name, as MB a second.
rate() {
    # shellcheck disable=SC2086
    printf '%s\n' ${kept[$1]} | sort -n | awk -v bytes="$2" '
        { v[NR] = bytes / $1 }
        END {
            m = NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2
            printf "%.0f MB/s (%.0f-%.0f, n=%d)", m, v[NR], v[1], NR
        }'
}

# beside VERSION LABEL PEER KEYS BYTES SLOTS LOAD TARGET STALL: both tools move so many slots with so many keys in each.
# TARGET is the largest ratio of times that will do, STALL that of the 99th percentiles and of the longest stalls.
beside() {
    local version=$1 label=$2 peer=$3 keys=$4 bytes=$5 load=$7 name run who client bytes_in_all ratio verdict=
    slots=$6
    name=$version-$peer-$bytes-$load
    server=$servers/$version/redis-server
    for run in $(seq "$peer_runs"); do
        for who in ours "$peer"; do
            four_masters
            fill $((slots / 3 + 1)) "$keys" "$bytes"
            mapfile -t masters < <(redis-cli -p "$first" cluster nodes | awk '/master/ && $9 { split($2, a, "[:@]"); print a[2] }')
            client=
            if [ "$load" = load ]; then
                rm -f "$dir/load"
                python3 "$load_py" client "$first" $((slots / 3)) "$keys" "$bytes" >"$dir/load" 2>&1 &
                client=$!
                until grep -qs ready "$dir/load"; do sleep 0.05; done
            fi
            meanwhile "$who" "$name" ping "${masters[@]}"
            [ -z "$client" ] || { kill -TERM "$client"; wait "$client" || die "the clients failed"; }
            keep "$name-p99-$who" "$(saw p99)"
            keep "$name-p999-$who" "$(saw p999)"
            keep "$name-longest-$who" "$(saw max)"
            stop_servers
        done
        say "   $name: run $run of $peer_runs done"
    done
    bytes_in_all=$((slots * keys * bytes))
    ratio=$(awk -v a="$(median "$name-ours")" -v b="$(median "$name-$peer")" 'BEGIN { printf "%.2f", a / b }')
    if [ -n "$8" ]; then
        verdict="≤ $8: $(awk -v r="$ratio" -v t="$8" 'BEGIN { print (r <= t ? "met" : "missed") }')"
    fi
    row "$((slots * keys)) values of $bytes B move, $version, $([ "$load" = load ] && echo with || echo without) clients; beside $label" \
        "$(rate "$name-ours" "$bytes_in_all")" "$(rate "$name-$peer" "$bytes_in_all")" \
        "$ratio of the time" "$verdict"
    compare "…PING to each master every ms, 99th percentile" "$name-p99-ours" "$name-p99-$peer" "$9"
    compare "…PING, 99.9th percentile" "$name-p999-ours" "$name-p999-$peer" ""
    compare "…the longest stall" "$name-longest-ours" "$name-longest-$peer" "$9"
}

for load in ${BENCH_PEER_LOADS:-none load}; do
    for values in ${BENCH_PEER_VALUES:-61:100 15:1024 4:16384}; do
        # redis-cli 8.10 asks once a second whether a task has ended: that decides in a run as short as the 91,500 keys'.
        target=
        [ "$values" != 61:100 ] || target=0.10
        beside redis-8.10 "redis-cli 7.0" redis_cli_7 "${values%:*}" "${values#*:}" 1500 "$load" "" ""
        beside redis-8.10 "redis-cli 8.10" redis_cli_8 "${values%:*}" "${values#*:}" 1500 "$load" "$target" ""
        beside valkey-9.1 "valkey-cli 9.1" valkey_cli_9 "${values%:*}" "${values#*:}" 1500 "$load" 0.67 1.00
    done
done
server=redis-server
