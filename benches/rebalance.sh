# 20 masters and 5 new ones: every master gets its share.
# shellcheck shell=bash
# shellcheck source=benches/moves.sh
. benches/moves.sh
replicas=0
for run in $(seq "$runs"); do
    for who in ours theirs; do
        start_servers 25
        mapfile -t nodes < <(addresses)
        make_cluster "${nodes[@]:0:20}"
        fill 820 6 100
        for port in "${ports[@]:20}"; do redis-cli -p "$first" cluster meet 127.0.0.1 "$port" >/dev/null; done
        for port in "${ports[@]}"; do
            for _ in $(seq 300); do
                case $(redis-cli -p "$port" cluster info) in *cluster_state:ok*cluster_known_nodes:25*) break ;; esac
                sleep 0.1
            done
        done
        case $who in
            ours) timed "$trib" rebalance "127.0.0.1:$first" --use-empty-masters --yes ;;
            theirs) timed redis-cli --cluster rebalance "127.0.0.1:$first" --cluster-use-empty-masters ;;
        esac
        keep "rebalance-$who" "$took"
        stop_servers
    done
    say "   rebalance: run $run of $runs done"
done
replicas=1
compare "rebalance, 20 masters with 98,304 keys and 5 empty ones" rebalance-ours rebalance-theirs 0.20
