#!/usr/bin/env bash
# Runs the whole suite N times beside LOAD busy loops, and appends one line a run to tests/test-repeat.log, which is
# committed: a test that fails once in ten is a fault of the product or of the test, and is to be found.
#
#   tests/repeat.sh [N [LOAD]]     default: 10 runs, 2 loops
#
# The runs are counted for the code as it is (src, tests, fixtures, Cargo.toml, Cargo.lock): a repeat that was interrupted goes on
# where it stopped, and any change of the code starts anew. A run that was interrupted does not count. What a failed run printed
# stays in target/repeat.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

wanted=${1:-10}
load=${2:-2}
[[ $wanted =~ ^[1-9][0-9]*$ ]] || { echo "N is a number of runs from 1, not '$wanted'" >&2; exit 2; }
[[ $load =~ ^[0-9]+$ ]] || { echo "LOAD is a number of busy loops from 0, not '$load'" >&2; exit 2; }
cargo=${CARGO:-cargo}
log=tests/test-repeat.log
printed=target/repeat
mkdir -p "$printed"
touch "$log"

# What is being tested: one hash over the files as they are on disk, committed or not.
code=$(git ls-files -z --cached --others --exclude-standard -- src tests fixtures Cargo.toml Cargo.lock ':(exclude)tests/test-repeat.log' |
    xargs -0 sha256sum | sha256sum | cut -c1-12)

loops=()
cleanup() { [ ${#loops[@]} -eq 0 ] || kill "${loops[@]}" 2>/dev/null || true; }
trap cleanup EXIT
trap 'exit 130' INT TERM

"$cargo" test --no-run
for _ in $(seq "$load"); do
    (while :; do :; done) &
    loops+=($!)
done

# Lines of the log that count: this code beside this load.
runs() { grep -c "^.* code=$code load=$load .*$1" "$log" || true; }

while [ "$(runs '')" -lt "$wanted" ]; do
    number=$(($(runs '') + 1))
    out="$printed/$code-$load-$number.log"
    printf 'run %s of %s beside %s busy loops, code %s; its output: %s\n' "$number" "$wanted" "$load" "$code" "$out"
    started=$SECONDS
    status=0
    "$cargo" test --no-fail-fast </dev/null >"$out" 2>&1 || status=$?
    passed=$(sed -nE 's/^test result: .* ([0-9]+) passed;.*/\1/p' "$out" | awk '{ n += $1 } END { print n + 0 }')
    mapfile -t failed < <(sed -nE 's/^test ([A-Za-z0-9_:]+) \.\.\. FAILED$/\1/p' "$out" | sort -u)
    result=passed
    if [ "$status" -ne 0 ]; then
        result="FAILED ${failed[*]:-with status $status}"
    fi
    # What else ran: the loops and the tests alone make a load average of about 5 on two cores.
    printf '%s commit=%s code=%s load=%s average=%s cores=%s threads=%s tests=%s seconds=%s %s\n' \
        "$(date -u +%Y-%m-%dT%H:%MZ)" "$(git rev-parse --short HEAD)" "$code" "$load" "$(cut -d ' ' -f 3 /proc/loadavg)" \
        "$(nproc)" "${RUST_TEST_THREADS:-$(nproc)}" "$passed" $((SECONDS - started)) "$result" | tee -a "$log"
done

failures=$(runs 'FAILED')
printf '%s of %s runs passed; the log is %s\n' "$(($(runs '') - failures))" "$(runs '')" "$log"
[ "$failures" -eq 0 ]
