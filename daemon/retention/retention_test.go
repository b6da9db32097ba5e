//go:build linux

package retention

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"jobserver/daemon/wire"
	"jobserver/joblog"
	"jobserver/sched"
	"jobserver/sched/statepb"
)

var noon = time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)

// fakeLoop is a loop whose turns are calls.
type fakeLoop struct {
	t     *testing.T
	st    *sched.State
	runs  int
	turns []int // changes of each
}

func (l *fakeLoop) Read(ctx context.Context, f func(*sched.State)) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	f(l.st)
	return nil
}

func (l *fakeLoop) Do(
	ctx context.Context, _ string, _ bool,
	plan func(*sched.State, time.Time) (sched.Plan, error),
) (sched.Plan, bool, error) {
	p, err := plan(l.st, noon)
	if err != nil || ctx.Err() != nil {
		return sched.Plan{}, false, errors.Join(err, ctx.Err())
	}
	l.turns = append(l.turns, len(p.Changes))
	l.apply(noon, p.Changes...)
	for { // as a matrix of which nothing is left is forgotten by itself
		changes := l.st.Decide(noon)
		if len(changes) == 0 {
			return p, false, nil
		}
		l.apply(noon, changes...)
	}
}

func (l *fakeLoop) apply(at time.Time, changes ...*sched.Change) {
	l.t.Helper()
	for _, c := range changes {
		c.At = at.UnixNano()
		if err := l.st.Apply(c); err != nil {
			l.t.Fatal(err)
		}
	}
}

// end lets a job run and end some time ago.
func (l *fakeLoop) end(id uint64, ago time.Duration) {
	l.t.Helper()
	l.runs++
	token := fmt.Sprint("token", l.runs)
	r := &statepb.RunRef{Machine: "m", Job: id, Attempt: 1, Token: token}
	l.apply(noon.Add(-ago),
		&sched.Change{Dispatched: &statepb.Dispatched{Job: id, Attempt: &statepb.Attempt{
			Number: 1, Machine: "m", Token: token,
			DispatchedAt: noon.Add(-ago).UnixNano(),
		}}},
		&sched.Change{Ended: &statepb.Ended{
			Run: r, Result: &statepb.Attempt{Cause: statepb.Cause_EXITED},
		}},
		&sched.Change{Settled: &statepb.Settled{Run: r}})
}

// newLoop has jobs 1 to n, and a matrix of three cells behind them.
func newLoop(t *testing.T, jobs int) *fakeLoop {
	t.Helper()
	l := &fakeLoop{t: t, st: sched.NewState()}
	l.apply(noon, &sched.Change{MachineAdded: &statepb.MachineAdded{
		Machine: &statepb.Machine{Addr: "m", Class: "c", Slots: 9000},
	}})
	for range jobs {
		p, err := l.st.PlanJobs([]sched.JobSpec{{Class: "c", Cmd: "true"}}, false)
		if err != nil {
			t.Fatal(err)
		}
		l.apply(noon.Add(-1000*time.Hour), p.Changes...)
	}
	p, err := l.st.PlanMatrix(sched.MatrixSpec{Job: sched.JobSpec{Class: "c", Cmd: "true"},
		Axes: []*statepb.Axis{{Name: "I", Values: []string{"1", "2", "3"}}}}, false)
	if err != nil {
		t.Fatal(err)
	}
	l.apply(noon.Add(-1000*time.Hour), p.Changes...)
	return l
}

func newKeeper(t *testing.T, l *fakeLoop) *Keeper {
	t.Helper()
	return New(Options{
		Loop: l, Now: func() time.Time { return noon }, Log: slog.New(slog.DiscardHandler),
		LogDir: t.TempDir(), Archive: filepath.Join(t.TempDir(), "archive"),
	})
}

func (l *fakeLoop) left() (ids []uint64) { return l.st.EndedIn(0, 10_000) }

// TestPrune: 1 to 4 ended 40, 30, 20 and 10 hours ago, the cells 6 to 8 of matrix 5 35, 25 and 15.
func TestPrune(t *testing.T) {
	whole := "matrix 5 is kept whole, as its tables need all cells: name it as %5, or forget " +
		"these with `jobserver job rm -f`"
	for _, tt := range []struct {
		name    string
		r       Request
		running bool // a cell of the matrix is
		left    []uint64
		total   int
		kept    string // why those are that are old enough
	}{
		{"nothing is so old", Request{Before: noon.Add(-50 * time.Hour)}, false,
			[]uint64{1, 2, 3, 4, 6, 7, 8}, 0, ""},
		{"a matrix is as old as its newest job", Request{Before: noon.Add(-18 * time.Hour)}, false,
			[]uint64{4, 6, 7, 8}, 3, ""},
		{"all", Request{Before: noon}, false, nil, 7, ""},
		{"a matrix that runs", Request{Before: noon}, true, []uint64{6, 7}, 6,
			"matrix 5 has jobs that haven't ended"},
		{"the newest", Request{Before: noon, Newest: 1}, false, []uint64{4}, 6, ""},
		{"the newest, a matrix among them", Request{Before: noon, Newest: 2}, false,
			[]uint64{4, 6, 7, 8}, 3, ""},
		{"some", Request{Before: noon, Jobs: []uint64{1, 4}}, false, []uint64{2, 3, 6, 7, 8}, 2,
			""},
		{"a whole matrix", Request{Before: noon, Jobs: []uint64{6, 7, 8}}, false,
			[]uint64{1, 2, 3, 4}, 3, ""},
		{"a part of it", Request{Before: noon, Jobs: []uint64{6, 8}}, false,
			[]uint64{1, 2, 3, 4, 6, 7, 8}, 2, whole},
		{"no more than were confirmed", Request{Before: noon, Most: 7}, false, nil, 7, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLoop(t, 4)
			for id := range uint64(4) {
				l.end(id+1, time.Duration(40-10*id)*time.Hour)
			}
			l.end(6, 35*time.Hour)
			l.end(7, 25*time.Hour)
			if !tt.running {
				l.end(8, 15*time.Hour)
			}
			k := newKeeper(t, l)
			before := l.left()
			would, err := k.Prune(t.Context(), tt.r, nil) // not with Act
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(before, l.left()); diff != "" {
				t.Errorf("only asked about, jobs went:\n%s", diff)
			}
			tt.r.Act = true
			did, err := k.Prune(t.Context(), tt.r, nil)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.left, l.left()); diff != "" {
				t.Errorf("left:\n%s", diff)
			}
			if diff := cmp.Diff(would, did); diff != "" || did.Total != tt.total {
				t.Errorf("of %d:\n%s", did.Total, diff)
			}
			for _, f := range did.Fates {
				if !f.Changed && f.Note != tt.kept {
					t.Errorf("job %d is kept: %s", f.Job, f.Note)
				}
			}
			if n := did.Total - did.Changed; (n > 0) != (tt.kept != "") {
				t.Errorf("%d are kept", n)
			}
			tt.r.Most = 1
			var many *TooManyError
			if _, err := k.Prune(t.Context(), tt.r, nil); errors.As(err, &many) {
				t.Logf("%v", err)
			} else if err != nil || len(tt.left) > 2 && tt.name == "all" {
				t.Errorf("more than one: %v", err)
			}
		})
	}
}

// TestPieces: very many jobs go in pieces, a large matrix too; what is archived is each of them,
// once, and the matrix.
func TestPieces(t *testing.T) {
	const many = 500
	l := newLoop(t, many)
	for id := range uint64(many) {
		l.end(id+1, time.Hour)
	}
	for cell := range uint64(3) {
		l.end(many+2+cell, time.Hour)
	}
	k := newKeeper(t, l)
	did, err := k.Prune(t.Context(), Request{Before: noon, Act: true}, nil)
	if err != nil || did.Changed != many+3 || len(l.left()) != 0 {
		t.Fatal(err, did.Changed, l.left())
	}
	for _, n := range l.turns {
		if n > 2*sched.PrunePiece {
			t.Errorf("a turn has %d changes", n)
		}
	}
	if len(l.turns) < 3 {
		t.Errorf("%d turns", len(l.turns))
	}
	text, err := os.ReadFile(filepath.Join(k.Archive, "2026-03.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[uint64]int{}
	matrices := 0
	for line := range bytes.Lines(text) {
		var one wire.Exported
		if err := json.Unmarshal(line, &one); err != nil {
			t.Fatal(err)
		}
		switch {
		case one.Job != nil:
			seen[one.Job.JID]++
		case one.Matrix != nil && one.Matrix.ID == many+1:
			matrices++
		}
	}
	if len(seen) != many+3 || matrices != 1 {
		t.Errorf("%d jobs and %d matrices are archived", len(seen), matrices)
	}
	for id, n := range seen {
		if n != 1 {
			t.Errorf("job %d is archived %d times", id, n)
		}
	}
}

// TestArchiveFails: what can't be archived isn't forgotten.
func TestArchiveFails(t *testing.T) {
	l := newLoop(t, 1)
	l.end(1, time.Hour)
	k := newKeeper(t, l)
	if err := os.WriteFile(k.Archive, nil, 0o600); err != nil { // no directory
		t.Fatal(err)
	}
	_, err := k.Prune(t.Context(), Request{Before: noon, Act: true}, nil)
	if err == nil || !strings.Contains(err.Error(), "archive what is to be forgotten: ") ||
		len(l.left()) != 1 {
		t.Errorf("%v, %v", err, l.left())
	}
}

// TestArchiveAppends takes the half line away that a full disk, or the daemon's death, has left.
func TestArchiveAppends(t *testing.T) {
	for name, before := range map[string]string{
		"nothing": "", "lines": "{1}\n{2}\n", "half a line": "{1}\n{2}\n{3",
		"only half a line": "{3", "a long half line": "{1}\n" + strings.Repeat("x", 200_000),
	} {
		t.Run(name, func(t *testing.T) {
			a := archive{dir: t.TempDir()}
			path := filepath.Join(a.dir, "2026-03.jsonl")
			if err := os.WriteFile(path, []byte(before), 0o600); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := a.append(noon, []byte("{new}\n")); err != nil {
					t.Fatal(err)
				}
			}
			got, err := os.ReadFile(path)
			want := before[:strings.LastIndex(before, "\n")+1] + "{new}\n{new}\n"
			if err != nil || string(got) != want {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

// TestRun lets a daemon's keeper run for hours: jobs go when they are old enough, and when there
// are too many.
func TestRun(t *testing.T) {
	for name, tt := range map[string]struct {
		set  func(*Options)
		left []uint64
	}{
		"by age":    {func(o *Options) { o.Keep = 3 * time.Hour }, []uint64{3}},
		"by number": {func(o *Options) { o.KeepJobs = 2 }, []uint64{2, 3}},
		"neither":   {func(*Options) {}, []uint64{1, 2, 3}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLoop(t, 3)
				for id := range uint64(3) {
					l.end(id+1, time.Duration(3-id)*time.Hour)
				}
				k := newKeeper(t, l)
				tt.set(&k.Options)
				start := time.Now()
				k.Now = func() time.Time { return noon.Add(time.Since(start)) }
				ctx, stop := context.WithTimeout(t.Context(), 90*time.Minute)
				defer stop()
				k.Run(ctx)
				if diff := cmp.Diff(tt.left, l.left()); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

// TestLogs: logs are compressed when they are a day old and nothing is written to them any more,
// and the oldest are removed beyond a size; never those of a job that runs.
func TestLogs(t *testing.T) {
	text := strings.Repeat("a line of a log\n", 20_480)
	put := func(t *testing.T, k *Keeper, job uint64, age time.Duration) string {
		t.Helper()
		path := sched.LogPath(k.LogDir, &statepb.RunRef{Job: job, Attempt: 1}, false)
		err := os.MkdirAll(filepath.Dir(path), 0o700)
		if err == nil {
			err = os.WriteFile(path, []byte(text), 0o600)
		}
		if err == nil {
			err = os.Chtimes(path, noon.Add(-age), noon.Add(-age))
		}
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, tt := range []struct {
		name string
		keep int64
		left string // p: as it was, z: compressed, -: removed
	}{
		{"without a limit", 0, "zzppp"},
		{"within the limit", 10 << 20, "zzppp"},
		{"within it when compressed", 700 << 10, "zzppp"}, // a plain one has 320 KiB
		{"beyond it", 327_690, "--ppp"},
		{"none", 1, "---pp"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLoop(t, 3)
			k := newKeeper(t, l)
			k.KeepLogs = tt.keep
			paths := []string{
				put(t, k, 1, 50*time.Hour), put(t, k, 2, 30*time.Hour), put(t, k, 5, time.Hour),
				put(t, k, 3, 90*time.Hour), // which doesn't end
				put(t, k, 4000, 90*time.Hour),
			}
			l.end(1, 50*time.Hour)
			l.end(2, 30*time.Hour)
			l.end(5, time.Hour)
			part := paths[0] + ".zst.part" // of a daemon that died
			if err := os.WriteFile(part, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := k.tidyLogs(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			left := ""
			for _, path := range paths {
				_, plain := os.Stat(path)
				_, packed := os.Stat(path + joblog.Suffix)
				switch {
				case plain == nil && packed != nil:
					left += "p"
				case plain != nil && packed == nil:
					left += "z"
				case plain != nil:
					left += "-"
				default:
					left += "?"
				}
				if tail, _, err := joblog.Tail(path, 7); err == nil && string(tail) != "a log\n" &&
					string(tail) != " a log\n" {
					t.Errorf("%s ends with %q", path, tail)
				}
			}
			if left != tt.left {
				t.Errorf("%s, want %s", left, tt.left)
			}
			if _, err := os.Stat(part); err == nil {
				t.Error("the part is there still")
			}
		})
	}
}
