package agent

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// memory is a file that can be full.
type memory struct {
	bytes.Buffer
	room int
}

func (m *memory) Write(p []byte) (int, error) {
	n := min(len(p), m.room)
	m.room -= n
	m.Buffer.Write(p[:n])
	if n < len(p) {
		return n, unix.ENOSPC
	}
	return n, nil
}

func (*memory) Close() error { return nil }

func newMarks(m *memory) *marks {
	return &marks{create: func() (io.WriteCloser, error) { return m, nil }}
}

func TestStreamLosesOnlyBytes(t *testing.T) {
	file := &memory{room: 5}
	var said []int64
	s := stream{max: 8, said: func(n int64) {
		said = append(said, n)
	}, create: func() (io.WriteCloser, error) { return file, nil }}
	s.take([]byte("abc"))
	s.take([]byte("defg")) // a full disk
	file.room = 100
	s.take([]byte("hijk")) // room again, up to the cap
	s.take([]byte("lmn"))
	if file.String() != "abcdehij" || s.written != 8 || s.dropped != 6 ||
		!errors.Is(s.err, unix.ENOSPC) || s.crc != checksum([]byte("abcdehij")) {
		t.Errorf("file %q, %+v", file.String(), s)
	}
	if diff := cmp.Diff([]int64{2, 6}, said); diff != "" {
		t.Errorf("said: %s", diff)
	}
	s = stream{create: func() (io.WriteCloser, error) { return nil, unix.ENOSPC }}
	s.take([]byte("abc"))
	if s.dropped != 3 || !errors.Is(s.err, unix.ENOSPC) {
		t.Errorf("no file: %+v", s)
	}
}

func TestBigOutput(t *testing.T) {
	m := newMachine(t)
	c := m.connect()
	exe, err := os.Executable()
	must(t, err)
	s := m.command(
		"%s helper bytes 10000000; echo; echo RESULTS: after; %s helper bytes 300000 >&2", exe, exe,
	)
	start(t, c, s)
	e := follow(t, c, s.Run)
	want := make([]byte, 10_000_000)
	for i := range want {
		want[i] = byte(i) | 1<<7
	}
	if !bytes.Equal(e.out, append(want, "\nRESULTS: after\n"...)) ||
		!bytes.Equal(e.err, want[:300_000]) {
		t.Errorf("%d and %d bytes came", len(e.out), len(e.err))
	}
	if diff := cmp.Diff([]Mark{{Results, "after"}}, e.marks); diff != "" {
		t.Error(diff)
	}
	if e.exit.OutCRC != checksum(e.out) || e.exit.ErrCRC != checksum(e.err) {
		t.Errorf("checksums: %+v", e.exit)
	}

	capped := m.command("%s", s.Command)
	capped.MaxLog = 1000
	start(t, c, capped)
	e = follow(t, c, capped.Run)
	if !bytes.Equal(e.out, want[:1000]) || !bytes.Equal(e.err, want[:1000]) || len(e.marks) != 1 {
		t.Errorf("capped: %d and %d bytes, marks %v", len(e.out), len(e.err), e.marks)
	}
	if e.exit.OutDropped != 10_000_016-1000 || e.exit.ErrDropped != 299_000 ||
		e.exit.LogError != "" || e.exit.Code != 0 {
		t.Errorf("capped: %+v", e.exit)
	}
}

func TestDroppedIsSaidWhileRunning(t *testing.T) {
	m := newMachine(t)
	c := m.connect()
	fifo := filepath.Join(m.login, "go")
	must(t, unix.Mkfifo(fifo, 0o600))
	s := m.command("echo 0123456789; cat %s; echo RESULTS: x; cat %s", fifo, fifo)
	s.MaxLog = 4
	start(t, c, s)
	must(t, os.WriteFile(fifo, nil, 0))
	// The mark is behind the bytes that were dropped.
	p, err := c.Poll(m.ctx(), PollRequest{Run: s.Run, OutOff: 4, Wait: 1 << 40}, nil)
	must(t, err)
	if len(p.Marks) != 1 || p.OutDropped < 7 || p.Exit != nil {
		t.Errorf("while running: %+v", p)
	}
	must(t, os.WriteFile(fifo, nil, 0))
	if e := follow(t, c, s.Run); string(e.out) != "0123" || e.exit.OutDropped != 18 {
		t.Errorf("out %q, exit %+v", e.out, e.exit)
	}
}

// TestShortened: nothing is synced, so after a power cut a run's files may have less than its exit
// record says. What there is comes, with the record, from which the host sees the rest.
func TestShortened(t *testing.T) {
	m := newMachine(t)
	c := m.connect()
	exe, err := os.Executable()
	must(t, err)
	s := m.command("echo METRIC: a=1; echo METRIC: b=2; %s helper bytes 3000000; echo x >&2", exe)
	start(t, c, s)
	whole := follow(t, c, s.Run)
	for _, size := range []int{len(whole.out) - 1, 2_000_000, 100_000, 1000, 0} {
		must(t, os.Truncate(filepath.Join(m.dir(s.Run), fileOut), int64(size)))
		e := follow(t, c, s.Run)
		if e.exit == nil || e.exit.OutLen != int64(len(whole.out)) ||
			!bytes.Equal(e.out, whole.out[:size]) || string(e.err) != "x\n" {
			t.Fatalf("%d of %d bytes: %+v, %d came", size, len(whole.out), e.exit, len(e.out))
		}
	}
	must(t, os.Truncate(filepath.Join(m.dir(s.Run), fileMarks), int64(len("METRIC: a=1\nMETRIC"))))
	if e := follow(t, c, s.Run); e.exit == nil || len(e.marks) != 1 {
		t.Errorf("half a mark: %+v, %v", e.exit, e.marks)
	}
	must(t, c.Ping(m.ctx()))
}

// TestFileLimit has every write beyond 8 KiB fail, which is as good as a full disk and needs no
// privileges.
func TestFileLimit(t *testing.T) {
	m := newMachine(t)
	exe := m.exe
	m.exe = filepath.Join(m.login, "limited")
	self, err := os.Executable()
	must(t, err)
	must(t, os.WriteFile(m.exe, []byte("#!/bin/sh\nulimit -f 20\nexec "+self+" \"$@\"\n"), 0o755))
	c := m.connect()
	s := m.command("i=0; while [ $i -lt 3000 ]; do echo 0123456789; i=$((i+1)); done; echo " +
		"RESULTS: there; exit 5")
	start(t, c, s)
	e := follow(t, c, s.Run)
	if e.exit.Code != 5 || e.exit.OutDropped == 0 ||
		!strings.Contains(e.exit.LogError, "file too large") || len(e.marks) != 1 {
		t.Errorf("exit %+v, marks %v", e.exit, e.marks)
	}
	if int64(len(e.out)) != e.exit.OutLen || e.exit.OutLen+e.exit.OutDropped != 3000*11+15 ||
		e.exit.OutCRC != checksum(e.out) {
		t.Errorf("%d bytes came; exit %+v", len(e.out), e.exit)
	}
	m.exe = exe
}

// slowFile is on a disk on which each write takes a time.
type slowFile struct {
	memory
	write time.Duration
}

func (f *slowFile) Write(p []byte) (int, error) {
	for end := bootTime() + f.write; bootTime() < end; {
		continue
	}
	return f.memory.Write(p)
}

// drained is a supervisor whose command has just ended, having written a text to standard
// output, which another process has still: write.
func drained(
	t *testing.T, text string, file io.WriteCloser, found *memory,
) (s *supervisor, write int) {
	t.Helper()
	var fds [2]int
	must(t, unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK))
	t.Cleanup(func() { unix.Close(fds[1]) })
	growPipe(fds[1])
	s = &supervisor{buf: make([]byte, copySize), pid: 1, pidfd: -1, pipes: [2]int{fds[0], -1}}
	t.Cleanup(func() { s.endStream(0) })
	s.out.create = func() (io.WriteCloser, error) { return file, nil }
	s.out.marks = newMarks(found)
	n, err := unix.Write(fds[1], []byte(text))
	if err != nil || n != len(text) {
		t.Fatal(n, err)
	}
	s.ended(0)
	return s, fds[1]
}

// TestEndOfDrain: what is in the pipe when nothing more is waited for, is output as well.
func TestEndOfDrain(t *testing.T) {
	file, found := &memory{room: 1 << 30}, &memory{room: 1 << 30}
	text := strings.Repeat("x", pipeSize-100) + "\nRESULTS: /tmp/x"
	s, _ := drained(t, text, file, found)
	s.drainUntil = 1
	s.deadlines(2)
	if file.String() != text || s.out.written != int64(len(text)) ||
		found.String() != "RESULTS: /tmp/x\n" {
		t.Errorf("%d of %d bytes are written, marks %q", file.Len(), len(text), found)
	}
	if s.pipes[0] >= 0 {
		t.Error("it would read on")
	}
}

// TestSlowDisk: the time in which we write what the command left in the pipe is none that leftovers
// had to write.
func TestSlowDisk(t *testing.T) {
	file := &slowFile{memory: memory{room: 1 << 30}, write: 2 * time.Millisecond}
	s, _ := drained(t, strings.Repeat("x", 2*copySize), file, &memory{})
	s.drainEnd, s.drainUntil = 1, 1
	for range 2 {
		s.copy(0)
	}
	if least := due(2*file.write) + 1; s.drainEnd < least || s.drainUntil < least {
		t.Errorf("the ends are put off by %v and %v", time.Duration(s.drainEnd-1),
			time.Duration(s.drainUntil-1))
	}
}

// TestSlowDiskAndBusyLeftover: what is written after the command's end puts off nothing, so that it
// has an end.
func TestSlowDiskAndBusyLeftover(t *testing.T) {
	file := &slowFile{memory: memory{room: 1 << 30}, write: time.Millisecond}
	s, write := drained(t, "", file, &memory{})
	s.drainEnd = 1
	_, err := unix.Write(write, []byte("late"))
	must(t, err)
	s.copy(0)
	if s.drainEnd != 1 || file.String() != "late" {
		t.Errorf("the end is put off by %v; out %q", time.Duration(s.drainEnd-1), file)
	}
}

// mountSmall makes a directory that is a file system of 256 KiB, or skips the test.
func mountSmall(t *testing.T, dir string) {
	t.Helper()
	must(t, os.Mkdir(dir, 0o700))
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"); err != nil {
		if os.Geteuid() == 0 && os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("not as this user: %v", err)
	}
	t.Cleanup(func() { must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
}

// TestFullDisk needs to mount a small file system; TestFileLimit shows the same without.
func TestFullDisk(t *testing.T) {
	m := newMachine(t)
	mountSmall(t, m.root)
	c := m.connect()
	s := m.command("cat /dev/zero >$JOBSERVER_SCRATCH/fill; echo lost; echo lost too >&2; echo " +
		"RESULTS: lost; exit 4")
	start(t, c, s)
	e := follow(t, c, s.Run)
	if e.exit == nil || e.exit.Code != 4 || e.exit.OutDropped != 19 || e.exit.MarksDropped != 1 ||
		!strings.Contains(e.exit.LogError, "no space") {
		t.Errorf("state %v, exit %+v", e.state, e.exit)
	}
	if r := startResult(t, c, m.command("true")); !errors.Is(r.Err(), ErrNotStarted) ||
		!strings.Contains(r.Reason, "no space") {
		t.Errorf("start on a full disk: %+v", r)
	}
	must(t, c.Forget(m.ctx(), []RunID{s.Run}, false))
	again := m.command("echo fine")
	start(t, c, again)
	if e := follow(t, c, again.Run); string(e.out) != "fine\n" {
		t.Errorf("out %q", e.out)
	}
}
