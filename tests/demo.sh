#!/usr/bin/env bash
# Seven local servers in a temporary folder; six of them become a cluster, which is then checked. All is torn
# down at the end, however it ends (also by Ctrl-C).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

trib=${CARGO_TARGET_DIR:-target}/release/redis-trib
dir=$(mktemp -d "${TMPDIR:-/tmp}/redis-trib-demo.XXXXXX")
pids=()

tear_down() {
    local status=$?
    trap - EXIT
    trap '' INT TERM HUP
    if [ ${#pids[@]} -gt 0 ]; then
        kill -KILL "${pids[@]}" 2>/dev/null || true
        wait "${pids[@]}" 2>/dev/null || true
    fi
    rm -rf "$dir"
    exit "$status"
}
trap tear_down EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

# In the background, since bash looks at a signal only when the program in the foreground has ended.
show() {
    printf '\n$ redis-trib %s\n' "$*"
    set -m
    "$trib" "$@" </dev/null &
    pids+=($!)
    set +m
    wait $!
    unset 'pids[-1]'
}

# What runs gets a process group of its own (set -m): Ctrl-C is for us, and we take the others down in order.
# Ports are tried one by one, since a free one can only be found by binding it; the bus port (+ 10000) too.
nodes=()
port=$((12000 + RANDOM % 7000))
attempts=0
while [ ${#nodes[@]} -lt 7 ]; do
    port=$((port + 1)) attempts=$((attempts + 1))
    [ "$attempts" -lt 200 ] || { echo "tests/demo.sh: no free ports for seven servers in 200 tries" >&2; exit 1; }
    mkdir -p "$dir/$port"
    set -m
    redis-server --port "$port" --bind 127.0.0.1 --dir "$dir/$port" --cluster-enabled yes \
        --save "" --appendonly no </dev/null >"$dir/$port/log" 2>&1 &
    pid=$!
    set +m
    pids+=("$pid")
    answered=no
    for _ in $(seq 100); do
        kill -0 "$pid" 2>/dev/null || break
        # Another program's server may have the port and answer; only ours says this in our log.
        if grep -q 'Ready to accept connections' "$dir/$port/log"; then answered=yes; break; fi
        sleep 0.1
    done
    if [ "$answered" = yes ]; then
        nodes+=("127.0.0.1:$port")
    elif kill -0 "$pid" 2>/dev/null; then
        echo "tests/demo.sh: the server on port $port was not ready after 10 s" >&2
        exit 1
    elif ! grep -q 'Address already in use' "$dir/$port/log"; then
        cat "$dir/$port/log" >&2
        exit 1
    else
        unset 'pids[-1]'
    fi
done
echo "Seven servers: ${nodes[*]}"

show create --yes --replicas 1 "${nodes[@]:0:6}"
show check "${nodes[0]}"
