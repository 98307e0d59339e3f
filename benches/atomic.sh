# Slots with 100,000 keys from three masters to a fourth, by servers that can move them atomically (ours asks them to;
# redis-cli 7.0.15 moves key by key).
# shellcheck shell=bash
# shellcheck source=benches/moves.sh
. benches/moves.sh
servers=${REDIS_TRIB_SERVERS:-target/servers}
for version in valkey-9.1 redis-8.6; do
    [ -x "$servers/$version/redis-server" ] || tests/servers.sh matrix
    server=$servers/$version/redis-server
    by_both "$version" 61 100 1638
    compare "100,000 keys move, $version" "$version-ours" "$version-theirs" 0.033
done
server=redis-server
