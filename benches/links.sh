# 1,638 slots with 100,000 keys from three masters to a fourth, over slow links and with AOF.
# shellcheck shell=bash
# shellcheck source=benches/moves.sh
. benches/moves.sh

# Every node announces the port of a proxy that carries everything 1 ms late, each way: so do the tools and MIGRATE
# find it.
for run in $(seq "$runs"); do
    for who in ours theirs; do
        start_servers 8
        late=$((21000 + RANDOM % 5000))
        rm -f "$dir/delay"
        setpriv --pdeathsig KILL python3 "$load_py" delay "$late" "${ports[@]}" >"$dir/delay" 2>&1 &
        pids+=("$!")
        until grep -qs ready "$dir/delay"; do kill -0 "${pids[-1]}" || die "no proxy"; sleep 0.05; done
        nodes=()
        for i in "${!ports[@]}"; do
            redis-cli -p "${ports[$i]}" config set cluster-announce-port $((late + i)) >/dev/null
            nodes+=("127.0.0.1:$((late + i))")
        done
        make_cluster "${nodes[@]}"
        fill 550 61 100
        three_to_one "$who" late 1638
        stop_servers
    done
    say "   slow links: run $run of $runs done"
done
compare "100,000 keys move, every link 1 ms late" late-ours late-theirs 0.143

server_options=(--appendonly yes)
by_both aof 61 100 1638
server_options=()
compare "100,000 keys move, with AOF" aof-ours aof-theirs 0.143
