# paragraphs SPLIT: the paragraphs of all licences, one a line: licence, tab, words in lower case. Of
# five paragraphs that follow each other in a licence, three are for train, one for dev, one for test.
paragraphs() {
	for file in "$JOBSERVER_INPUTS"/licences/*; do
		test -L "$file" || LC_ALL=C awk -v split_="$1" -v name="${file##*/}" '
			BEGIN { RS = ""; which[0] = "test"; which[1] = "dev" }
			{
				text = tolower($0)
				gsub(/[^a-z]+/, " ", text)
				if (split(text, words, " ") < 8) next
				n++
				if ((n % 5 in which ? which[n % 5] : "train") == split_) print name "\t" text
			}' "$file"
	done
}
