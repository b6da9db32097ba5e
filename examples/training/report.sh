# report.sh: the mean accuracy for each learning rate, of the jobs that were waited for.
set -eu
report=$JOBSERVER_SCRATCH/report.md
LC_ALL=C awk '
	function value(name) { return match($0, "\"" name "\":\"?[^,\"}]*") ? \
		substr($0, RSTART + length(name) + 3, RLENGTH - length(name) - 3) : "" }
	{
		rate = value("RATE"); sub(/"/, "", rate)
		split_ = value("SPLIT"); sub(/"/, "", split_)
		if (!(rate in rates)) { rates[rate] = 1; order[++n] = rate }
		sum[rate, split_] += value("accuracy"); count[rate, split_]++
	}
	END {
		print "| learning rate | dev | test |"
		print "|---|---|---|"
		for (i = 1; i <= n; i++) {
			r = order[i]
			dev = sum[r, "dev"] / count[r, "dev"]
			printf "| %s | %.3f | %.3f |\n", r, dev, sum[r, "test"] / count[r, "test"]
			if (dev > most) { most = dev; best = r }
		}
		printf "\nThe best rate on dev is %s, of %d models.\n", best, NR / 2
	}' "$JOBSERVER_INPUTS/after.jsonl" | tee "$report"
echo "RESULTS: $report"
