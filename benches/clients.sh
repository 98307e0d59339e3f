# What other clients feel while 1,638 slots with 100,000 keys move from three masters to a fourth.
# shellcheck shell=bash
# shellcheck source=benches/moves.sh
. benches/moves.sh

# pings NAME KEYS BYTES SLOTS
pings() {
    local run who
    slots=$4
    for run in $(seq "$runs"); do
        for who in ours theirs; do
            four_masters
            fill $((slots / 3 + 4)) "$2" "$3"
            mapfile -t masters < <(redis-cli -p "$first" cluster nodes | awk '/master/ && $9 { split($2, a, "[:@]"); print a[2] }')
            meanwhile "$who" "$1" ping "${masters[@]}"
            keep "$1-p999-$who" "$(saw p999)"
            keep "$1-longest-$who" "$(saw max)"
            stop_servers
        done
        say "   $1: run $run of $runs done"
    done
}

pings small 61 100 1638
compare "100,000 keys of 100 B move; PING to each master every ms, 99.9th percentile" small-p999-ours small-p999-theirs 1.00
compare "…the longest" small-longest-ours small-longest-theirs ""
pings large 1 1048576 501
compare "501 values of 1 MB move" large-ours large-theirs 1.00
compare "…PING, 99.9th percentile" large-p999-ours large-p999-theirs 1.00
compare "…the longest" large-longest-ours large-longest-theirs ""

slots=1638
for run in $(seq "$runs"); do
    for who in ours theirs; do
        four_masters
        fill $((slots / 3 + 4)) 61 100
        meanwhile "$who" used client "$first" $((slots / 3))
        keep "used-p999-$who" "$(saw p999)"
        for what in count error TRYAGAIN ASK MOVED; do keep "used-$what-$who" "$(saw "$what")"; done
        case $who in
            # "longest time a slot was open 152.0 ms (mean 61.3 ms)."
            ours) keep open-ours "$(sed -n 's/.*(mean \([0-9.]*\) \(m*s\)).*/\1 \2/p' "$dir/out" |
                awk '{ print $1 * ($2 == "ms" ? 1000 : 1000000) }')" ;;
            # One slot after the other, and nothing else worth mention.
            theirs) keep open-theirs $((took / slots)) ;;
        esac
        stop_servers
    done
    say "   cluster client: run $run of $runs done"
done
compare "a cluster client meanwhile (GET, SET, MGET, Lua), 99.9th percentile" used-p999-ours used-p999-theirs ""
for what in count error TRYAGAIN ASK MOVED; do
    row "…its ${what/count/commands}" "$(median "used-$what-ours")" "$(median "used-$what-theirs")" "" ""
done
compare "…mean time that a slot is open (redis-cli opens one at a time: all of its time, by slots)" open-ours open-theirs ""
