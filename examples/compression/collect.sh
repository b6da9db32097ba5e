#!/bin/sh
# Usage: collect.sh RESULTS-DIRECTORY > table.csv
#
# Makes one table of all results: ratio, and speed in MB/s.
set -eu
echo "job,tool,level,threads,ratio,mb_per_s"
for file in "$1"/*/compression.csv; do
	job=$(basename "$(dirname "$file")")
	awk -F, -v job="$job" '{ printf "%s,%s,%s,%s,%.3f,%.1f\n", job, $1, $2, $3, $4 / $5, $4 / 1000 / ($6 + 0.5) }' "$file"
done | sort -t, -k1n
