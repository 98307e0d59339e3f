# A cluster of three masters, 500,000 keys of 1,000 B that do not compress: written by redis-cli --pipe (one for each
# master, all at once, each with the keys of its master in a file: redis-cli knows no slots there), saved by both
# tools, restored by ours. A fork begins at once (repl-diskless-sync-delay 0): both tools wait for it otherwise.
# shellcheck shell=bash
keys=500000 bytes=1000
load_py=benches/load.py

cluster_of_three() {
    start_servers 3 --repl-diskless-sync-delay 0
    mapfile -t nodes < <(addresses)
    timed "$trib" create --yes "${nodes[@]}"
}

pipe_them() {
    local i pipes=()
    for i in 0 1 2; do
        redis-cli -p "${ports[i]}" --pipe <"$dir/protocol.$i" &
        pipes+=($!)
    done
    wait "${pipes[@]}"
}

save_ours() { "$trib" backup "${nodes[0]}" "$dir/backup"; }
save_theirs() { redis-cli --cluster backup "${nodes[0]}" "$dir/theirs"; }
restore_ours() { "$trib" restore "$dir/backup" "${nodes[0]}" --yes; }

count() {
    local port sum=0
    for port in "${ports[@]}"; do sum=$((sum + $(redis-cli -p "$port" dbsize))); done
    [ "$sum" -eq "$keys" ] || die "$sum of $keys keys are there"
}

# a_minute NAME: its median, as GB of values in a minute.
a_minute() { awk -v m="$(median "$1")" -v b=$((keys * bytes)) 'BEGIN { printf "%.1f GB a minute", b / 1e9 / (m / 60e6) }'; }

cluster_of_three
python3 "$load_py" protocol "$dir/protocol" "$keys" "$bytes" || die "no keys"
stop_servers
for run in $(seq "$BENCH_RUNS"); do
    cluster_of_three
    timed pipe_them
    keep pipe "$took"
    count
    rm -rf "$dir/backup" "$dir/theirs"
    mkdir "$dir/theirs"
    timed save_theirs
    keep save-theirs "$took"
    timed save_ours
    keep save-ours "$took"
    stop_servers
    cluster_of_three
    timed restore_ours
    keep restore "$took"
    count
    stop_servers
    say "   run $run of $BENCH_RUNS done"
done
compare "backup, 500,000 keys of 1,000 B in three masters (ours synced, read back and summed)" save-ours save-theirs ''
row "…in all" "$(a_minute save-ours)" "$(a_minute save-theirs)" '' ''
compare "restore of them, verified first (beside three \`redis-cli --pipe\` at once)" restore pipe ''
row "…in all" "$(a_minute restore)" "$(a_minute pipe)" '' ''
