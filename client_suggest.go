package main

import (
	"context"
	"strings"
	"time"

	"jobserver/api"
)

// suggestFor is how long looking for what a misspelt name may have meant takes at most.
const suggestFor = time.Second

// suggest adds "did you mean" to an error about a name that the daemon doesn't know. kind is what the word
// should name: class, machine, matrix, tag or var.
func suggest(ctx context.Context, d daemon, kind, word string, err error) error {
	if k := api.KindOf(err); (k != api.NotFound && k != api.NoMatch) || api.HintOf(err) != "" || word == "" {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, suggestFor)
	defer cancel()
	known, askErr := ask[api.CompleteReply](ctx, d, "Complete", &api.CompleteArgs{Kind: kind, Limit: 1000})
	if askErr != nil {
		return err // the first error is the one that matters
	}
	names := make([]string, len(known.Candidates))
	for i, candidate := range known.Candidates {
		names[i] = candidate.Value
	}
	if like := closest(word, names); like != "" && like != word {
		return api.AsError(err).WithHint("did you mean %q?", like)
	}
	return err
}

// suggestMachines does so for the machines and classes of a selector.
func suggestMachines(ctx context.Context, d daemon, s api.MachineSelector, err error) error {
	for _, class := range s.Classes {
		err = suggest(ctx, d, "class", class, err)
	}
	for _, addr := range s.Addrs {
		err = suggest(ctx, d, "machine", addr, err)
	}
	return err
}

// suggestSelectors does so for the names in job selectors.
func suggestSelectors(ctx context.Context, d daemon, words []string, err error) error {
	for _, word := range words[:min(len(words), 20)] {
		switch {
		case strings.HasPrefix(word, "class="):
			err = suggest(ctx, d, "class", nameOf(word[len("class="):]), err)
		case strings.HasPrefix(word, "machine="):
			err = suggest(ctx, d, "machine", word[len("machine="):], err)
		case strings.HasPrefix(word, "@"):
			err = suggest(ctx, d, "tag", nameOf(word[1:]), err)
		}
	}
	return err
}

// nameOf is a name in a selector without what narrows it.
func nameOf(word string) string {
	name, _, _ := strings.Cut(word, ":")
	return name
}

// closest is the candidate that a misspelt word most likely meant, or "": at most one edit for every
// three letters, and two at the most, so that nothing far-fetched is proposed.
func closest(word string, candidates []string) string {
	best, bestDistance := "", min(2, 1+len(word)/4)+1
	for _, candidate := range candidates {
		if d := editDistance(word, candidate, bestDistance); d < bestDistance {
			best, bestDistance = candidate, d
		}
	}
	return best
}

// editDistance counts the insertions, deletions, replacements and swaps of neighbours that turn a
// into b (optimal string alignment), or says limit when it takes that many or more.
func editDistance(a, b string, limit int) int {
	if a == b {
		return 0
	}
	x, y := []rune(a), []rune(b)
	if len(x)-len(y) >= limit || len(y)-len(x) >= limit {
		return limit
	}
	before, above, row := make([]int, len(y)+1), make([]int, len(y)+1), make([]int, len(y)+1)
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
