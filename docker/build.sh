#!/usr/bin/env bash
# Builds an image.
#
#   docker/build.sh redis|valkey|tool NAME PROGRAM [BASE]
#
#   redis, valkey   redis-trib beside a server; BASE is a Debian image other than the Dockerfile's
#   tool            redis-trib alone; PROGRAM must be static (make dist)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

kind=${1:?say which: redis, valkey or tool} name=${2:?name the image} program=${3:?name the program} base=${4-}
die() { printf 'docker/build.sh: %s\n' "$*" >&2; exit 1; }

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
# Readable for the user of the image, whatever the umask here is.
chmod 755 "$context"
install -m 755 "$program" "$context/redis-trib"

options=()
case $kind in
    redis | valkey)
        install -m 755 docker/entrypoint.sh docker/login playground.sh "$context"
        cp docker/Dockerfile "$context"
        options+=(--build-arg "SERVER=$kind")
        if [ -n "$base" ]; then options+=(--build-arg "BASE=$base"); fi
        title="redis-trib and $kind-server"
        ;;
    tool)
        ! LC_ALL=C grep -q -a -e /ld-linux -e /ld-musl "$program" || die "$program is not static: make dist builds one that is"
        tests/servers.sh certificates
        install -m 644 /etc/ssl/certs/ca-certificates.crt LICENSE-MIT LICENSE-APACHE "$context"
        python3 dist/sbom.py "$(uname -m)-unknown-linux-musl" "$context/sbom.json" "$context/THIRD-PARTY-LICENSES.txt"
        cp docker/Dockerfile.tool "$context/Dockerfile"
        title=redis-trib
        ;;
    *) die "$kind: there are redis, valkey and tool" ;;
esac

# Cargo.toml is the one place where these are written.
labels=$("${CARGO:-cargo}" metadata --locked --no-deps --format-version 1 | python3 -c '
import json, sys
package = json.load(sys.stdin)["packages"][0]
for label, field in [("version", "version"), ("description", "description"), ("licenses", "license"),
                     ("url", "homepage"), ("source", "repository"), ("documentation", "homepage")]:
    print(f"org.opencontainers.image.{label}={package[field]}")')
while IFS= read -r label; do options+=(--label "$label"); done <<<"$labels"
options+=(--label "org.opencontainers.image.title=$title")
revision=$(git rev-parse HEAD 2>/dev/null || true)
if [ -n "$revision" ]; then options+=(--label "org.opencontainers.image.revision=$revision"); fi
docker build "${options[@]}" -t "$name" "$context"
