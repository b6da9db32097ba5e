package hostile_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"jobserver/agent/agenttest"
	"jobserver/daemontest"
	"jobserver/ssh/sshtest"
)

// relayMain is this test's program as the agent of a hostile machine: relay PROGRAM MODE-FILE SEED
// agent ….
func relayMain(args []string) int {
	seed, err := strconv.ParseUint(args[2], 10, 64)
	if err == nil {
		err = agenttest.Relay(args[0], args[3:], args[1], seed)
	}
	if err != nil && err != io.EOF {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// hostile is a daemon with a hostile machine, in class bad, and two honest ones, in class good.
type hostile struct {
	*daemontest.Daemon
	t    *testing.T
	dir  string
	mode string // the file with what the hostile machine does
	bad  *sshtest.Machine
}

// newHostile starts them. Where a machine's agent would be, stands a script that runs this program.
func newHostile(t *testing.T, seed uint64) *hostile {
	t.Helper()
	h := &hostile{t: t, dir: t.TempDir()}
	h.mode = filepath.Join(h.dir, "mode")
	h.bad = sshtest.Start(t)
	h.Daemon = daemontest.New(t, "--ssh-config", h.bad.ConfigFile)
	program, err := os.ReadFile(h.Binary)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(program)
	bin := filepath.Join(h.bad.Home, ".local/state/jobserver/bin")
	if err := os.MkdirAll(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf(
		"#!/bin/sh\nexec %s relay %s %s %d \"$@\"\n",
		self,
		h.Binary,
		h.mode,
		seed,
	)
	if err := os.WriteFile(
		filepath.Join(bin, "jobserver-"+hex.EncodeToString(sum[:])),
		[]byte(script),
		0o700,
	); err != nil {
		t.Fatal(err)
	}
	h.set("honest")
	h.J(t, "machine", "add", "local:a", "local:b", "good", "--slots", "4")
	h.J(t, "machine", "add", h.bad.Name, "bad", "--slots", "4")
	return h
}

// set says what the hostile machine does from now on.
func (h *hostile) set(mode string) {
	h.t.Helper()
	temp := h.mode + ".new"
	if err := os.WriteFile(temp, []byte(mode), 0o600); err != nil {
		h.t.Fatal(err)
	}
	if err := os.Rename(temp, h.mode); err != nil {
		h.t.Fatal(err)
	}
}

// submit gives a class jobs that print, measure and have a result.
func (h *hostile) submit(class string, n int) {
	h.t.Helper()
	h.J(
		h.t,
		"add",
		class,
		"-x",
		fmt.Sprint(n),
		`echo "METRIC: n=1"; mkdir $JOBSERVER_SCRATCH/d; echo $JOBSERVER_JID >$JOBSERVER_SCRATCH/d/f; `+
			`echo "RESULTS: $JOBSERVER_SCRATCH/d"; echo end`,
		filepath.Join(h.dir, class),
	)
}

// modes are everything that the machine does wrong, each with each method.
func modes() (all []string) {
	for _, what := range []string{"silent", "slow", "flood", "huge", "fail", "twice", "empty"} {
		for _, method := range agenttest.Methods {
			all = append(all, fmt.Sprintf("%s %d", what, method))
		}
	}
	for _, rate := range []string{"10", "100", "500", "1000"} {
		all = append(all, "spoil "+rate, "spoil "+rate, "spoil "+rate)
	}
	return all
}

// during is how long the machine is hostile: seconds, or a part of what torture has.
func during(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("DURATION")
	if os.Getenv("TORTURE") == "" || text == "" {
		return 10 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return min(d, 10*time.Minute)
}

// TestHostileAgent has a machine lie in every way to a daemon that has two honest ones: their 200
// jobs end well meanwhile, its own can all be brought to an end, the daemon takes little memory,
// and no file is where none belongs.
func TestHostileAgent(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	if text := os.Getenv("TORTURE_SEED"); text != "" {
		seed, _ = strconv.ParseUint(text, 10, 64) // 0 is as good as any
	}
	t.Logf("TORTURE_SEED=%d", seed)
	h := newHostile(t, seed)
	outside := filepath.Join(h.dir, "outside")
	if err := os.WriteFile(outside, []byte("untouched"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.submit("good", 200)
	h.submit("bad", 50)
	all := modes()
	rng := rand.New(rand.NewPCG(seed, 2))
	rng.Shuffle(len(all), func(i, k int) { all[i], all[k] = all[k], all[i] })
	total := during(t)
	each := max(total/time.Duration(len(all)), 50*time.Millisecond)
	for end, i := time.Now().Add(total), 0; time.Now().Before(end); i++ {
		h.set(all[i%len(all)])
		select {
		case <-time.After(each):
		case <-h.Ended():
			t.Fatalf("the daemon died of %q:\n%s", all[i%len(all)], h.ConsoleText())
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if out, errs, code, err := h.Run(ctx, "wait", "class=good"); err != nil || code != 0 {
		t.Errorf("the honest machines' jobs: code %d, %v\n%s%s", code, err, out, errs)
	}
	if out := h.J(t, "machine", "ls", "-o", "jsonl"); len(out) > 1<<20 {
		t.Errorf("the machines are %d bytes of text", len(out))
	}
	h.set("silent 0")
	h.endBad(ctx)
	if n := resident(t, h.PID()); n > maxResident {
		t.Errorf("the daemon had %d MiB", n>>20)
	}
	h.nothingOutside(outside)
}

// endBad removes the hostile machine, which says nothing any more: its jobs end by that.
func (h *hostile) endBad(ctx context.Context) {
	h.t.Helper()
	h.J(h.t, "machine", "rm", "--force", "--yes", h.bad.Name)
	_, _, _, _ = h.Run(ctx, "job", "rm", "--yes", "class=bad") // some may have ended
	if out, errs, code, err := h.Run(ctx, "wait", "class=bad"); err != nil || code > 1 {
		h.t.Errorf("the hostile machine's jobs: code %d, %v\n%s%s", code, err, out, errs)
	}
}

// nothingOutside checks that files are only where they belong, and are what they should be.
func (h *hostile) nothingOutside(outside string) {
	h.t.Helper()
	if b, err := os.ReadFile(outside); err != nil || string(b) != "untouched" {
		h.t.Errorf("a file outside is %q, %v", b, err)
	}
	top, err := os.ReadDir(h.dir)
	if err != nil {
		h.t.Fatal(err)
	}
	var names []string
	for _, e := range top {
		names = append(names, e.Name())
	}
	if slices.ContainsFunc(
		names,
		func(n string) bool {
			return !slices.Contains([]string{"good", "bad", "mode", "outside"}, n)
		},
	) {
		h.t.Errorf("beside the results are %v", names)
	}
	err = filepath.WalkDir(
		filepath.Join(h.dir, "good"),
		func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Name() == "f" {
				b, err := os.ReadFile(path)
				jid := filepath.Base(filepath.Dir(filepath.Dir(path)))
				if err != nil || strings.TrimSpace(string(b)) != jid {
					h.t.Errorf("%s has %q, %v", path, b, err)
				}
			}
			return err
		},
	)
	if err != nil {
		h.t.Error(err)
	}
}
