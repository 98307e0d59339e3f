#!/usr/bin/env bash
# Measures redis-trib against redis-cli in one run, on servers of its own, and prints one table.
#
#   benches/run.sh [NAME...]     all benches but shards, or these: the files benches/NAME.sh, each sourced in turn
#   BENCH_NODES=100 BENCH_RUNS=3 how many servers, how many runs of each, for create, check, day_two and add_node
#   BENCH_MOVE_RUNS=5            how many runs of each, where slots move
#   BENCH_PEER_RUNS=3            how many runs of each beside the newest clients (peers); BENCH_PEER_VALUES="61:100 4:16384"
#                                (keys a slot:bytes) and BENCH_PEER_LOADS="none load" choose among them
#
# What shards takes is in benches/shards.sh.
#
# Ours and redis-cli's runs alternate. Figures are medians, with the least and the most in brackets.
set -euo pipefail
export LC_ALL=C
cd "$(dirname "${BASH_SOURCE[0]}")/.."

BENCH_NODES=${BENCH_NODES:-100}
BENCH_RUNS=${BENCH_RUNS:-3}
trib=$(realpath "${CARGO_TARGET_DIR:-target}/release/redis-trib")
load_before=$(cut -d" " -f1-3 /proc/loadavg)
dir=$(mktemp -d "${TMPDIR:-/tmp}/redis-trib-bench.XXXXXX")
# shellcheck source=benches/lib.sh
. benches/lib.sh

tear_down() {
    local status=$?
    trap - EXIT
    trap '' INT TERM HUP
    stop_servers
    rm -rf "$dir"
    exit "$status"
}
trap tear_down EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

[ $# -gt 0 ] || set -- start create check day_two add_node reshard clients latency links atomic peers rebalance memory fix import restore
for name in "$@"; do
    [ -f "benches/$name.sh" ] || die "there is no bench benches/$name.sh"
    say "-- $name"
    # shellcheck source=/dev/null
    . "benches/$name.sh"
done

printf '\n'
table
goals
printf '\n%s; redis-server %s; redis-cli %s\n' "$("$trib" --version)" \
    "$(redis-server --version | grep -o ' v=[^ ]*' | cut -d= -f2)" "$(redis-cli --version | cut -d' ' -f2)"
printf '%s cores of %s; Linux %s; load before: %s\n' "$(nproc)" \
    "$(awk -F': ' '/^model name/ { print $2; exit }' /proc/cpuinfo)" "$(uname -r)" "$load_before"
