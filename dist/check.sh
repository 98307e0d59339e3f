#!/usr/bin/env bash
# Starts everything that `make dist` has made, and the images: the archive here, the packages in containers, all of them
# against a cluster of playground.sh. As root, it also resolves a name with many addresses.
#
#   dist/check.sh [BASE]     [default: debian:bookworm-slim, a Debian image with apt]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

base=${1:-debian:bookworm-slim}
built=$(realpath "${CARGO_TARGET_DIR:-target}")
out=$built/dist
target=$(uname -m)-unknown-linux-musl
work=$(mktemp -d)
containers=() background=() network=redis-trib-check-$$
# The program and the server that belong to what is checked.
unset REDIS_TRIB REDIS_SERVER auth auth_file REDISCLI_AUTH

clear_away() {
    local status=$?
    trap - EXIT
    if [ -n "${play-}" ]; then "$play" stop >/dev/null || true; fi
    if [ ${#containers[@]} -gt 0 ]; then docker rm --force "${containers[@]}" >/dev/null 2>&1 || true; fi
    docker network rm "$network" >/dev/null 2>&1 || true
    if [ ${#background[@]} -gt 0 ]; then kill "${background[@]}" 2>/dev/null || true; fi
    rm -rf "$work"
    [ "$status" -eq 0 ] || printf 'dist/check.sh: failed\n' >&2
    exit "$status"
}
trap clear_away EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

fail() { printf 'dist/check.sh: %s\n' "$*" >&2; exit 1; }
part() { printf '\n-- %s\n' "$*"; }

# has TEXT COMMAND...: the command succeeds, and prints this.
has() {
    local text=$1 said
    shift
    said=$("$@" 2>&1 </dev/null) || { printf '%s\n' "$said" >&2; fail "failed: $*"; }
    grep -qF -- "$text" <<<"$said" || { printf '%s\n' "$said" >&2; fail "'$text' is not in the output of: $*"; }
    printf 'ok: %s\n' "$(tr -s '\n ' ' ' <<<"$*" | cut -c-140)"
}

part "the checksums, the SBOM, the licences"
(cd "$out" && sha256sum --quiet -c SHA256SUMS)
archive=$(echo "$out"/redis-trib-*-"$target".tar.gz)
name=$(basename "$archive" .tar.gz)
version=${name#redis-trib-} version=${version%"-$target"}
tar -C "$work" -xzf "$archive"
tree=$work/$name
has "redis-trib@$version" python3 -m json.tool "$out/$name.cdx.json"
has 'ring 0.' cat "$tree/THIRD-PARTY-LICENSES.txt"

part "the archive"
for file in README.md LICENSE-MIT docs/README.md completions/_redis-trib completions/redis-trib.bash man/man1/redis-trib-check.1; do
    [ -s "$tree/$file" ] || fail "$file is missing from the archive"
done
has "redis-trib $version" "$tree/redis-trib" --version
play=$tree/playground.sh
export REDIS_TRIB_PLAYGROUND=$work/playground
# Not the ports of somebody's own playground.
has "$tree/redis-trib check 127.0.0.1:" "$play" --port 17001
node=$(sed 's/^/127.0.0.1:/; s/ .*//' "$work/playground/ready")
has 'all 16,384 slots are served' "$tree/redis-trib" check "$node"

part "a name with 300 addresses"
if [ "$(id -u)" -eq 0 ] && unshare --mount true 2>/dev/null; then
    python3 dist/dns_server.py 127.0.0.153 300 >"$work/dns" 2>&1 &
    background+=($!)
    for _ in $(seq 50); do ! grep -q ready "$work/dns" || break; sleep 0.1; done
    printf 'nameserver 127.0.0.153\n' >"$work/resolv.conf"
    # Nothing listens at these addresses: that all 300 are found is what is said.
    said=$(unshare --mount sh -c 'mount --bind "$1" /etc/resolv.conf && shift && exec "$@"' sh "$work/resolv.conf" \
        "$tree/redis-trib" create --dry-run --expect-nodes 301 --resolve-timeout 1s many.test:17999 2>&1 || true)
    grep -q '^.*300 found' <<<"$said" || { cut -c-300 <<<"$said" >&2; fail "not all 300 addresses of a name were found"; }
    echo "ok: $(grep -o -m 1 '300 found[^:]*' <<<"$said")"
else
    echo "left out: it needs root"
fi

part "the .deb and the .rpm, each in a container"
# in_container SCRIPT: with the packages in /dist.
in_container() {
    docker run --rm --network host --volume "$out:/dist:ro" "$base" sh -euc "$1"
}
case $(uname -m) in x86_64) deb=amd64 ;; aarch64) deb=arm64 ;; esac
has 'all 16,384 slots are served' in_container "
    dpkg --install /dist/redis-trib_${version}*_$deb.deb >&2
    test \"\$(redis-trib --version)\" = 'redis-trib $version'
    for file in bash-completion/completions/redis-trib zsh/vendor-completions/_redis-trib man/man1/redis-trib-check.1 \\
        doc/redis-trib/copyright redis-trib/playground.sh; do test -s /usr/share/\$file || ls /usr/share/\$file.gz; done
    redis-trib check $node
    dpkg --purge redis-trib >&2
    ! test -e /usr/bin/redis-trib"
# Debian's rpm knows none of the packages here: hence --nodeps.
has 'all 16,384 slots are served' in_container "
    { apt-get -qq update && apt-get -qq install -y --no-install-recommends rpm; } >/dev/null 2>&1
    rpm --install --nodeps /dist/redis-trib-$version-1.$(uname -m).rpm
    test \"\$(redis-trib --version)\" = 'redis-trib $version'
    redis-trib check $node
    rpm --erase redis-trib
    ! test -e /usr/bin/redis-trib"

part "the image with nothing but the program"
program=$built/$target/release/redis-trib
docker/build.sh tool redis-trib:check-tool "$program" >"$work/log" 2>&1 || { cat "$work/log" >&2; fail "the image was not built"; }
has 'all 16,384 slots are served' docker run --rm --network host redis-trib:check-tool check "$node"
has "$version MIT OR Apache-2.0" docker inspect --format \
    '{{index .Config.Labels "org.opencontainers.image.version"}} {{index .Config.Labels "org.opencontainers.image.licenses"}}' \
    redis-trib:check-tool
docker network create "$network" >/dev/null
docker image inspect --format 'redis-trib:check-tool has {{.Size}} bytes' redis-trib:check-tool

for server in redis valkey; do
    part "the image with $server-server"
    docker/build.sh "$server" "redis-trib:check-$server" "$program" "$base" >"$work/log" 2>&1 ||
        { tail -n 40 "$work/log" >&2; fail "the image was not built"; }
    one=redis-trib-check-$server-$$
    containers+=("$one" "$one-playground")
    docker run --detach --name "$one" --network "$network" --env auth=secret "redis-trib:check-$server" >/dev/null
    docker run --detach --name "$one-playground" "redis-trib:check-$server" playground.sh >/dev/null
    has PONG sh -c "for _ in \$(seq 100); do
        if docker exec $one $server-cli ping 2>&1 | grep PONG; then break; fi; sleep 0.2; done"
    has "${server}_version" docker exec "$one" redis-cli info server
    docker exec "$one" redis-trib check --local 127.0.0.1 >/dev/null
    # A name of Docker's DNS.
    has 'answers, and runs in cluster mode' docker run --rm --network "$network" --env REDISCLI_AUTH=secret redis-trib:check-tool check --local "$one"
    has 'Ctrl-C stops the nodes' sh -c "for _ in \$(seq 300); do
        if docker logs $one-playground 2>&1 | grep Ctrl-C; then break; fi; sleep 0.2; done"
    has 'all 16,384 slots are served' docker exec "$one-playground" redis-trib check 127.0.0.1:7001
    docker stop --time 30 "$one-playground" >/dev/null
    [ "$(docker inspect --format '{{.State.ExitCode}}' "$one-playground")" = 143 ] || fail "docker stop did not end playground.sh in order"
done

printf '\nEverything starts.\n'
