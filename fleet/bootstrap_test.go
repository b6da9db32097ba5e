package fleet

import (
	"os"
	"os/exec"
	"testing"
)

// lookPath finds a program that the machine may lack.
func lookPath(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	return path
}
