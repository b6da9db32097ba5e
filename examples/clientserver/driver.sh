#!/bin/sh
# The same as a driver's job: it runs on this host, and reaches both machines by SSH.
#
#   jobserver serve --driver driver.sh
#   j add lab '{MACHINE} {SERVER} {JID}' results --with SERVER=servers
set -eu

client=$1 server=$2 port=$((20000 + $3 % 10000))
host=${SERVER_HOST:-$server}
on() { ssh ${SSH_CONFIG:+-F "$SSH_CONFIG"} "$@"; }

on "$server" "redis-server --port $port --save '' --protected-mode no --daemonize yes" >/dev/null
trap 'on "$server" "redis-cli -p $port shutdown nosave"' EXIT
on "$client" "until redis-cli -h $host -p $port ping; do sleep 0.05; done" >/dev/null 2>&1
result=/tmp/requests-$3.csv # on the client, from where the daemon copies it
on "$client" "redis-benchmark -h $host -p $port -n ${REQUESTS:-20000} -t set,get --csv | tee $result" |
	tr -d '"' | awk -F, '$2 > 0 { printf "METRIC: %s=%s requests/s\n", $1, $2 }'
echo "RESULTS: $result"
