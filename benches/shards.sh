# The Valkey project's experiment (https://valkey.io/blog/atomic-slot-migration), scaled down: three shards become four
# and three again, by `rebalance`, with 4 GB of 16 KB strings instead of 40 GB, with clients at work and without.
#
#   benches/run.sh shards        25 minutes and 7 GB of memory on two cores; not one of the benches that run unasked
#
#   BENCH_SHARD_RUNS=3           how many times 3 to 4 and back, for each tool and setting
#   BENCH_SHARD_BYTES=16384 BENCH_SHARD_KEYS=16       the size of a value, and how many there are in each of 16,384 slots
#   BENCH_SHARD_LOADS="none load" BENCH_SHARD_RATE=2000   without clients, with clients; their commands a second
#   BENCH_SHARD_SERVERS="redis-7.0 redis-8.10 valkey-9.1" which servers
#   BENCH_SHARD_WAYS="keys atomic" BENCH_SHARD_SETTINGS="default others"   which ways; without others, no settings
#   BENCH_SHARD_RESULTS=target/shards.tsv             every measurement; benches/plot.py makes tables and a picture of it
#
# A version's cluster is loaded once, and its keys go back and forth. Tools and settings alternate. Nodes have no
# replicas, as there. The clients send one SET to ten GETs, as there, but at a steady rate, far below what would fill the
# two cores: with full cores every figure would be about who gets a core.
# shellcheck shell=bash
# shellcheck source=benches/moves.sh
. benches/moves.sh
servers=${REDIS_TRIB_SERVERS:-target/servers}
[ -x "$servers/valkey-9.1/valkey-cli" ] && [ -x "$servers/redis-8.10/redis-cli" ] || tests/servers.sh matrix
shard_runs=${BENCH_SHARD_RUNS:-3}
shard_bytes=${BENCH_SHARD_BYTES:-16384}
shard_keys=${BENCH_SHARD_KEYS:-16}
shard_rate=${BENCH_SHARD_RATE:-2000}
settings=${BENCH_SHARD_SETTINGS:-default others}
results=${BENCH_SHARD_RESULTS:-target/shards.tsv}
all_keys=$((16384 * shard_keys)) some_keys=$((4096 * shard_keys))

# variants VERSION CLIENTS: what is measured on these servers, a line each: the tool, key by key or atomic, its settings,
# and whether both directions are measured, or only 3 to 4.
variants() {
    local more=
    case "$2 $settings" in "load "*others*) more=1 ;; esac
    case $1 in
        redis-7.0)
            echo "redis-trib|keys||both"
            echo "redis-cli 7.0|keys||both"
            [ -n "$more" ] || return 0
            # A slot's keys go in one call as soon as the pipeline is as long.
            echo "redis-cli 7.0|keys|--cluster-pipeline 100|out"
            [ "$shard_keys" -le 100 ] || echo "redis-cli 7.0|keys|--cluster-pipeline 1000|out"
            echo "redis-trib|keys|--node-pairs 1|out"
            echo "redis-trib|keys|--node-pairs 1 --max-stall 2ms|out"
            echo "redis-trib|keys|--node-pairs 1 --pipeline 10|out"
            echo "redis-trib|keys|--max-stall 2ms|out"
            echo "redis-trib|keys|--max-latency 5ms|out"
            ;;
        redis-8.10)
            echo "redis-trib|atomic||both"
            echo "redis-cli 8.10|atomic||both"
            [ -n "$more" ] || return 0
            echo "redis-trib|atomic|--node-pairs 3|out"
            echo "redis-trib|atomic|--max-latency 5ms|out"
            ;;
        valkey-9.1)
            echo "redis-trib|atomic||both"
            echo "valkey-cli 9.1|atomic|--cluster-use-atomic-slot-migration|both"
            echo "redis-trib|keys|--strategy keys|both"
            echo "valkey-cli 9.1|keys||both"
            [ -n "$more" ] || return 0
            echo "redis-trib|atomic|--node-pairs 3|out"
            echo "redis-trib|atomic|--max-latency 5ms|out"
            ;;
    esac
}

# in_turn RUN: every second run begins with the last one. What runs first may find memory that the target has given back to
# the system while nothing moved.
in_turn() {
    case $(($1 % 2)) in
        1) cat ;;
        *) tac ;;
    esac
}

# three_shards: three masters with all the keys, and a fourth without slots. It stays a master when it has given its
# slots away.
three_shards() {
    start_servers 4 --cluster-allow-replica-migration no
    mapfile -t nodes < <(addresses)
    replicas=0 make_cluster "${nodes[@]:0:3}"
    timed "$trib" add-node --yes "${nodes[3]}" "${nodes[0]}"
    fourth=$(redis-cli -p "${ports[3]}" cluster myid)
    fill 16384 "$shard_keys" "$shard_bytes"
}

# rebalance TOOL WAY [OPTION...]: to four shards (out) or to three (back).
rebalance() {
    local node=127.0.0.1:$first
    case "$1 $2" in
        redis-trib\ out) "$trib" rebalance "$node" --yes --use-empty-masters "${@:3}" ;;
        redis-trib\ back) "$trib" rebalance "$node" --yes --weight "$fourth=0" "${@:3}" ;;
        *\ out) "${client[@]}" --cluster rebalance "$node" --cluster-yes --cluster-use-empty-masters "${@:3}" ;;
        *\ back) "${client[@]}" --cluster rebalance "$node" --cluster-yes --cluster-weight "$fourth=0" "${@:3}" ;;
    esac
}

# server_cpu: processor time of all servers and their children so far, in hundredths of a second.
server_cpu() {
    local pid sum=0 line
    for pid in "${pids[@]}"; do
        line=$(cat "/proc/$pid/stat" 2>/dev/null) || continue
        # After the name, which may have spaces: the 14th to the 17th field are user and system time, its own and its
        # children's.
        # shellcheck disable=SC2086
        set -- ${line##*) }
        sum=$((sum + ${12} + ${13} + ${14} + ${15}))
    done
    echo "$sum"
}

# settled KEYS: returns when the fourth node has so many keys and all have as many as were loaded. Sources may delete
# in the background what they gave away.
settled() {
    local port sum had patience=600
    while :; do
        sum=0
        for port in "${ports[@]}"; do
            had=$(redis-cli -p "$port" dbsize)
            sum=$((sum + had))
        done
        [ "$sum" -ne "$all_keys" ] || [ "$had" -ne "$1" ] || return 0
        patience=$((patience - 1))
        [ "$patience" -gt 0 ] || { cat "$dir/out" >&2; die "$sum of $all_keys keys are there, and $had on the fourth node: $1 are expected"; }
        sleep 0.1
    done
}

# measure TOOL WAY OPTIONS DIRECTION: one line of results, with what the clients saw meanwhile.
measure() {
    local before tool_cpu moved=$((some_keys * shard_bytes)) said=$dir/clients pid TIMEFORMAT='%3U %3S'
    local steady=("$shard_rate")
    [ "$clients" = none ] || steady+=("$shard_keys" "$shard_bytes")
    # The last one's "ready" is not this one's.
    rm -f "$said"
    python3 "$load_py" steady "$first" "${steady[@]}" >"$said" 2>"$said.err" &
    pid=$!
    until grep -qs ready "$said"; do
        kill -0 "$pid" 2>/dev/null || { cat "$said.err" >&2; die "no clients"; }
        sleep 0.05
    done
    before=$(server_cpu)
    # The stopwatch of the shell also counts the processor time of what `timed` runs.
    # shellcheck disable=SC2086
    if [ "$1" = idle ]; then
        timed sleep 3
        moved=0
        echo 0 0 >"$dir/cpu"
    else
        { time timed rebalance "$1" "$4" $3 2>&3; } 3>&2 2>"$dir/cpu"
    fi
    kill -TERM "$pid"
    wait "$pid" || { cat "$said.err" >&2; die "the clients failed"; }
    cat "$said.err" >&2
    seen=$(tail -1 "$said")
    case $4 in out) settled "$some_keys" ;; *) settled 0 ;; esac
    tool_cpu=$(awk 'END { print $1 + $2 }' "$dir/cpu")
    {
        printf '%s\t' "$version" "$1" "$2" "${3:-default}" "$clients" "$4" "$run" "$(seconds "$took")" \
            "$(awk -v us="$took" -v bytes="$moved" 'BEGIN { printf "%.1f", bytes / us }')" \
            "$(saw count)" "$(saw p50)" "$(saw p99)" "$(saw p999)" "$(saw max)" "$(saw error)" \
            "$(($(saw MOVED) + $(saw ASK)))" "$tool_cpu" \
            "$(awk -v ticks=$(($(server_cpu) - before)) -v hz="$(getconf CLK_TCK)" 'BEGIN { printf "%.2f", ticks / hz }')" \
            "$(seconds "$(saw cpu)")"
        printf '%s\n' "$(saw late)"
    } >>"$results"
}

seconds() { awk -v us="$1" 'BEGIN { printf "%.3f", us / 1e6 }'; }

server_version() { "$1" --version | grep -o ' v=[^ ]*' | cut -d= -f2; }

mkdir -p "$(dirname "$results")"
{
    printf '# %s; %s; %s; %s; servers Redis %s, Redis %s and Valkey %s\n' "$("$trib" --version)" "$(redis-cli --version)" \
        "$("$servers/redis-8.10/redis-cli" --version)" "$("$servers/valkey-9.1/valkey-cli" --version)" \
        "$(server_version redis-server)" "$(server_version "$servers/redis-8.10/redis-server")" \
        "$(server_version "$servers/valkey-9.1/redis-server")"
    printf '# %s cores of %s; Linux %s; load before: %s; %s\n' "$(nproc)" \
        "$(awk -F': ' '/^model name/ { print $2; exit }' /proc/cpuinfo)" "$(uname -r)" "$load_before" "$(date -u +%F)"
    printf '# %s keys of %s B; %s of them move; %s commands a second\n' "$all_keys" "$shard_bytes" "$some_keys" "$shard_rate"
    printf 'servers\ttool\tway\tsetting\tclients\tdirection\trun\tseconds\tmb_s\tcommands\tp50_us\tp99_us\tp999_us\tlongest_us\t'
    printf 'errors\tredirected\ttool_cpu_s\tservers_cpu_s\tclients_cpu_s\tclients_late_p999_us\n'
} >"$results"

began=$SECONDS
for version in ${BENCH_SHARD_SERVERS:-redis-7.0 redis-8.10 valkey-9.1}; do
    case $version in
        redis-7.0) server=redis-server client=(redis-cli) ;;
        redis-8.10) server=$servers/redis-8.10/redis-server client=("$servers/redis-8.10/redis-cli") ;;
        valkey-9.1) server=$servers/valkey-9.1/redis-server client=("$servers/valkey-9.1/valkey-cli") ;;
        *) die "BENCH_SHARD_SERVERS: $version is not one of redis-7.0, redis-8.10, valkey-9.1" ;;
    esac
    loading=$SECONDS
    three_shards
    say "   $version: $all_keys keys loaded in $((SECONDS - loading)) s"
    for run in $(seq "$shard_runs"); do
        for clients in ${BENCH_SHARD_LOADS:-none load}; do
            measure idle "" "" none
            while IFS='|' read -r tool way options directions <&4; do
                case " ${BENCH_SHARD_WAYS:-keys atomic} " in *" $way "*) ;; *) continue ;; esac
                measure "$tool" "$way" "$options" out
                if [ "$directions" = both ]; then
                    measure "$tool" "$way" "$options" back
                else
                    timed rebalance redis-trib back
                    settled 0
                fi
            done 4< <(variants "$version" "$clients" | in_turn "$run")
        done
        say "   $version: run $run of $shard_runs done, $((SECONDS - began)) s in all"
    done
    stop_servers
done
server=redis-server

printf '\n'
python3 benches/plot.py tables "$results"
while IFS= read -r line; do rows+=("$line"); done < <(python3 benches/plot.py goals "$results")
