// Package suggest finds what a misspelt word most likely meant, for "did you mean".
package suggest

import "strings"

// Closest is the candidate that a misspelt word most likely meant, or "": one that differs in case
// only, else the first with the fewest edits, of which there may be two, or one in a word of fewer
// than four letters, so that nothing far-fetched is proposed.
func Closest(word string, candidates []string) string {
	folded := strings.ToUpper(word)
	best, most := "", min(2, 1+len(word)/4)
	for _, candidate := range candidates {
		if strings.EqualFold(candidate, word) {
			return candidate
		}
		d := distance(folded, strings.ToUpper(candidate), most+1)
		if most > 0 && d <= most && d < len(word) {
			best, most = candidate, d-1
		}
	}
	return best
}

// distance counts the insertions, deletions, replacements and swaps of neighbours that turn a into
// b (optimal string alignment), or gives limit when it takes that many or more.
func distance(a, b string, limit int) int {
	if a == b {
		return 0
	}
	x, y := []rune(a), []rune(b)
	if len(x)-len(y) >= limit || len(y)-len(x) >= limit {
		return limit
	}
	before := make([]int, len(y)+1)
	above := make([]int, len(y)+1)
	row := make([]int, len(y)+1)
	for j := range above {
		above[j] = j
	}
	for i := 1; i <= len(x); i++ {
		row[0] = i
		for j := 1; j <= len(y); j++ {
			cost := 1
			if x[i-1] == y[j-1] {
				cost = 0
			}
			row[j] = min(above[j]+1, row[j-1]+1, above[j-1]+cost)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, above, row = above, row, before
	}
	return min(above[len(y)], limit)
}
