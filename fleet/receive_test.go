package fleet

import (
	"crypto/sha256"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

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
	tr := &transfer{f: &Fleet{bootID: "boot", opt: Options{StateDir: t.TempDir(), ServerID: "srv"}}, c: c}
	if err := tr.openPart(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tr.part.close)
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
	if info, err := os.Stat(in.t.part.files.path("result")); err != nil || info.Size() != smallSize {
		t.Errorf("it has %v, %v", info.Size(), err)
	}
}
