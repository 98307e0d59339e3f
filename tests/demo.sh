#!/usr/bin/env bash
# Shows the program on seven local servers in a temporary folder. Six become a cluster, which is checked and used; a
# master is killed; the seventh server joins, gets its share of the slots, and is removed again. Every command line is
# printed as it runs. Everything is removed at the end, also after Ctrl-C. A step that fails makes the demo fail.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

trib=${REDIS_TRIB:-${CARGO_TARGET_DIR:-target}/release/redis-trib}
dir=$(mktemp -d "${TMPDIR:-/tmp}/redis-trib-demo.XXXXXX")
pids=()
declare -A pid_of=()

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

if [ -t 1 ]; then bold=$'\e[1m' cyan=$'\e[36m' plain=$'\e[0m' pause=1.5; else bold='' cyan='' plain='' pause=0; fi

steps=0
# On a terminal: time to read the output above.
step() {
    [ "$steps" -eq 0 ] || sleep "$pause"
    steps=$((steps + 1))
    printf '\n%s%s. %s%s\n' "$bold" "$steps" "$*" "$plain"
}

prompt() { printf '\n%s$ %s%s\n' "$cyan" "$*" "$plain"; }

fail() { printf 'tests/demo.sh: %s\n' "$*" >&2; exit 1; }

# In the background, since bash looks at a signal only when the program in the foreground has ended. What runs
# gets a process group of its own (set -m): Ctrl-C is for us, and we take the others down in order.
run() {
    local status=0
    set -m
    "$@" </dev/null &
    pids+=($!)
    set +m
    wait $! || status=$?
    unset 'pids[-1]'
    return "$status"
}

# ends STATUS COMMAND...: shows the command line and runs it; any other exit code ends the demo.
ends() {
    local wanted=$1 status=0
    shift
    prompt "$*"
    case $1 in
        redis-trib) shift; run "$trib" "$@" || status=$? ;;
        *) run "$@" || status=$? ;;
    esac
    [ "$status" -eq "$wanted" ] || fail "exit code $status where $wanted was expected"
    [ "$status" -eq 0 ] || printf '(exit code %s)\n' "$status"
}

# says TEXT COMMAND...: as `ends 0`, and the output must be this.
says() {
    local text=$1 said
    shift
    prompt "$*"
    said=$("$@" </dev/null)
    printf '%s\n' "$said"
    [ "$said" = "$text" ] || fail "$text was expected"
}

# A node timeout of 2 s instead of 15: a dead master is missed sooner. The others die with us (setpriv), should
# we be killed.
start() {
    local port=$1
    mkdir -p "$dir/$port"
    : >"$dir/$port/log"
    set -m
    setpriv --pdeathsig KILL redis-server --port "$port" --bind 127.0.0.1 --dir "$dir/$port" \
        --cluster-enabled yes --cluster-node-timeout 2000 --save "" --appendonly no </dev/null >"$dir/$port/log" 2>&1 &
    pids+=($!)
    pid_of[$port]=$!
    set +m
}

# Another program's server may have the port and answer; only ours says this in our log.
is_ready() {
    local port=$1
    for _ in $(seq 100); do
        if grep -q 'Ready to accept connections' "$dir/$port/log"; then return 0; fi
        kill -0 "${pid_of[$port]}" 2>/dev/null || return 1
        sleep 0.1
    done
    fail "the server on port $port was not ready after 10 s"
}

step "Seven Redis servers in cluster mode, each alone yet"
# Ports are tried one by one, since a free one can only be found by binding it; the bus port (+ 10000) too.
ports=()
port=$((12000 + RANDOM % 7000))
attempts=0
while [ ${#ports[@]} -lt 7 ]; do
    port=$((port + 1)) attempts=$((attempts + 1))
    [ "$attempts" -lt 200 ] || fail "no free ports for seven servers in 200 tries"
    start "$port"
    if is_ready "$port"; then
        ports+=("$port")
    else
        grep -qE 'Address already in use|Failed listening' "$dir/$port/log" || { cat "$dir/$port/log" >&2; fail "a server did not start"; }
        unset 'pids[-1]'
    fi
done
nodes=("${ports[@]/#/127.0.0.1:}")
first=${nodes[0]}
redis-server --version
printf 'listening: %s\n' "${nodes[*]}"

step "Six of them become a cluster: three masters, a replica each"
ends 0 redis-trib create --yes --replicas 1 "${nodes[@]:0:6}"

step "Is it healthy?"
ends 0 redis-trib check "$first" --output table

step "Who holds what?"
ends 0 redis-trib info "$first" --output table

step "Does it take writes? Each master gets a small key for a moment (and these are the lines that scripts look for)"
ends 0 redis-trib check "$first" --output classic --probe-write
says OK redis-cli -c -p "${ports[0]}" set name zeffee

step "The seventh server alone, as a container's HEALTHCHECK asks"
ends 0 redis-trib check "${nodes[6]}" --local

step "The master that holds the key dies"
victim= heir=
# A master answers before its replica has the key.
for _ in $(seq 50); do
    for port in "${ports[@]:0:6}"; do
        if [ "$(redis-cli -p "$port" keys name)" != name ]; then continue; fi
        case $(redis-cli -p "$port" role) in
            master*) victim=$port ;;
            *) heir=$port ;;
        esac
    done
    if [ -n "$victim" ] && [ -n "$heir" ]; then break; fi
    sleep 0.1
done
[ -n "$victim" ] && [ -n "$heir" ] || fail "no master and replica hold the key"
first=
for port in "${ports[@]:0:6}"; do
    if [ "$port" != "$victim" ]; then first=127.0.0.1:$port; break; fi
done
prompt "kill -KILL ${pid_of[$victim]}    # 127.0.0.1:$victim"
kill -KILL "${pid_of[$victim]}"
# bash would print that it was killed.
{ wait "${pid_of[$victim]}" || true; } 2>/dev/null
ends 1 redis-trib check "$first" --output table

step "Its replica takes over: all slots are served again, and the key is there"
prompt "until redis-cli -p $heir role | grep master; do sleep 0.5; done"
began=$SECONDS
until redis-cli -p "$heir" role </dev/null | grep -x master; do
    [ $((SECONDS - began)) -lt 30 ] || fail "no replica took over within 30 s"
    sleep 0.5
done
# The others hear of it a moment later.
until redis-cli -p "${first##*:}" cluster info </dev/null | grep -q cluster_state:ok; do
    [ $((SECONDS - began)) -lt 30 ] || fail "the cluster did not serve again within 30 s"
    sleep 0.1
done
# The dead one owns nothing any more: a warning.
ends 0 redis-trib check "$first" --output table
says zeffee redis-cli -c -p "${first##*:}" get name

step "The dead server comes back, as a replica of its successor"
start "$victim"
is_ready "$victim" || fail "the server did not start again"
ends 0 redis-trib check "$first" --wait 30s --output table

step "The seventh server joins, and gets its share of the slots; the others keep equal ones"
ends 0 redis-trib add-node --yes --fill --output table "${nodes[6]}" "$first"

step "Four masters with a quarter of the slots each; the new one has no replica yet"
ends 0 redis-trib info "$first" --output table

step "The server that died takes its place back: writes are held for a moment, none is lost"
began=$SECONDS
until redis-cli -p "$victim" info replication </dev/null | grep -q master_link_status:up; do
    [ $((SECONDS - began)) -lt 30 ] || fail "the server did not get its copy within 30 s"
    sleep 0.1
done
ends 0 redis-trib failover --yes "$first" "127.0.0.1:$victim"
says zeffee redis-cli -c -p "${first##*:}" get name

step "One slot goes where it is wanted; a key stands for its slot"
ends 0 redis-trib reshard --yes "$first" --tag name --to "$first" --output table
says zeffee redis-cli -c -p "${first##*:}" get name

step "The seventh server can't just go: it owns slots"
ends 3 redis-trib del-node --yes "$first" "${nodes[6]}"

step "With --drain they move to the others first"
ends 0 redis-trib del-node --yes --drain --output table "$first" "${nodes[6]}"
says zeffee redis-cli -c -p "${first##*:}" get name
ends 0 redis-trib check "$first" --output table

step "One line for monitoring: to Nagios 1 is a warning, here that one host holds all"
ends 1 redis-trib check "$first" --output nagios

printf '\n%sAll is torn down.%s\n' "$bold" "$plain"
