package agent

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"jobserver/tests/budget"
)

// fullExit has every field set.
var fullExit = Exit{
	Cause: TimedOut, Code: -1, Signal: 9, SignalName: "SIGKILL",
	StartedAt: time.Unix(1_700_000_000, 1).UTC(), EndedAt: time.Unix(1_700_000_009, 2).
			UTC(), Duration: 9 * time.Second,
	UserCPU: time.Second, SystemCPU: 2 * time.Second, MaxRSS: 1 << 40, BootID: "b-1", OutLen: 1,
	ErrLen: 2, MarksLen: 3,
	OutCRC: 1 << 31, ErrCRC: 5, OutDropped: 6, ErrDropped: 7, MarksDropped: 8,
	LogError: "a \"b\"\nc\xff", StartError: "x", Killed: 9, Left: 10,
}

func TestExitRoundTrips(t *testing.T) {
	var got Exit
	must(t, parseRecord("exit", append(formatRecord("exit", fullExit.lines), 0, 0, 'x'), got.lines))
	if diff := cmp.Diff(fullExit, got); diff != "" {
		t.Errorf("record: %s", diff)
	}
	got = Exit{}
	must(t, decode(encode(fullExit.fields), got.fields))
	if diff := cmp.Diff(fullExit, got); diff != "" {
		t.Errorf("message: %s", diff)
	}
	long := fullExit
	long.LogError, long.StartError = strings.Repeat("\x00", 5000), strings.Repeat("e", 5000)
	long.shorten()
	if n := len(formatRecord("exit", long.lines)); n > slotExit.size {
		t.Errorf("%d bytes", n)
	}
}

func TestRecordCutShort(t *testing.T) {
	whole := formatRecord("exit", fullExit.lines)
	for n := range whole {
		var e Exit
		p := append(bytes.Clone(whole[:n]), make([]byte, len(whole)-n)...)
		if err := parseRecord("exit", p, e.lines); err == nil || e != (Exit{}) {
			t.Fatalf("%d bytes of %d: %+v, %v", n, len(whole), e, err)
		}
	}
	for i := range whole {
		var e Exit
		p := bytes.Clone(whole)
		p[i] ^= 4
		if err := parseRecord("exit", p, e.lines); err == nil {
			t.Fatalf("bit flipped at %d: %+v", i, e)
		}
	}
}

func TestRecordExtends(t *testing.T) {
	var e ending
	newer := formatRecord("ending", func(l *liner) {
		l.put("something_new", "1 2 3")
		(&ending{Cause: Canceled}).lines(l)
	})
	must(t, parseRecord("ending", newer, e.lines))
	if e.Cause != Canceled || !e.At.IsZero() {
		t.Errorf("%+v", e)
	}
	err := parseRecord("ending", bytes.Replace(newer, []byte("ending 1 "), []byte("ending 2 "), 1),
		e.lines)
	if err == nil || errors.Is(err, errNoRecord) || !strings.Contains(err.Error(), "newer") {
		t.Errorf("newer format: %v", err)
	}
}

// TestGolden reads directories of runs as released versions have left them. They are only added to:
// an agent must go on to understand what an older supervisor wrote.
func TestGolden(t *testing.T) {
	for name, want := range map[string]view{
		"v1-ended": {state: Ended,
			exit: &Exit{Cause: Exited, Code: 3, BootID: "boot-1", OutLen: 11, ErrLen: 4,
				MarksLen: 11,
				OutCRC:   checksum([]byte("RESULTS: x\n")), ErrCRC: checksum([]byte("err\n"))}},
		"v1-canceled": {state: Ended, ending: Canceled,
			exit: &Exit{Cause: Canceled, Code: -1, Signal: 15, SignalName: "SIGTERM",
				BootID: "boot-1"}},
		"v1-not-started": {state: Ended,
			exit: &Exit{Cause: NotStarted, Code: -1, BootID: "boot-1",
				StartError: `execute "no-such-program": not found in PATH`}},
		"v1-vanished":  {state: Vanished},
		"v1-ambiguous": {state: Ambiguous},
		"v1-claimed":   {state: None},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join("..", "testdata", "runs", name)
			got, err := look(dir, "boot-2")
			must(t, err)
			if hasStarted := got.started.PID != 0; hasStarted != (want.state == Vanished ||
				want.state == Ended && want.exit.Cause != NotStarted) {
				t.Errorf("started: %+v", got.started)
			}
			got.launching, got.started = process{}, process{}
			if got.exit != nil {
				if got.exit.EndedAt.IsZero() || got.exit.StartedAt.IsZero() {
					t.Errorf("times: %+v", got.exit)
				}
				e := *got.exit
				e.StartedAt, e.EndedAt, e.Duration, e.UserCPU, e.SystemCPU, e.MaxRSS = time.Time{},
					time.Time{}, 0, 0, 0, 0
				got.exit = &e
			}
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(view{})); diff != "" {
				t.Error(diff)
			}
			if want.exit == nil || want.exit.Cause != Exited {
				return
			}
			var spec specRecord
			must(t, readRecord(filepath.Join(dir, fileRun), fileSpec, slotsSize, spec.lines))
			if diff := cmp.Diff(specRecord{Command: "echo RESULTS: x; echo err >&2; exit 3",
				Dir: "/usr", Timeout: time.Hour, Argv: []string{}}, spec); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func FuzzRecord(f *testing.F) {
	f.Add(formatRecord("exit", fullExit.lines))
	f.Add([]byte("jobserver exit 1 0 00000000\n"))
	f.Add([]byte("\n"))
	f.Fuzz(func(t *testing.T, p []byte) {
		defer budget.Hold(t, 1<<20+64*len(p))()
		var e Exit
		if parseRecord("exit", p, e.lines) != nil {
			return
		}
		var again Exit
		must(t, parseRecord("exit", formatRecord("exit", e.lines), again.lines))
		if e != again {
			t.Errorf("%+v is not %+v", again, e)
		}
	})
}

func FuzzRunFile(f *testing.F) {
	for _, name := range []string{"v1-ended", "v1-vanished", "v1-claimed"} {
		p, err := os.ReadFile(filepath.Join("..", "testdata", "runs", name, fileRun))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(p)
	}
	file := filepath.Join(f.TempDir(), fileRun)
	f.Fuzz(func(t *testing.T, p []byte) {
		defer budget.Hold(t, 1<<20+64*len(p))()
		must(t, os.WriteFile(file, p, 0o600))
		v, err := look(filepath.Dir(file), "boot-1")
		if err == nil &&
			(v.state == Running || v.state == Launching || (v.exit != nil) != (v.state == Ended)) {
			t.Errorf("%+v", v)
		}
	})
}

func FuzzStat(f *testing.F) {
	f.Add([]byte("1 (a) b) S 0 1 1 0 -1 4194560 1 1 1 1 1 1 1 1 20 0 1 0 25 1 1"))
	f.Fuzz(func(t *testing.T, p []byte) {
		defer budget.Hold(t, 1<<20+64*len(p))()
		parseStat(p)
	})
}
