# evaluate.sh SPLIT: how many paragraphs of dev or test the model gives to the right licence.
set -eu
. "$JOBSERVER_CODE/paragraphs.sh"
paragraphs "$1" | LC_ALL=C awk -F '\t' '
	NR == FNR { known[$1] = 1; weight[$1 "\t" $2] = $3; next }
	{
		count = split($2, words, " ")
		best = ""
		for (c in known) {
			score = 0
			for (k = 1; k <= count; k++)
				if ((c "\t" words[k]) in weight) score += weight[c "\t" words[k]]
			if (best == "" || score > most) { best = c; most = score }
		}
		right += best == $1
	}
	END { printf "METRIC: accuracy=%.4f\n", right / (FNR > 0 ? FNR : 1) }' \
	"$JOBSERVER_INPUTS/model.txt" -
