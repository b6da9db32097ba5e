package fleet

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

// TestNeedsLoader tells programs of the system from static ones, and neither from what is no
// program.
func TestNeedsLoader(t *testing.T) {
	t.Parallel()
	whole, err := os.ReadFile("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	noSegments := bytes.Clone(whole)
	clear(noSegments[56:58])
	for name, test := range map[string]struct {
		file   []byte
		loader bool
		wrong  string
	}{
		"linked with libraries": {file: whole, loader: true},
		"a script":              {file: []byte("#!/bin/sh\n"), wrong: "doesn't begin"},
		"empty":                 {wrong: "doesn't begin"},
		"of 32 bits":            {file: []byte("\x7fELF\x01\x01"), wrong: "doesn't begin"},
		"cut in its header":     {file: whole[:40], wrong: "damaged"},
		"cut behind its header": {file: whole[:64], wrong: "cut off"},
		"without segments":      {file: noSegments, wrong: "damaged"},
	} {
		loader, err := needsLoader(bytes.NewReader(test.file))
		if loader != test.loader || (err == nil) != (test.wrong == "") ||
			err != nil && !strings.Contains(err.Error(), test.wrong) {
			t.Errorf("%s: %v, %v", name, loader, err)
		}
	}
	own, err := os.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	if loader, err := needsLoader(own); loader || err != nil {
		t.Errorf("the program itself: %v, %v", loader, err)
	}
}
