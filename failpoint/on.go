//go:build failpoints

package failpoint

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// plan is what the environment asks for. It is the process's and not a caller's: the places are
// everywhere.
var plan = sync.OnceValue(func() *planned {
	p := &planned{promise: os.Getenv("JOBSERVER_MUTANT")}
	text := os.Getenv("JOBSERVER_FAILPOINT")
	if text == "" {
		return p
	}
	place, pass, _ := strings.Cut(text, ":")
	n, err := strconv.ParseInt(pass, 10, 64)
	if err != nil || n < 1 {
		panic(fmt.Sprintf("JOBSERVER_FAILPOINT=%s: want PLACE:PASS", text))
	}
	p.place = place
	p.left.Store(n)
	return p
})

type planned struct {
	promise string
	place   string
	left    atomic.Int64 // passes until the last
}

// Variables are those that this package reads, for programs that are started with an environment of
// their own.
func Variables() []string {
	return []string{"JOBSERVER_MUTANT", "JOBSERVER_FAILPOINT", "JOBSERVER_INSTEAD"}
}

// Hit passes a place; the pass that the environment names ends the process, as kill -9 does.
func Hit(place string) {
	if p := plan(); p.place == place && p.left.Add(-1) == 0 {
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

// Breaks tells whether the environment wants a promise to be broken.
func Breaks(promise string) bool { return plan().promise == promise }

// instead looks up what the environment has in place of something.
func instead(what string) (string, bool) {
	name, value, ok := strings.Cut(os.Getenv("JOBSERVER_INSTEAD"), "=")
	return value, ok && name == what
}

// File is the usual file, or another.
func File(what, usual string) string {
	if name, ok := instead(what); ok {
		return name
	}
	return usual
}

// Duration is the usual one, or another.
func Duration(what string, usual time.Duration) time.Duration {
	text, ok := instead(what)
	if !ok {
		return usual
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		panic(fmt.Sprintf("JOBSERVER_INSTEAD=%s=%s: %v", what, text, err))
	}
	return d
}

// Pause gives others time to see a promise broken, before what should have come first does.
func Pause() { time.Sleep(100 * time.Millisecond) }
