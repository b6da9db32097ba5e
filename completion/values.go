package completion

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/posener/complete/v2"
	"github.com/posener/complete/v2/predict"
)

// valuesOf are the candidates for a flag's value or a positional argument, by its tags; begun says
// that it has one already.
func valuesOf(
	ctx context.Context, v *kong.Value, begun bool, prefix string, dynamic Dynamic,
) []Candidate {
	var candidates []Candidate
	add := func(p complete.Predictor) {
		for _, value := range p.Predict(prefix) {
			candidates = append(candidates, Candidate{Value: value})
		}
	}
	switch {
	case v.Enum != "":
		add(predict.Set(v.EnumSlice()))
	case v.Flag != nil && v.IsBool():
		add(predict.Set{"true", "false"})
	}
	if suggested := v.Tag.Get("suggest"); suggested != "" {
		add(predict.Set(strings.Split(suggested, ",")))
	}
	kinds := v.Tag.Get("predictor")
	if then := v.Tag.Get("then"); begun && then != "" {
		kinds = then
	}
	for kind := range strings.SplitSeq(kinds, ",") {
		switch kind = strings.TrimSpace(kind); kind {
		case "":
		case "file":
			candidates = append(candidates, paths(prefix, false)...)
		case "dir":
			candidates = append(candidates, paths(prefix, true)...)
		default:
			candidates = append(candidates, ask(ctx, kind, prefix, dynamic)...)
		}
	}
	return candidates
}

// paths completes a path as it is written, ".." and a home's tilde included; the library's own
// predictor cleans it, and then finds nothing. Hidden files are offered to those who begin with a
// dot, and directories stay open.
func paths(prefix string, dirsOnly bool) []Candidate {
	typed, begun := filepath.Split(prefix)
	dir := typed
	if rest, ok := strings.CutPrefix(typed, "~/"); ok {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil // nobody's home: nothing to offer
		}
		dir = filepath.Join(home, rest)
	}
	if dir == "" {
		dir = "."
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil // no such directory: nothing to offer
	}
	var candidates []Candidate
	for _, entry := range entries {
		name := entry.Name()
		if !strings.HasPrefix(name, begun) || strings.HasPrefix(name, ".") && begun == "" {
			continue
		}
		info, err := os.Stat(filepath.Join(dir, name)) // what a link points to counts
		switch {
		case err == nil && info.IsDir():
			candidates = append(candidates, Candidate{Value: typed + name + "/", Open: true})
		case !dirsOnly:
			candidates = append(candidates, Candidate{Value: typed + name})
		}
	}
	return candidates
}

// ask waits for a dynamic answer until ctx ends. A function that goes on regardless ends with the
// process.
func ask(ctx context.Context, kind, prefix string, dynamic Dynamic) []Candidate {
	if dynamic == nil {
		return nil
	}
	answer := make(chan []Candidate, 1)
	go func() { answer <- dynamic(ctx, kind, prefix) }()
	select {
	case candidates := <-answer:
		return candidates
	case <-ctx.Done():
		return nil
	}
}
