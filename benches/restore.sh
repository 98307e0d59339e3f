# A cluster of three masters with keys whose values do not compress: written by redis-cli --pipe (one for each master, all
# at once, each with the keys of its master in a file: redis-cli knows no slots there), saved by both tools, restored by
# ours. A fork begins at once (repl-diskless-sync-delay 0): both tools wait for it otherwise.
#
#   BENCH_RESTORE="500000:1000 50000:16384 20:104857600"   keys:bytes of each; less takes less time and memory
# shellcheck shell=bash
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

# What restore does besides: SHA-256 of what is sent, while it is sent.
pipe_and_sum() {
    local i sums=()
    for i in 0 1 2; do
        openssl dgst -sha256 "$dir/protocol.$i" >"$dir/sum.$i" &
        sums+=($!)
    done
    pipe_them
    wait "${sums[@]}"
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

# grouped NUMBER: 500,000
grouped() { printf '%s' "$1" | sed ':again; s/\([0-9]\)\([0-9]\{3\}\)\($\|,\)/\1,\2\3/; t again'; }

for size in ${BENCH_RESTORE:-500000:1000 50000:16384 20:104857600}; do
    keys=${size%:*} bytes=${size#*:}
    python3 "$load_py" protocol "$dir/protocol" "$keys" "$bytes" || die "no keys"
    for run in $(seq "$BENCH_RUNS"); do
        cluster_of_three
        timed pipe_them
        keep "pipe $size" "$took"
        count
        rm -rf "$dir/backup" "$dir/theirs"
        mkdir "$dir/theirs"
        timed save_theirs
        keep "save-theirs $size" "$took"
        timed save_ours
        keep "save-ours $size" "$took"
        stop_servers
        rm -rf "$dir/theirs"
        if command -v openssl >"$dir/openssl"; then
            cluster_of_three
            timed pipe_and_sum
            keep "pipe-sum $size" "$took"
            stop_servers
        fi
        cluster_of_three
        timed restore_ours
        keep "restore $size" "$took"
        count
        stop_servers
        say "   $size: run $run of $BENCH_RUNS done"
    done
    rm -rf "$dir/backup" "$dir"/protocol.*
    what="$(grouped "$keys") keys of $(grouped "$bytes") B"
    compare "backup of $what in three masters, synced to the disk (redis-cli's is not)" "save-ours $size" "save-theirs $size" ''
    row "…in all" "$(a_minute "save-ours $size")" "$(a_minute "save-theirs $size")" '' ''
    compare "restore of them, each block verified before it is sent (beside three \`redis-cli --pipe\` at once)" \
        "restore $size" "pipe $size" 1
    [ ! -s "$dir/openssl" ] || compare "…beside them and the SHA-256 of as many bytes (\`openssl dgst\`)" \
        "restore $size" "pipe-sum $size" ''
    row "…in all" "$(a_minute "restore $size")" "$(a_minute "pipe $size")" '' ''
done
