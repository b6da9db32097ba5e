package fleet

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"jobserver/sched"
)

// TestRootAway: a run lives on while the directory of its machine's runs is away, as a home that
// isn't mounted, whatever is in its place, and is followed when it is back; one that is waited for
// in vain is lost.
func TestRootAway(t *testing.T) {
	nothing := func(*testing.T, string) {}
	for name, tt := range map[string]struct {
		instead func(t *testing.T, root string)
		wait    time.Duration // how long it is waited for
		reason  string        // for which the machine is away
	}{
		"nothing in its place": {nothing, time.Hour, "is its file system mounted?"},
		"an empty directory": {func(t *testing.T, root string) {
			if err := os.Mkdir(root, 0o700); err != nil {
				t.Fatal(err)
			}
		}, time.Hour, "is its file system mounted?"},
		"another daemon's": {func(t *testing.T, root string) {
			if err := os.MkdirAll(filepath.Join(root, "links", "other"), 0o700); err != nil {
				t.Fatal(err)
			}
		}, time.Hour, "is its file system mounted?"},
		"a file": {func(t *testing.T, root string) {
			if err := os.WriteFile(root, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, time.Hour, "not a directory"},
		"in vain": {nothing, time.Nanosecond, "is its file system mounted?"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// what is left of a run is found by its name, also that of another test
			dir := t.TempDir()
			server := fmt.Sprintf("%x", sha256.Sum256([]byte(dir)))[:32]
			h := newHost(t, nil, func(o *Options) {
				o.RootWait, o.ServerID = tt.wait, server
			})
			h.connected("local")
			end := filepath.Join(h.opt.StateDir, "end")
			r := job("local", 1, "until [ -e "+end+" ]; do sleep 0.05; done; echo end")
			h.Start(r)
			await[sched.Started](h, nil)
			h.halt()
			root := filepath.Join(h.opt.StateDir, "local")
			away := filepath.Join(h.opt.StateDir, "away")
			if err := os.Rename(root, away); err != nil {
				t.Fatal(err)
			}
			tt.instead(t, root)
			h.run()
			h.Connect(sched.Pool{Addr: "local", Runs: true})
			r.Known = true
			h.Start(r)
			await(h, func(o sched.Away) bool { return strings.Contains(o.Reason, tt.reason) })
			if tt.wait < time.Hour {
				await[sched.RunLost](h, nil)
				return
			}
			// at once: an agent may be making something there just now
			if err := unix.Renameat2(unix.AT_FDCWD, away, unix.AT_FDCWD, root,
				unix.RENAME_EXCHANGE); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(end, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if a := h.ends(r, "end\n"); a.ExitCode != 0 || a.Error != "" {
				t.Errorf("it ended with %v", a)
			}
		})
	}
}

// TestRootWait: where the machine has booted since, no run lives that is worth the whole wait.
func TestRootWait(t *testing.T) {
	for _, tt := range []struct {
		boots []string
		boot  string
		want  time.Duration
	}{
		{nil, "2", 15 * time.Minute},
		{[]string{"1"}, "1", 15 * time.Minute},
		{[]string{"1"}, "2", 30 * time.Second},
		{[]string{"1"}, "", 15 * time.Minute},
		{[]string{"1", "2"}, "2", 15 * time.Minute},
		{[]string{"", "1"}, "2", 15 * time.Minute}, // results outlive a boot
	} {
		w := &rootless{boots: tt.boots}
		if got := w.wait(tt.boot, 15*time.Minute); got != tt.want {
			t.Errorf("for runs of boots %q, in boot %q: %v, want %v", tt.boots, tt.boot, got,
				tt.want)
		}
	}
}
