package job

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestPlaceIn: what of a directory isn't code, since the results of a CP_PATH are there.
func TestPlaceIn(t *testing.T) {
	top := t.TempDir()
	for _, dir := range []string{"res-a", "res-b/in", "src", "gzip/out", "xz/out", "a{b"} {
		if err := os.MkdirAll(filepath.Join(top, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(top, "res-file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for place, want := range map[string][]string{
		"results":              {"results"},
		"results/":             {"results"},
		"out/of/place":         {"out/of/place"},
		"results/{TOOL}/{JID}": {"results"},
		"results/x-{TOOL}":     {"results"},
		"":                     nil, // records tell
		".":                    nil,
		"{JID}":                nil,
		"{A}{B}":               nil,
		"res-{X}":              {"res-a", "res-b"},
		"res-{X}/in":           {"res-b/in"},
		"{TOOL}/out":           {"gzip/out", "xz/out"},
		"none-{X}":             nil,
		"re[s]-{X}":            nil,
		"../elsewhere":         nil,
		"../{X}":               nil,
	} {
		if diff := cmp.Diff(want, placeIn(top, filepath.Join(top, place))); diff != "" {
			t.Errorf("%q (-want +got):\n%s", place, diff)
		}
	}
	if got := placeIn(top, "/else/where"); got != nil {
		t.Errorf("elsewhere: %q", got)
	}
}
