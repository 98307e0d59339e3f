#!/usr/bin/env bash
# Runs `cargo test` with these arguments. Integration tests run on real servers, which elect, gossip and fail when they
# like: up to three that failed run once more, one at a time, and are named. What fails twice fails the run, and
# so does a unit or property test at once.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cargo=${CARGO:-cargo}
log=$(mktemp "${TMPDIR:-/tmp}/redis-trib-tests.XXXXXX")
trap 'rm -f "$log"' EXIT

status=0
"$cargo" test --no-fail-fast "$@" 2>&1 | tee "$log" || status=$?
[ "$status" -ne 0 ] || exit 0

mapfile -t failed < <(sed -nE 's/^test ([A-Za-z0-9_:]+) \.\.\. FAILED$/\1/p' "$log")
if [ ${#failed[@]} -eq 0 ] || [ ${#failed[@]} -gt 3 ]; then
    exit "$status"
fi
printf '\nfailed, and run once more, alone: %s\n' "${failed[*]}"
RUST_TEST_THREADS=1 "$cargo" test --test it -- --exact "${failed[@]}" 2>&1 | tee "$log"
# Those that are no integration tests were not found, and so have not passed.
passed=$(grep -cE '^test .* \.\.\. ok$' "$log" || true)
if [ "$passed" -ne ${#failed[@]} ]; then
    exit "$status"
fi
printf '\nFLAKY, passed when run again: %s\n' "${failed[*]}"
