# Moving slots: 1,638 of them with 100,000 keys from three masters to a fourth, each with a replica; beside what
# MIGRATE alone would take (the goal is 85 % of its speed); values of 16 KB; and slots without keys.
# shellcheck shell=bash
# shellcheck source=benches/moves.sh
. benches/moves.sh

by_both keys 61 100 1638
compare "reshard, 1,638 slots with 100,000 keys of 100 B, 3 masters to 1" keys-ours keys-theirs 0.143
by_both values 4 16384 1638
compare "reshard, 1,638 slots with 6,552 values of 16 KB, 3 masters to 1" values-ours values-theirs 0.333

for run in $(seq "$runs"); do
    four_masters
    fill 546 61 100
    target=$(redis-cli -p "$first" cluster nodes | awk -v id="${ids[3]}" '$1 == id { split($2, a, "[:@]"); print a[2] }')
    keep migrate-bare "$(python3 "$load_py" slots "$first" "$target" 546 61)"
    stop_servers
done
compare "…beside MIGRATE alone between the same servers, a slot (61 keys) a call, three sources side by side" \
    keys-ours migrate-bare 1.18

for run in $(seq "$runs"); do
    for who in ours theirs; do
        four_masters
        timed "$who" 2000 "${ids[0]}" "${ids[3]}"
        keep "empty-$who" "$took"
        stop_servers
    done
done
compare "reshard, 2,000 empty slots of one pair" empty-ours empty-theirs 0.10
