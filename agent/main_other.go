//go:build !linux

package agent

import (
	"fmt"
	"os"
	"runtime"
)

// Main is `jobserver agent`. Only Linux can be a machine: runs rest on its subreapers, locks and
// notices.
func Main([]string) int { return refuse() }

// SuperviseMain is `jobserver supervise`.
func SuperviseMain([]string) int { return refuse() }

// KeepMain is `jobserver keep`.
func KeepMain([]string) int { return refuse() }

func refuse() int {
	fmt.Fprintf(os.Stderr, "jobserver: %s can't be a machine, only Linux can\n", runtime.GOOS)
	return 2
}
