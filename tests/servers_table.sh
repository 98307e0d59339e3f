#!/usr/bin/env bash
# docs/servers.md, from what the tests ran: tests/servers_table.sh FILE >docs/servers.md
#
# FILE is what REDIS_TRIB_RAN=FILE made the tests write (tests/it/support/ran.rs): a line for each exit code that a test
# expected, with subcommand, version, expected code, and passed or failed. `make servers-table` does both.
set -euo pipefail
[ -s "${1:-}" ] || { echo "tests/servers_table.sh: name a file that REDIS_TRIB_RAN made" >&2; exit 1; }
awk -F'\t' '
    BEGIN {
        columns = split("redis-3.2 redis-6.2 redis-7.0 redis-8.2 redis-8.6 redis-8.10 valkey-8.0 valkey-8.1 valkey-9.1", version, " ")
        rows = split("create check info watch where slots drift fix reshard rebalance apply add-node del-node replace-node failover ok-to-stop place roll call set-timeout import verify backup restore", command, " ")
    }
    NF == 4 {
        # check exits 1 where it found what the test expected.
        if ($4 == "failed") failed[$1, $2]++
        else if ($3 == 0 || ($1 == "check" && $3 == 1)) passed[$1, $2]++
    }
    function name(text) {
        sub(/^redis-/, "Redis ", text)
        sub(/^valkey-/, "Valkey ", text)
        return text
    }
    END {
        print "# Commands and server versions"
        print ""
        print "Made by `make servers-table` from what the tests ran; not written by hand. *yes*: tests ran the command on a real server"
        print "of that version, and each time it ended with the exit code that the test expected. *no*: one did not. *scripted*: a"
        print "test ran it against nodes that answer as that version does, and no real server was tried. –: no test runs it there."
        print ""
        line = "| command |"
        for (c = 1; c <= columns; c++) line = line " " name(version[c]) (c == 1 ? " (scripted)" : "") " |"
        print line
        line = "|---|"
        for (c = 1; c <= columns; c++) line = line "---|"
        print line
        for (r = 1; r <= rows; r++) {
            line = "| `" command[r] "` |"
            for (c = 1; c <= columns; c++) {
                key = command[r] SUBSEP version[c]
                cell = failed[key] ? "no" : passed[key] ? (c == 1 ? "scripted" : "yes") : "–"
                line = line " " cell " |"
            }
            print line
        }
    }' "$1"
