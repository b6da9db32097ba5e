# train.sh RATE SEED: trains a softmax regression by stochastic gradient descent.
set -eu
. "$JOBSERVER_CODE/paragraphs.sh"
model=$JOBSERVER_SCRATCH/model.txt
paragraphs train | LC_ALL=C awk -F '\t' -v rate="$1" -v seed="$2" -v model="$model" '
	{
		if (!($1 in known)) { known[$1] = 1; class[++classes] = $1 }
		label[++n] = $1; text[n] = $2
	}
	END {
		srand(seed)
		for (epoch = 1; epoch <= 4; epoch++) {
			loss = 0
			for (i = n; i > 1; i--) { # shuffled
				k = int(rand() * i) + 1
				t = label[i]; label[i] = label[k]; label[k] = t
				t = text[i]; text[i] = text[k]; text[k] = t
			}
			for (i = 1; i <= n; i++) loss += step(text[i], label[i])
			printf "epoch %d: loss %.4f\n", epoch, loss / n
		}
		printf "METRIC: loss=%.4f\n", loss / n
		for (cw in weight) print cw "\t" weight[cw] > model
	}
	function step(text, label,    words, count, sum, c, k, p, error, seen) {
		count = split(text, words, " ")
		sum = 0
		for (c = 1; c <= classes; c++) {
			score[c] = 0
			for (k = 1; k <= count; k++) score[c] += weight[class[c] "\t" words[k]]
			sum += p[c] = exp(score[c] > 500 ? 500 : score[c])
		}
		for (c = 1; c <= classes; c++) {
			error = rate * ((class[c] == label) - p[c] / sum)
			for (k = 1; k <= count; k++) weight[class[c] "\t" words[k]] += error
			if (class[c] == label) seen = p[c] / sum
		}
		return -log(seen > 1e-300 ? seen : 1e-300)
	}'
echo "RESULTS: $model"
