# The static program beside the one linked with the system's libc, mostly for musl's malloc: where slots move, in wall
# time and in processor time of the program. Not among the benches that run.sh runs by itself: it needs `make dist`.
# shellcheck shell=bash
# shellcheck source=benches/moves.sh
. benches/moves.sh

system=$trib
static=$(realpath "${CARGO_TARGET_DIR:-target}/$(uname -m)-unknown-linux-musl/release/redis-trib")
TIMEFORMAT='%U %S'
for run in $(seq "$runs"); do
    for libc in system static; do
        trib=${!libc}
        four_masters
        fill 546 61 100
        { time timed ours 1638 "${ids[0]},${ids[1]},${ids[2]}" "${ids[3]}"; } 2>"$dir/used"
        keep "$libc" "$took"
        keep "$libc-used" "$(tail -n 1 "$dir/used" | awk '{ printf "%d", ($1 + $2) * 1e6 }')"
        stop_servers
    done
    say "   libc: run $run of $runs done"
done
for run in $(seq 31); do
    for libc in system static; do
        timed "${!libc}" --version
        keep "$libc-start" "$took"
    done
done
trib=$system
# libc_row WHAT FIGURE: static, with the system's libc, the ratio.
libc_row() {
    row "$1; static, beside the system's libc" "$(spread "static$2")" "$(spread "system$2")" \
        "$(awk -v a="$(median "static$2")" -v b="$(median "system$2")" 'BEGIN { printf "%.2f", a / b }')" ""
}
libc_row "reshard, 1,638 slots with 100,000 keys of 100 B" ""
libc_row "…processor time of redis-trib" -used
libc_row "start (\`--version\`)" -start
