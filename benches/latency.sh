# What `--max-latency 5ms` keeps, and what it costs: PINGs to each master while a cluster client works, alone, while slots
# move without a limit, and while they move with it. The limit is for what a move adds at the 99th percentile.
# shellcheck shell=bash
# shellcheck source=benches/moves.sh
. benches/moves.sh
limit_ms=5
slots=${BENCH_LATENCY_SLOTS:-900}

with_limit() {
    "$trib" reshard "127.0.0.1:$first" --slots "$1" --from "$2" --to "$3" --yes --strategy keys --max-latency "${limit_ms}ms"
}
without_limit() { "$trib" reshard "127.0.0.1:$first" --slots "$1" --from "$2" --to "$3" --yes --strategy keys; }
nothing() { sleep 6; }

# felt NAME SECONDS COMMAND...: what PINGs see from so many seconds after COMMAND began until it ends, with clients at work.
felt() {
    local name=$1 after=$2 said=$dir/pings clients pinger
    python3 "$load_py" client "$first" $((slots / 3)) "$keys" 100 >"$dir/clients" 2>&1 &
    clients=$!
    until grep -qs ready "$dir/clients"; do sleep 0.05; done
    # The idle latency is measured for 2 s, and that is no part of the move.
    (sleep "$after"; exec python3 "$load_py" ping "${masters[@]}") >"$said" 2>&1 &
    pinger=$!
    timed "${@:3}"
    kill -TERM "$pinger" "$clients"
    wait "$pinger" || { cat "$said" >&2; die "no PINGs: the move was over too soon (BENCH_LATENCY_SLOTS)"; }
    wait "$clients" || { cat "$dir/clients" >&2; die "the clients failed"; }
    seen=$(tail -1 "$said")
    keep "felt-$name-p99" "$(saw p99)"
    keep "felt-$name-max" "$(saw max)"
    keep "felt-$name-took" "$took"
}

keys=${BENCH_LATENCY_KEYS:-200}
for run in $(seq "$runs"); do
    four_masters
    mapfile -t masters < <(redis-cli -p "$first" cluster nodes | awk '/master/ && $9 { split($2, a, "[:@]"); print a[2] }')
    fill $((slots / 3 + 4)) "$keys" 100
    felt none 0 nothing
    felt free 0.3 without_limit "$slots" "${ids[0]},${ids[1]},${ids[2]}" "${ids[3]}"
    stop_servers
    four_masters
    mapfile -t masters < <(redis-cli -p "$first" cluster nodes | awk '/master/ && $9 { split($2, a, "[:@]"); print a[2] }')
    fill $((slots / 3 + 4)) "$keys" 100
    felt limited 3 with_limit "$slots" "${ids[0]},${ids[1]},${ids[2]}" "${ids[3]}"
    stop_servers
    say "   latency limit: run $run of $runs done"
done
added=$(awk -v a="$(median felt-limited-p99)" -v b="$(median felt-none-p99)" 'BEGIN { printf "%.2f", (a - b) / 1000 }')
verdict=$(awk -v a="$added" -v l="$limit_ms" 'BEGIN { print (a <= l ? "met" : "missed") }')
row "$((slots * keys)) keys of 100 B move while a client works; PING, 99th percentile: \`--max-latency ${limit_ms}ms\` (left), no limit (right)" \
    "$(spread felt-limited-p99)" "$(spread felt-free-p99)" "" "added ≤ $limit_ms ms: $added ms, $verdict"
row "…the same without a move" "$(spread felt-none-p99)" "" "" ""
row "…the longest" "$(spread felt-limited-max)" "$(spread felt-free-max)" "" ""
row "…the time of the move (with the 2 s of the measurement)" "$(spread felt-limited-took)" "$(spread felt-free-took)" "" ""
