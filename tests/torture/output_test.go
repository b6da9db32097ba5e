package torture_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"jobserver/api"
)

// resident is the daemon's memory, in bytes: VmRSS of proc_pid_status(5), or VmHWM, the most so
// far.
func (w *world) resident(t testing.TB, key string) (n int64) {
	t.Helper()
	return residentOf(t, w.PID(), key)
}

func residentOf(t testing.TB, pid int, key string) (n int64) {
	t.Helper()
	for line := range strings.Lines(read(t, fmt.Sprintf("/proc/%d/status", pid))) {
		if rest, ok := strings.CutPrefix(line, key+":"); ok {
			if _, err := fmt.Sscanf(rest, "%d kB", &n); err != nil {
				t.Fatal(err)
			}
		}
	}
	return n << 10
}

// TestBigOutput: jobs that print without end, without a newline, faster than anybody reads; the
// daemon's memory stays where it was, the log is whole, or as long as was allowed.
func TestBigOutput(t *testing.T) {
	t.Parallel()
	size := scaled(t, 128<<20, 10<<30)
	w := newWorld(t)
	var disk syscall.Statfs_t
	must(t, syscall.Statfs(w.dir, &disk))
	// it is there twice: on the machine, and on the host
	size = min(size, int64(disk.Bavail)*disk.Bsize/4)
	w.add(slots(3))
	before := w.resident(t, "VmRSS")
	started := time.Now()
	// A piece that is missing, or there twice, or in the wrong place, shows: no size of pieces is a
	// multiple of this one.
	unit := strings.Repeat("0123456789abcdef", 63) + "x"
	endless := w.submit(api.JobSpec{Cmd: w.marked(fmt.Sprintf("yes %s | tr '\\n' x | head -c %d",
		strings.TrimSuffix(unit, "x"), size))})
	lines := w.submit(api.JobSpec{Cmd: w.marked("seq 1000000")})
	capped := w.submit(api.JobSpec{Cmd: w.marked("yes | head -c 50000000; echo RESULTS: " +
		"/etc/hostname"), MaxLog: 1 << 20, CpPath: w.results})
	j := w.ended(lines, "done", "exited")
	if out, err := exec.Command("sh", "-c", "seq 1000000 | cmp - "+
		j.Log).CombinedOutput(); err != nil {
		t.Errorf("the log of a million lines is not what was printed: %v, %s", err, out)
	}
	j = w.ended(capped, "done", "exited")
	text := read(t, j.Log)
	if n := len(text); n > 1<<20 || n < 1<<20-200 || j.Attempts[0].LogDropped < 48_000_000 ||
		j.ResultsStatus != "copied" || !strings.HasSuffix(text, "y\nRESULTS: /etc/hostname\n") {
		t.Errorf("the log that is capped has %d bytes, %d are said to be missing; results are %s",
			n, j.Attempts[0].LogDropped, j.ResultsStatus)
	}
	j = w.ended(endless, "done", "exited")
	if n := repeated(t, j.Log, unit); n != size {
		t.Errorf("the first %d bytes of the log are right, of %d", n, size)
	}
	peak := w.resident(t, "VmHWM")
	count(t, int(size>>20), "MiB of one job's output")
	t.Logf("%d MiB in %v; the daemon had %d MiB before, and %d MiB at the most", size>>20,
		time.Since(started).Round(time.Millisecond), before>>20, peak>>20)
	if peak > before+160<<20 {
		t.Errorf("the daemon took %d MiB of memory for %d MiB of output", (peak-before)>>20,
			size>>20)
	}
}

// repeated counts the bytes of a file, from its start, that are those of unit again and again.
func repeated(t testing.TB, name, unit string) (n int64) {
	t.Helper()
	f, err := os.Open(name)
	must(t, err)
	defer f.Close()
	want := []byte(strings.Repeat(unit, 1<<20/len(unit)))
	for buf := make([]byte, len(want)); ; {
		k, err := io.ReadFull(f, buf)
		if !bytes.Equal(buf[:k], want[:k]) {
			return n
		}
		if n += int64(k); err != nil {
			return n
		}
	}
}
