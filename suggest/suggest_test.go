package suggest

import "testing"

func TestClosest(t *testing.T) {
	commands := []string{"ls", "list", "log", "machine", "matrix", "restart"}
	names := []string{"default", "gpu", "MACHINE", "big-memory"}
	for _, test := range []struct {
		word  string
		known []string
		want  string
	}{
		{"lss", commands, "ls"},
		{"sl", commands, "ls"},
		{"lgo", commands, "log"},
		{"mahcine", commands, "machine"},
		{"matrx", commands, "matrix"},
		{"restrat", commands, "restart"},
		{"x", commands, ""},
		{"frobnicate", commands, ""},
		{"", commands, ""},
		{"defualt", names, "default"},
		{"Default", names, "default"},
		{"machine", names, "MACHINE"},
		{"MACHIN", names, "MACHINE"},
		{"gpus", names, "gpu"},
		{"xyz", names, ""},
		{"g", names, ""},
		{"bigmemory", names, "big-memory"},
		{"größe", []string{"groesse", "grösse"}, "grösse"},
	} {
		if got := Closest(test.word, test.known); got != test.want {
			t.Errorf("Closest(%q, %q) = %q, want %q", test.word, test.known, got, test.want)
		}
	}
}
