# A reshard that was cut off with 1,000 slots open and 40,000 keys in them, from three masters to a fourth: repaired by
# both tools.
# shellcheck shell=bash
# shellcheck source=benches/moves.sh
. benches/moves.sh

# open_slots COUNT: the lowest of each of the first three masters are on their way to the fourth.
open_slots() {
    local to_port from id port first_slot slot
    to_port=$(redis-cli -p "$first" cluster nodes | awk -v id="${ids[3]}" '$1 == id { split($2, a, /[:@]/); print a[2] }')
    for from in 0 1 2; do
        id=${ids[$from]}
        read -r port first_slot < <(redis-cli -p "$first" cluster nodes |
            awk -v id="$id" '$1 == id { split($2, a, /[:@]/); split($9, s, "-"); print a[2], s[1] }')
        for slot in $(seq "$first_slot" $((first_slot + $1 - 1))); do echo "cluster setslot $slot importing $id"; done |
            redis-cli -p "$to_port" >/dev/null
        for slot in $(seq "$first_slot" $((first_slot + $1 - 1))); do echo "cluster setslot $slot migrating ${ids[3]}"; done |
            redis-cli -p "$port" >/dev/null
    done
}

fix_ours() { "$trib" fix "127.0.0.1:$first" --yes; }
fix_theirs() { redis-cli --cluster fix "127.0.0.1:$first" --cluster-yes; }

for run in $(seq "$runs"); do
    for who in ours theirs; do
        four_masters
        fill 334 40 100
        open_slots 334
        timed "fix_$who"
        keep "fix-$who" "$took"
        "$trib" check "127.0.0.1:$first" --wait 30s >"$dir/out" 2>&1 || { cat "$dir/out" >&2; die "not mended"; }
        stop_servers
    done
    say "   fix: run $run of $runs done"
done
compare "fix, 1,002 open slots with 40,080 keys" fix-ours fix-theirs 0.2
