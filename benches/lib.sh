# Servers, a stopwatch and a table, for the benches. Sourced by run.sh; bash and redis-server are all it needs.
# shellcheck shell=bash

die() { printf 'benches: %s\n' "$*" >&2; exit 1; }
say() { printf '%s\n' "$*" >&2; }

# ---- servers: `ports` holds those that run now.

ports=()
pids=()

# What the servers are, and options that the benches add.
server=redis-server
server_options=()

# start_servers N [OPTION...]: empty servers in cluster mode, on free ports of the loopback. Servers that have just
# started,
# each time: what a CLUSTER RESET leaves behind would favour the second tool.
start_servers() {
    local wanted=$1 port=$((11000 + RANDOM % 3000)) last pid i
    local starting=()
    ports=() pids=()
    while [ ${#ports[@]} -lt "$wanted" ]; do
        starting=()
        last=$((port + wanted - ${#ports[@]}))
        [ "$last" -lt 20000 ] || die "no free ports for $wanted servers between 11000 and 20000"
        while [ "$port" -lt "$last" ]; do
            port=$((port + 1))
            rm -rf "${dir:?}/$port"
            mkdir "$dir/$port"
            # A group of its own (set -m): Ctrl-C is for us, and we take the servers down. setpriv ties their
            # lives to ours, should we be killed.
            set -m
            setpriv --pdeathsig KILL "$server" --port "$port" --bind 127.0.0.1 --dir "$dir/$port" \
                --cluster-enabled yes --save "" --appendonly no "${server_options[@]}" "${@:2}" </dev/null >"$dir/$port/log" 2>&1 &
            pid=$!
            set +m
            pids+=("$pid")
            starting+=("$port:$pid")
        done
        for i in "${starting[@]}"; do
            if is_ready "${i%:*}" "${i#*:}"; then ports+=("${i%:*}"); fi
        done
    done
}

# Only our own server writes to our log: another's may hold the port, and would answer a ping. A port that is
# taken is passed over.
is_ready() {
    local log=$dir/$1/log patience=300
    until grep -q 'Ready to accept connections' "$log"; do
        if ! kill -0 "$2" 2>/dev/null; then
            grep -qE 'Address already in use|Failed listening' "$log" || { cat "$log" >&2; die "a server did not start"; }
            return 1
        fi
        patience=$((patience - 1))
        [ "$patience" -gt 0 ] || die "the server on port $1 was not ready after 30 s"
        sleep 0.1
    done
}

stop_servers() {
    [ ${#pids[@]} -gt 0 ] || return 0
    kill -KILL "${pids[@]}" 2>/dev/null || true
    wait "${pids[@]}" 2>/dev/null || true
    ports=() pids=()
}

# Every server's address, for command lines.
addresses() { printf '127.0.0.1:%s\n' "${ports[@]}"; }

# ---- what is measured

# timed COMMAND...: how long it took, in microseconds, in `took`. A failure ends the benches.
timed() {
    local from=$EPOCHREALTIME until
    "$@" </dev/null >"$dir/out" 2>&1 || { cat "$dir/out" >&2; die "failed: ${*:0:6} …"; }
    until=$EPOCHREALTIME
    took=$((${until/./} - ${from/./}))
}

# usable MASTERS: returns when every server says ok, sees as many nodes and masters as there are and all slots
# served, and every replica's link is up. None of that is taken back, so waiting for one server after the other
# is waiting for all. No tool's own judgement counts here.
usable() {
    local port fd line facts role masters=0 patience=600
    for port in "${ports[@]}"; do
        exec {fd}<>"/dev/tcp/127.0.0.1/$port"
        while :; do
            printf 'CLUSTER INFO\r\nINFO replication\r\nPING\r\n' >&"$fd"
            facts=0 role=''
            while IFS= read -r -t 10 line <&"$fd"; do
                case ${line%$'\r'} in
                    cluster_state:ok | cluster_slots_ok:16384 | "cluster_known_nodes:${#ports[@]}" | \
                        "cluster_size:$1" | master_link_status:up) facts=$((facts + 1)) ;;
                    role:master) role=master ;;
                    role:slave) role=slave ;;
                    +PONG) break ;;
                esac
            done
            case $role$facts in master4 | slave5) break ;; esac
            patience=$((patience - 1))
            [ "$patience" -gt 0 ] || die "the cluster was not usable after 60 s: port $port"
            sleep 0.1
        done
        exec {fd}>&-
        [ "$role" = slave ] || masters=$((masters + 1))
    done
    [ "$masters" -eq "$1" ] || die "$masters masters where $1 were asked for"
}

# ---- figures

# keep NAME MICROSECONDS: one more figure of that name.
declare -A kept=()
keep() { kept[$1]+="$2 "; }

# median NAME, in microseconds.
median() {
    # shellcheck disable=SC2086
    printf '%s\n' ${kept[$1]} | sort -n | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

# spread NAME: "median (least–most, n)" in a unit that fits.
spread() {
    # shellcheck disable=SC2086
    printf '%s\n' ${kept[$1]} | sort -n | awk '
        { v[NR] = $1 }
        END {
            m = NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2
            if (m >= 1e6) { by = 1e6; unit = "s" } else { by = 1e3; unit = "ms" }
            form = m / by < 10 ? "%.2f" : "%.1f"
            printf form " %s (" form "-" form ", n=%d)", m / by, unit, v[1] / by, v[NR] / by, NR
        }'
}

# ---- the table: what, ours, theirs, ratio, target

rows=()
row() { rows+=("$1|$2|$3|$4|$5"); }

# compare WHAT OURS THEIRS TARGET: a row of two kept figures; TARGET is the largest ratio that will do, none where
# the figures are for the reader to judge.
compare() {
    local ratio verdict=''
    ratio=$(awk -v a="$(median "$2")" -v b="$(median "$3")" 'BEGIN { printf "%.2f", a / b }')
    if [ -n "$4" ]; then
        verdict="≤ $4: $(awk -v r="$ratio" -v t="$4" 'BEGIN { print (r <= t ? "met" : "missed") }')"
    fi
    row "$1" "$(spread "$2")" "$(spread "$3")" "$ratio" "$verdict"
}

table() {
    [ ${#rows[@]} -gt 0 ] || return 0
    printf '| measured | redis-trib | redis-cli | ratio | target |\n|---|---|---|---|---|\n'
    printf '%s\n' "${rows[@]}" | awk -F'|' '{ printf "| %s | %s | %s | %s | %s |\n", $1, $2, $3, $4, $5 }'
}

# goals: the rows that have a target, and whether it was met.
goals() {
    printf '%s\n' "${rows[@]}" | awk -F'|' '
        $1 !~ /^…/ { of = $1 }
        $5 != "" {
            n = split($5, verdict, ": ")
            if (!goals++) printf "\n| goal | measured | met |\n|---|---|---|\n"
            is_met = verdict[n] ~ /(^|, )met$/
            printf "| %s%s: %s | %s | %s |\n", (of == $1 ? "" : of " "), $1, verdict[1], ($4 != "" ? $4 : $2), (is_met ? "yes" : "no")
            met += is_met
        }
        END { if (goals) printf "\n%d of %d goals met.\n", met, goals }'
}
