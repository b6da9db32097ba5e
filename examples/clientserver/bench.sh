#!/bin/sh
# A key-value server on the first machine, and a load generator on each of the others:
#
#   j add lab 'sh $JOBSERVER_CODE/bench.sh' results --code . --machines 3 --each
#
# Needs redis-server and redis-tools on the machines. SERVER_HOST is where the clients find the first
# machine, if not under the name by which the pool knows it.
set -eu

first=${JOBSERVER_MACHINES%%,*} first=${first#*@}
host=${SERVER_HOST:-${first%%:*}}
port=$((20000 + JOBSERVER_JID % 10000))
clients=$(echo "$JOBSERVER_MACHINES" | tr -cd , | wc -c)

if [ "$JOBSERVER_RANK" = 0 ]; then
	redis-server --port $port --save '' --protected-mode no --dir "$JOBSERVER_SCRATCH" &
	until redis-cli -p $port ping >/dev/null 2>&1; do sleep 0.05; done
	for client in $(seq "$clients"); do
		redis-cli -p $port blpop finished 0 # a client has finished
	done
	redis-cli -p $port shutdown nosave
	wait
	exit
fi

# All machines were ready before the first began, but the server may still be starting.
until redis-cli -h "$host" -p $port ping >/dev/null 2>&1; do sleep 0.05; done
cd "$JOBSERVER_SCRATCH"
redis-benchmark -h "$host" -p $port -n "${REQUESTS:-20000}" -t set,get --csv >requests.csv
tr -d '"' <requests.csv | awk -F, -v r="$JOBSERVER_RANK" \
	'$2 > 0 { printf "METRIC: %s_by_rank_%d=%s requests/s\n", $1, r, $2 }'
redis-cli -h "$host" -p $port lpush finished "$JOBSERVER_RANK" >/dev/null
echo "RESULTS: $PWD/requests.csv"
