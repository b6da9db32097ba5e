package fleet

import (
	"crypto/sha256"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"jobserver/agent"
	"jobserver/sched"
	"jobserver/sched/statepb"
)

// receiving is a copy of one file of so many bytes, which is still to come.
func receiving(t *testing.T, size int64) (*transfer, *receiver) {
	t.Helper()
	c := &copying{Copy: sched.Copy{
		Job: &statepb.Job{Id: 1}, Attempt: &statepb.Attempt{Number: 1}, Dest: filepath.Join(t.TempDir(), "1"),
	}}
	tr := &transfer{f: &Fleet{bootID: "boot"}, c: c}
	if err := tr.openPart(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tr.part.Close() })
	tr.have = map[string]*item{}
	e := agent.Entry{Name: "result", Source: "/result", Kind: agent.File, Size: size, Mode: 0o444, ModTime: time.Unix(1e9, 0)}
	in := &receiver{t: tr, sum: sha256.New(), files: []agent.Entry{e}, requests: []agent.FetchFile{{Size: size}}}
	t.Cleanup(func() { in.close() })
	return tr, in
}

// A machine can't fill the host's disk by a file that has more bytes than it has said.
func TestReceiveTooMuch(t *testing.T) {
	_, in := receiving(t, smallSize+10)
	if err := in.Data(0, make([]byte, smallSize)); err != nil {
		t.Fatal(err)
	}
	if err := in.Data(0, make([]byte, 11)); err == nil || !strings.Contains(err.Error(), "more bytes of /result came") {
		t.Errorf("the error is %v", err)
	}
	if info, err := os.Stat(filepath.Join(in.t.c.partDir(), in.t.c.partName(), "result")); err != nil || info.Size() != smallSize {
		t.Errorf("it has %v, %v", info.Size(), err)
	}
}

// A file that an earlier copy left, whole and read-only, is in nobody's way: also for a user who isn't root.
func TestReceiveOverReadOnly(t *testing.T) {
	tr, in := receiving(t, smallSize+10)
	dir := filepath.Join(tr.c.partDir(), tr.c.partName())
	if err := os.WriteFile(filepath.Join(dir, "result"), make([]byte, smallSize+20), 0o444); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		const nobody = 65534
		for _, name := range []string{dir, filepath.Join(dir, "result")} {
			if err := os.Chown(name, nobody, -1); err != nil {
				t.Fatal(err)
			}
		}
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := unix.Setfsuid(nobody); err != nil {
			t.Fatal(err)
		}
		defer unix.Setfsuid(0)
	}
	if err := in.Data(0, make([]byte, smallSize+10)); err != nil {
		t.Fatal(err)
	}
	if err := in.Done(0, agent.Fetched{Bytes: smallSize + 10}); err != nil {
		t.Fatal(err)
	}
	if info, err := tr.part.Stat("result"); err != nil || info.Size() != smallSize+10 {
		t.Errorf("it has %v, %v", info.Size(), err)
	}
}
