# Usage: compress.sh TOOL LEVEL THREADS
#
# Compresses ~/corpus.tar, checks that it comes back whole, and leaves one line of CSV as its result:
# tool, level, threads, bytes, compressed bytes, milliseconds.
set -eu
tool=$1 level=$2 threads=$3
corpus=$HOME/corpus.tar
cd "${JOBSERVER_SCRATCH:-$(mktemp -d)}"

case $tool in
gzip) # has no threads: as many processes take a part each, and gzip's format allows to put the parts together
	compress() {
		split -n "$threads" "$corpus" part.
		ls part.?? | xargs -P "$threads" -n 1 gzip -q"$level"
		cat part.??.gz
	} ;;
xz) compress() { xz -"$level" -T"$threads" -c "$corpus"; } ;;
zstd) compress() { zstd -q -"$level" -T"$threads" -c "$corpus"; } ;;
*) echo "compress.sh: no such tool: $tool" >&2; exit 2 ;;
esac

began=$(date +%s%N)
compress > packed
ended=$(date +%s%N)

"$tool" -d -c < packed | cmp - "$corpus"
ms=$(((ended - began) / 1000000))
echo "$tool -$level with $threads threads: $(wc -c < packed) bytes in $ms ms"
echo "METRIC: ratio=$(awk "BEGIN { print $(wc -c < "$corpus") / $(wc -c < packed) }")"
echo "METRIC: speed=$(awk "BEGIN { print $(wc -c < "$corpus") / 1000 / ($ms + 0.5) }") MB/s"
echo "$tool,$level,$threads,$(wc -c < "$corpus"),$(wc -c < packed),$ms" > compression.csv
echo "RESULTS: $PWD/compression.csv"
