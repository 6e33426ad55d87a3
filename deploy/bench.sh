#!/usr/bin/env bash
# Measures a cluster of two origins and two edges on this machine, release builds: how long a frame takes and what the way
# through the cluster adds, then what many viewers of one stream cost. The load harness runs on the same processors, so the
# figures are for comparing builds, not for planning.
#
#   SECONDS_EACH  length of each measurement (10)
#   VIEWERS       viewers of the fan-out measurement (200)
#   PORTS         first of two free ports for the origins (17101)
set -euo pipefail

bin=${1:?usage: bench.sh FOLDER_WITH_BINARIES}
seconds=${SECONDS_EACH:-10}
viewers=${VIEWERS:-200}
port=${PORTS:-17101}
work=$(mktemp -d)
nodes=()

stop() {
    for node in "${nodes[@]}"; do kill "$node" 2>/dev/null || true; done
    for node in "${nodes[@]}"; do wait "$node" 2>/dev/null || true; done
    rm -rf "$work"
}
trap stop EXIT

origins=o1=127.0.0.1:$port,o2=127.0.0.1:$((port + 1))

# start ID ROLE FLAGS...
start() {
    local id=$1 role=$2
    shift 2
    "$bin/headwater" "$role" --id "$id" --admin 127.0.0.1:0 --cluster "$origins" --log warn \
        --set shutdown.grace_ms=500 --ready-file "$work/$id" "$@" >/dev/null 2>"$work/$id.log" &
    nodes+=($!)
}

# address ID LISTENER: once the node is ready
address() {
    for _ in $(seq 100); do
        [ -e "$work/$1" ] && break
        sleep 0.1
    done
    [ -e "$work/$1" ] || { echo "$1 did not start:"; cat "$work/$1.log"; exit 1; } >&2
    awk -v what="$2" '$1 == "listening" && $2 == what { print $3 }' "$work/$1"
}

cpu_seconds() {
    curl -fsS "http://$1/metrics" | awk '/^process_cpu_seconds_total/ { print $2 }'
}

start o1 origin --data "$work/data1"
start o2 origin --data "$work/data2"
start e1 edge --rtmp 127.0.0.1:0
start e2 edge --rtmp 127.0.0.1:0
first=$(address e1 rtmp)
second=$(address e2 rtmp)
admin=$(address e2 admin)

echo "== one viewer at the publisher's edge: edge, origin, edge in two processes"
"$bin/headwater-loadtest" latency --publish "rtmp://$first/live/near" --play "rtmp://$first/live/near" --seconds "$seconds" --floor
echo
echo "== one viewer at the other edge: edge, origin, edge in three processes"
"$bin/headwater-loadtest" latency --publish "rtmp://$first/live/far" --play "rtmp://$second/live/far" --seconds "$seconds" --floor
echo
echo "== $viewers viewers of one stream at the other edge"
"$bin/headwater-loadtest" publish "rtmp://$first/live/wide" --seconds $((seconds + 4)) >/dev/null &
publisher=$!
before=$(cpu_seconds "$admin")
"$bin/headwater-loadtest" play "rtmp://$second/live/wide" --count "$viewers" --seconds "$seconds"
after=$(cpu_seconds "$admin")
wait "$publisher"
awk -v before="$before" -v after="$after" -v seconds="$seconds" \
    'BEGIN { printf "processor time of the edge: %.2f s in %d s\n", after - before, seconds }'
