#!/bin/sh
# A cluster on this machine to try redis-trib on. It runs until it is stopped.
set -u

usage() {
    cat <<'USAGE'
Start a Redis or Valkey cluster on this machine, and leave it running.

Usage: playground.sh [start] [--nodes N] [--port PORT] [--keep | --foreground]
       playground.sh stop

  --nodes N      Number of nodes, 3 to 60 [default: 6]. Six and more: each master has a replica
  --port PORT    First port to try [default: 7001]. Ports that are taken are left out
  --keep         Leave the nodes running until `playground.sh stop`. The default
  --foreground   Stay until Ctrl-C, then stop the nodes. The default as the first process of a container

The nodes listen on 127.0.0.1 without a password. Their files are in one folder, and `stop` removes it.

Environment:
  REDIS_SERVER           The server to start [default: redis-server or valkey-server in PATH]
  REDIS_TRIB             The redis-trib to use [default: beside this script, in target, or in PATH]
  REDIS_TRIB_PLAYGROUND  The folder [default: redis-trib-playground-UID in TMPDIR or /tmp]
USAGE
}

here=$(cd "$(dirname "$0")" && pwd) || exit 1
dir=${REDIS_TRIB_PLAYGROUND:-${TMPDIR:-/tmp}/redis-trib-playground-$(id -u)}

fail() { printf 'playground.sh: %s\n' "$*" >&2; exit 1; }
misused() { printf 'playground.sh: %s (see playground.sh --help)\n' "$*" >&2; exit 2; }

# number NAME VALUE MIN MAX
number() {
    case $2 in '' | *[!0-9]* | ??????*) misused "$1: '$2' is not a number from $3 to $4" ;; esac
    [ "$2" -ge "$3" ] && [ "$2" -le "$4" ] || misused "$1: '$2' is not a number from $3 to $4"
}

command=start count=6 port=7001 foreground=
[ $$ -ne 1 ] || foreground=yes
case ${1-} in start | stop) command=$1; shift ;; esac
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage; exit 0 ;;
        --foreground) foreground=yes; shift ;;
        --keep)
            # All processes of a container end with its first one.
            [ $$ -ne 1 ] || misused "--keep: this is the first process of a container, and the nodes would end with it"
            foreground=
            shift
            ;;
        --nodes=* | --port=*) name=${1%%=*} value=${1#*=}; shift; set -- "$name" "$value" "$@" ;;
        --nodes) number --nodes "${2-}" 3 60; count=$2; shift 2 ;;
        # The bus port is 10000 higher.
        --port) number --port "${2-}" 1024 55000; port=$2; shift 2 ;;
        start | stop) misused "'$1' comes first" ;;
        *) misused "unknown argument '$1'" ;;
    esac
done

# is_ours PID PORT: whether this process is still that server. After a crash, another process may have its number.
is_ours() {
    if [ -r "/proc/$1/cmdline" ]; then tr '\0' ' ' <"/proc/$1/cmdline"; else ps -o args= -p "$1" 2>/dev/null; fi |
        grep -q -e ":$2 " -e ":$2\$" -e "--port $2 "
}

# The servers that run, as PID:PORT.
running() {
    for file in "$dir"/*/pid; do
        [ -s "$file" ] || continue
        read -r pid <"$file"
        folder=${file%/pid}
        if is_ours "$pid" "${folder##*/}"; then printf '%s:%s\n' "$pid" "${folder##*/}"; fi
    done
}

# Whether the playground.sh that made the folder is still at work: it starts the nodes, or stays in the foreground.
is_at_work() {
    [ -s "$dir/playground" ] && read -r starter <"$dir/playground" && [ "$starter" != $$ ] || return 1
    if [ -r "/proc/$starter/cmdline" ]; then tr '\0' ' ' <"/proc/$starter/cmdline"; else ps -o args= -p "$starter" 2>/dev/null; fi |
        grep -q playground
}

stop() {
    [ -e "$dir/playground" ] || return 0
    if [ ! -e "$dir/ready" ]; then
        # It would start more of them, and the last one may not have written its pid yet.
        if is_at_work; then kill -KILL "$starter" 2>/dev/null; fi
        sleep 1
    fi
    for signal in TERM TERM KILL; do
        left=$(running)
        [ -n "$left" ] || break
        for server in $left; do kill "-$signal" "${server%%:*}" 2>/dev/null; done
        for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
            [ -n "$(running)" ] || break
            sleep 0.1
        done
    done
    [ -z "$(running)" ] || fail "these servers did not end (PID:PORT): $(running | tr '\n' ' ')"
    rm -rf "$dir"
}

if [ "$command" = stop ]; then
    [ -e "$dir/playground" ] || { echo "No playground is running (there is none in $dir)."; exit 0; }
    [ -O "$dir" ] || fail "$dir belongs to another user"
    stop
    echo "The nodes have stopped, and $dir is removed."
    exit 0
fi

trib=${REDIS_TRIB-}
for candidate in "$here/redis-trib" "$here/target/release/redis-trib" \
    "$here/target/$(uname -m)-unknown-linux-musl/release/redis-trib" "$(command -v redis-trib)"; do
    if [ -z "$trib" ] && [ -x "$candidate" ] && [ ! -d "$candidate" ]; then trib=$candidate; fi
done
[ -n "$trib" ] || fail "redis-trib was not found: put it in PATH, run 'cargo build --release' here, or set REDIS_TRIB"
trib_version=$("$trib" --version 2>&1) || fail "$trib does not start: $trib_version"

server=${REDIS_SERVER-}
for candidate in redis-server valkey-server; do
    [ -n "$server" ] || server=$(command -v "$candidate")
done
[ -n "$server" ] || fail "neither redis-server nor valkey-server was found: install one of them (on Debian and Ubuntu:
apt install redis-server), or set REDIS_SERVER"
server_version=$("$server" --version 2>&1) || fail "$server does not start: $server_version"

# As one types it.
short=$trib
[ "$(command -v redis-trib)" != "$trib" ] || short=redis-trib
client=
for candidate in redis-cli valkey-cli; do
    if [ -z "$client" ] && command -v "$candidate" >/dev/null; then client=$candidate; fi
done

tell() {
    first=127.0.0.1:${1%% *}
    echo
    echo "A cluster is running: $(for one in $1; do printf ' 127.0.0.1:%s' "$one"; done | cut -c2-)"
    echo
    echo "  $short check $first"
    echo "  $short info $first"
    echo "  $short reshard $first      # asks how many slots, and from where to where"
    [ -z "$client" ] || echo "  $client -c -p ${1%% *}"
    echo
    if [ -n "$foreground" ]; then
        echo "Type in another terminal (docker exec -it CONTAINER bash, if this is a container). Ctrl-C stops the nodes."
    else
        echo "To stop the nodes and remove their files:"
        echo
        echo "  $0 stop"
    fi
}

# A password in the environment is for another cluster; these nodes have none.
unset auth auth_file REDISCLI_AUTH VALKEYCLI_AUTH

mkdir -m 700 "$dir" 2>/dev/null || {
    [ -d "$dir" ] && [ -O "$dir" ] || fail "$dir can't be used: it can't be created, or belongs to another user"
    if [ -n "$(running)" ] || is_at_work; then
        [ -e "$dir/ready" ] || fail "another playground.sh is starting, or was killed: run '$0 stop' first"
        echo "The playground is running already ($0 stop ends it)."
        # shellcheck disable=SC2046
        foreground= && tell "$(cat "$dir/ready")"
        exit 0
    fi
    # `stop` removes the folder, so it must be one that this script has made.
    [ -e "$dir/playground" ] || fail "$dir exists, and is no playground: remove it, or set REDIS_TRIB_PLAYGROUND"
    rm -rf "$dir"
    mkdir -m 700 "$dir" || fail "$dir can't be created"
}
echo $$ >"$dir/playground"

trap 'stop; exit 130' INT
trap 'stop; exit 143' TERM HUP

# Whether the server is ready (0), or its port is taken (1).
is_ready() {
    for _ in $(seq 200); do
        if grep -q 'Ready to accept connections' "$dir/$1/log" 2>/dev/null; then return 0; fi
        if grep -qE 'Address already in use|Failed listening|Could not create server TCP' "$dir/$1/log" 2>/dev/null; then return 1; fi
        sleep 0.05
    done
    cat "$dir/$1/log" >&2
    stop
    fail "the server on port $1 is not ready after 10 s (see above)"
}

echo "Starting $count nodes: $(echo "$server_version" | cut -d' ' -f1-3)"
ports='' taken=0
# Only binding it tells whether a port is free, and the bus port with it.
while [ "$(echo "$ports" | wc -w)" -lt "$count" ]; do
    mkdir -p "$dir/$port"
    # A node timeout of 5 s: a node that you stop fails over soon.
    "$server" --port "$port" --bind 127.0.0.1 --dir "$dir/$port" --daemonize yes --pidfile "$dir/$port/pid" \
        --logfile "$dir/$port/log" --cluster-enabled yes --cluster-node-timeout 5000 --save '' --appendonly no \
        >"$dir/$port/start" 2>&1 </dev/null || { cat "$dir/$port/start" >&2; stop; fail "$server does not start (see above)"; }
    if is_ready "$port"; then
        ports="$ports $port"
    else
        taken=$((taken + 1))
        rm -rf "${dir:?}/$port"
        [ "$taken" -lt 200 ] || { stop; fail "200 ports are taken: choose others with --port"; }
    fi
    port=$((port + 1))
    [ "$port" -le 55535 ] || { stop; fail "no free ports are left below 55536: choose others with --port"; }
done
ports=${ports# }

replicas=1
[ "$count" -ge 6 ] || replicas=0
# shellcheck disable=SC2046
"$trib" create --yes --output table --replicas "$replicas" $(for one in $ports; do echo "127.0.0.1:$one"; done) || {
    status=$?
    stop
    fail "redis-trib create ended with exit code $status (see above)"
}
echo "$ports" >"$dir/ready"
tell "$ports"

if [ -n "$foreground" ]; then
    # A trap runs when `wait` returns, and not before the end of a program in the foreground.
    while [ -n "$(running)" ]; do
        sleep 5 &
        wait $!
    done
    stop
    echo "All nodes have ended."
fi
