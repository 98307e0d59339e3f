#!/usr/bin/env bash
# What is handed out, in target/dist: for each target an archive with a static program, completions and man pages, a
# .deb and a .rpm; an SBOM and checksums.
#
#   dist/build.sh [TARGET...]     [default: x86_64-unknown-linux-musl, and aarch64-unknown-linux-musl if there is a compiler]
#
# A program that is built already is not built again. What else is needed is installed by tests/servers.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cargo=${CARGO:-cargo}
built=${CARGO_TARGET_DIR:-target}
out=$built/dist
limit=$((15 * 1000 * 1000))

die() { printf 'dist/build.sh: %s\n' "$*" >&2; exit 1; }

[ "$(uname -s)" = Linux ] || die "the packages are built on Linux; this is $(uname -s)"
host=$(uname -m)-unknown-linux-musl
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
    targets=("$host")
    other=aarch64-unknown-linux-musl
    if [ "$host" != "$other" ] && command -v aarch64-linux-gnu-gcc >/dev/null; then targets+=("$other"); fi
fi

# Python comes with it, if need be.
nfpm=$(tests/servers.sh nfpm)

# All that is said of the program elsewhere comes from Cargo.toml.
field() {
    "$cargo" metadata --locked --no-deps --format-version 1 |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["packages"][0][sys.argv[1]])' "$1"
}
DIST_VERSION=$(field version) DIST_DESCRIPTION=$(field description)
DIST_HOMEPAGE=$(field homepage) DIST_LICENSE=$(field license)
export DIST_VERSION DIST_DESCRIPTION DIST_HOMEPAGE DIST_LICENSE
# Archives and packages of one program are equal, byte for byte. Not exported to cargo: ring would be compiled anew, and
# `make image` would link another program.
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}

# program TARGET: where it is, built if need be.
program() {
    local target=$1
    tests/servers.sh target "$target"
    if [ "$target" != "$host" ] && [ "$target" = aarch64-unknown-linux-musl ]; then
        # ring's C needs no library, so that a compiler for glibc will do. rustc brings the linker and musl.
        export CC_aarch64_unknown_linux_musl=aarch64-linux-gnu-gcc
        export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER=rust-lld
    fi
    "$cargo" build --release --locked --target "$target" >&2
    printf '%s\n' "$built/$target/release/redis-trib"
}

# The pages of docs without what makes the site.
docs() {
    mkdir -p "$1"
    cp -r docs/*.md docs/commands docs/pictures docs/schema "$1"
}

rm -rf "$out"
mkdir -p "$out"
native=$(program "$host")
for target in "${targets[@]}"; do
    program=$(program "$target")
    size=$(stat -c %s "$program")
    [ "$size" -lt "$limit" ] || die "$program has $size bytes; the limit is $limit"
    # A static program names no loader.
    ! LC_ALL=C grep -q -a -e '/ld-linux' -e '/ld-musl' "$program" || die "$program is not static"

    name=redis-trib-$DIST_VERSION-$target
    tree=$built/dist-tree/$name
    rm -rf "$tree"
    mkdir -p "$tree/completions" "$tree/man"
    cp "$program" playground.sh README.md README.zh-CN.md CHANGELOG.md LICENSE LICENSE-MIT LICENSE-APACHE "$tree"
    docs "$tree/docs"
    "$native" completions bash >"$tree/completions/redis-trib.bash"
    "$native" completions zsh >"$tree/completions/_redis-trib"
    "$native" completions fish >"$tree/completions/redis-trib.fish"
    "$native" man "$tree/man/man1" >/dev/null
    python3 dist/sbom.py "$target" "$out/$name.cdx.json" "$tree/THIRD-PARTY-LICENSES.txt"
    chmod -R u=rwX,go=rX "$tree"
    tar -C "${tree%/*}" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$epoch" -c "$name" |
        gzip -9n >"$out/$name.tar.gz"

    case $target in
        x86_64-*) DIST_ARCH=amd64 ;;
        aarch64-*) DIST_ARCH=arm64 ;;
        *) die "how packages call $target is not known here" ;;
    esac
    export DIST_ARCH
    config=$PWD/dist/nfpm.yaml
    packages=$(realpath "$out")
    for packager in deb rpm; do
        (cd "$tree" && SOURCE_DATE_EPOCH=$epoch "$nfpm" package --config "$config" --packager "$packager" --target "$packages/" >/dev/null)
    done
    printf '%s: the program has %s bytes\n' "$target" "$size"
done
(cd "$out" && sha256sum redis-trib* >SHA256SUMS)
(cd "$out" && ls -l)
