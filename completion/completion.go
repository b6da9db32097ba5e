// Package completion answers a shell's TAB key from the commands' own definition, kong's model, and
// installs what makes the shell ask.
//
// The shell starts the program itself, with the line so far in COMP_LINE and the cursor in
// COMP_POINT, as bash's `complete -C` does. Our scripts for zsh and fish set the same variables,
// and all of ours name the shell in COMP_SHELL, which decides how the candidates are printed. Run
// is to be called first of all, before configuration is read or anything is logged: whatever goes
// wrong while a line is being typed, the answer is just shorter.
//
// What a value may be is said by tags in the grammar:
//
//	enum:"a,b"              one of these
//	suggest:"a,b"           these among others
//	predictor:"class"       one of the words that Dynamic knows of that kind; several kinds are
//	                        separated by commas
//	predictor:"file"        a file, predictor:"dir" a directory
//	then:"tag,job"          instead of predictor's kinds, for all words of an argument but
//	                        the first
//	several:""              of a flag: it takes all words up to the next flag
//
// Dynamic candidates come from the daemon, within Patience; they are left out when it is away or
// slow.
package completion

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/alecthomas/kong"

	"jobserver/foreign"
)

// Patience is how long a dynamic answer may take: beyond that a key press feels stuck.
const Patience = 150 * time.Millisecond

// The environment that carries the question.
const (
	envLine  = "COMP_LINE"  // the line, from the command's word on
	envPoint = "COMP_POINT" // where the cursor is in it, in characters; without it, at the end
	envShell = "COMP_SHELL" // bash, zsh or fish, when one of our scripts asks
)

// Candidate is one way to go on: the whole word, as the program is to get it, and what it stands
// for, if there is more to say.
type Candidate struct {
	Value       string
	Description string
	// more of the same word may follow, as behind a directory's slash: no blank after it
	Open bool
}

// Dynamic gives the candidates of a kind that begin with prefix, the likeliest first. It must
// return when ctx ends; if it doesn't, nobody waits for it.
type Dynamic func(ctx context.Context, kind, prefix string) []Candidate

// Asked says whether a shell started this process to complete a line.
func Asked(getenv func(string) string) bool { return getenv(envLine) != "" }

// Run answers the shell on w. args are the process's without its name: bash passes the command, the
// part of the word that it wants completed, and the word before. model builds the grammar; it may
// leave out what the line's whole words, the command first, don't lead to.
func Run(
	w io.Writer, getenv func(string) string, args []string,
	model func(words []string) (*kong.Application, error), dynamic Dynamic,
) error {
	line := getenv(envLine)
	line = line[:pointOf(line, getenv(envPoint))]
	words, current := split(line)
	app, err := model(words)
	if err != nil {
		return fmt.Errorf("complete %q: %w", line, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	candidates := Answer(ctx, app, line, dynamic)
	return printFor(w, getenv(envShell), current, args, candidates)
}

// Answer gives what may stand at the end of line, whose first word is the command. All values begin
// with what is there of the last word.
func Answer(ctx context.Context, app *kong.Application, line string, dynamic Dynamic) []Candidate {
	words, current := split(line)
	w := newWalk(app.Node)
	if len(words) > 0 {
		words = words[1:] // the command itself, under whatever name
	}
	for _, word := range words {
		w.step(word)
	}
	return clean(w.candidates(ctx, current, dynamic), current)
}

// clean drops what doesn't fit and what was there before, and makes one line of each description.
func clean(candidates []Candidate, prefix string) []Candidate {
	var kept []Candidate
	seen := map[string]bool{}
	for _, c := range candidates {
		if c.Value == "" || !strings.HasPrefix(c.Value, prefix) || seen[c.Value] ||
			strings.ContainsFunc(c.Value, foreign.Unsafe) {
			continue
		}
		seen[c.Value] = true
		c.Description = oneLine(c.Description)
		kept = append(kept, c)
	}
	return kept
}

const maxDescription = 60 // characters: a list of candidates has little room

// oneLine makes a text of any origin safe for a shell to list.
func oneLine(text string) string {
	text = strings.ReplaceAll(foreign.OneLine(text), "\uFFFD", " ")
	text = strings.Join(strings.Fields(text), " ")
	if utf8.RuneCountInString(text) > maxDescription {
		text = string([]rune(text)[:maxDescription-1]) + "…"
	}
	return text
}

// pointOf is the offset in bytes of a cursor given in characters. bash has counted characters since
// 4.3.
func pointOf(line, point string) int {
	n, err := strconv.Atoi(point)
	if err != nil || n < 0 {
		return len(line)
	}
	for i := range line {
		if n == 0 {
			return i
		}
		n--
	}
	return len(line)
}
