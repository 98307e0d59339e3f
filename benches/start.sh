# How long the program takes to start, and how large it is.
# shellcheck shell=bash
for _ in $(seq 51); do
    timed "$trib" --version
    keep start-ours "$took"
    timed redis-cli --version
    keep start-theirs "$took"
done
met=$(awk -v m="$(median start-ours)" 'BEGIN { print (m <= 10000 ? "met" : "missed") }')
row "start (\`--version\`)" "$(spread start-ours)" "$(spread start-theirs)" \
    "$(awk -v a="$(median start-ours)" -v b="$(median start-theirs)" 'BEGIN { printf "%.2f", a / b }')" "≤ 10 ms: $met"
mib() { awk -v b="$(stat -Lc %s "$1")" 'BEGIN { printf "%.1f MiB", b / 1048576 }'; }
row "size of the program" "$(mib "$trib")" "$(mib "$(command -v redis-cli)")" "" ""
