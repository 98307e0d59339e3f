# The most memory that redis-trib takes while a slot with a million keys, and 99 with a thousand each, change masters.
# shellcheck shell=bash
# shellcheck source=benches/moves.sh
. benches/moves.sh

# peak COMMAND...: the most that it had, in KiB, in `had`.
peak() {
    had=$(python3 -c 'import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)' "$@") || die "failed: $1"
}

replicas=0
for run in $(seq 3); do
    start_servers 4
    mapfile -t nodes < <(addresses)
    make_cluster "${nodes[@]}"
    owner=$(redis-cli -p "$first" cluster nodes | awk -v id="${ids[0]}" '$1 == id { split($2, a, "[:@]"); print a[2] }')
    fill 100 1000 100
    # {06S} is in slot 0.
    redis-cli -p "$owner" eval 'for i = 1, 1000000 do redis.call("SET", KEYS[1] .. i, ARGV[1]) end' 1 '{06S}:' \
        "$(printf 'v%.0s' {1..100})" >/dev/null
    peak "$trib" reshard "127.0.0.1:$first" --slots 100 --from "${ids[0]}" --to "${ids[3]}" --yes --quiet
    [ "$(redis-cli -p "$owner" cluster countkeysinslot 0)" = 0 ] || die "slot 0 did not move"
    keep memory "$had"
    stop_servers
    say "   memory: run $run of 3 done"
done
replicas=1
most=$(median memory)
row "memory of redis-trib at its most, while 1,099,000 keys move, a million of them in one slot" \
    "$(awk -v k="$most" 'BEGIN { printf "%.1f MiB", k / 1024 }')" "" "" \
    "≤ 64 MiB: $([ "${most%.*}" -le 65536 ] && echo met || echo missed)"
