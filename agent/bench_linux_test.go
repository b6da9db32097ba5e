package agent

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// benchMachine runs a program that has nothing of the test's libraries, whose start would be
// measured too.
func benchMachine(b *testing.B) *machine {
	m := newMachine(b)
	m.exe = filepath.Join(b.TempDir(), "program")
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", m.exe, "jobserver/slim/program")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	build.Stderr = os.Stderr
	must(b, build.Run())
	return m
}

// BenchmarkStartPoll runs `true`: one Start and one Poll a run, 8 runs at a time.
func BenchmarkStartPoll(b *testing.B) {
	m := benchMachine(b)
	c := m.connect()
	var g errgroup.Group
	g.SetLimit(8)
	b.ResetTimer()
	for range b.N {
		g.Go(func() error {
			s := m.command("true")
			if _, err := c.Start(b.Context(), []Spec{s}); err != nil {
				return err
			}
			e, err := followTo(c, s.Run, func(ended) bool { return false })
			if err == nil && e.polls != 1 {
				b.Logf("%d polls", e.polls)
			}
			return err
		})
	}
	must(b, g.Wait())
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "runs/s")
}

// BenchmarkShell is what a run of `true` can't do without, 8 at a time: what StartPoll has to be
// compared with.
func BenchmarkShell(b *testing.B) {
	var g errgroup.Group
	g.SetLimit(8)
	for range b.N {
		g.Go(func() error { return exec.Command("/bin/sh", "-c", "true").Run() })
	}
	must(b, g.Wait())
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "runs/s")
}

// BenchmarkStartLatency is one run of `true` after another.
func BenchmarkStartLatency(b *testing.B) {
	m := benchMachine(b)
	c := m.connect()
	for b.Loop() {
		s := m.command("true")
		start(b, c, s)
		follow(b, c, s.Run)
	}
}

// BenchmarkLogBytes sends output through the supervisor into its file; the poll after it is not
// what is measured.
func BenchmarkLogBytes(b *testing.B) {
	m := benchMachine(b)
	c := m.connect()
	exe, err := os.Executable()
	must(b, err)
	const size = 1 << 30
	b.SetBytes(size)
	fifo := filepath.Join(m.login, "fifo")
	must(b, unix.Mkfifo(fifo, 0o600))
	for b.Loop() {
		s := m.command("%s helper bytes %d; echo >%s", exe, size, fifo)
		start(b, c, s)
		_, err := os.ReadFile(fifo) // an agent that watches would be woken by every write
		must(b, err)
		r := PollRequest{Run: s.Run, Wait: 1 << 40, OutOff: size}
		if p, err := c.Poll(b.Context(), r, nil); err != nil || p.Exit == nil ||
			p.Exit.OutLen != size {
			b.Fatal(p, err)
		}
		b.StopTimer()
		must(b, c.Forget(b.Context(), []RunID{s.Run}, false))
		b.StartTimer()
	}
}

// BenchmarkFollow reads a log while it is written.
func BenchmarkFollow(b *testing.B) {
	m := benchMachine(b)
	c := m.connect()
	exe, err := os.Executable()
	must(b, err)
	const size = 1 << 30
	b.SetBytes(size)
	for b.Loop() {
		s := m.command("%s helper bytes %d", exe, size)
		start(b, c, s)
		r := PollRequest{Run: s.Run, Wait: 1 << 40}
		for {
			p, err := c.Poll(b.Context(), r, nil)
			must(b, err)
			r.OutOff += p.Bytes
			if p.Exit != nil {
				break
			}
		}
		b.StopTimer()
		must(b, c.Forget(b.Context(), []RunID{s.Run}, false))
		b.StartTimer()
	}
}

type discard struct{ bytes int64 }

func (d *discard) Data(_ int, p []byte) error   { d.bytes += int64(len(p)); return nil }
func (d *discard) Hole(file int, n int64) error { return nil }

func (d *discard) Done(file int, f Fetched) error { return nil }

func benchmarkFetch(b *testing.B, files int, size int64) {
	m := benchMachine(b)
	c := m.connect()
	data := make([]byte, size)
	must(b, os.Mkdir(filepath.Join(m.login, "d"), 0o755))
	for i := range files {
		must(b, os.WriteFile(filepath.Join(m.login, "d", strconv.Itoa(i)), data, 0o644))
	}
	b.SetBytes(int64(files) * size)
	b.ResetTimer()
	for b.Loop() {
		list, err := c.Manifest(b.Context(), ManifestRequest{Paths: []string{"d"}})
		must(b, err)
		var r FetchRequest
		for _, e := range list.Entries {
			if e.Kind == File {
				r.Files = append(r.Files,
					FetchFile{Source: e.Source, Size: e.Size, ModTime: e.ModTime})
			}
		}
		var d discard
		must(b, c.Fetch(b.Context(), r, &d))
		if d.bytes != int64(files)*size {
			b.Fatal(d.bytes, io.ErrUnexpectedEOF)
		}
	}
}

func BenchmarkFetchSmall(b *testing.B) { benchmarkFetch(b, 20_000, 4<<10) }
func BenchmarkFetchLarge(b *testing.B) { benchmarkFetch(b, 1, 1<<30) }
