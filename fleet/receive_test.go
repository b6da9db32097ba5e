package fleet

import (
	"bytes"
	"crypto/sha256"
	"errors"
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
	c := &copying{ctx: t.Context(), Copy: sched.Copy{
		Job: &statepb.Job{
			Id: 1,
		},
		Attempt: &statepb.Attempt{Number: 1},
		Dest:    filepath.Join(t.TempDir(), "1"),
	}}
	tr := &transfer{
		f: &Fleet{bootID: "boot", opt: Options{StateDir: t.TempDir(), ServerID: "srv"}},
		c: c,
	}
	if err := tr.openPart(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tr.part.close)
	tr.have = map[string]*item{}
	e := agent.Entry{
		Name:    "result",
		Source:  "/result",
		Kind:    agent.File,
		Size:    size,
		Mode:    0o444,
		ModTime: time.Unix(1e9, 0),
	}
	in := &receiver{
		t:        tr,
		sum:      sha256.New(),
		files:    []agent.Entry{e},
		requests: []agent.FetchFile{{Size: size}},
	}
	t.Cleanup(func() { in.close() })
	return tr, in
}

// A machine can't fill the host's disk by a file that has more bytes than it has said.
func TestReceiveTooMuch(t *testing.T) {
	_, in := receiving(t, smallSize+10)
	if err := in.Data(0, make([]byte, smallSize)); err != nil {
		t.Fatal(err)
	}
	if err := in.Data(
		0,
		make([]byte, 11),
	); err == nil ||
		!strings.Contains(err.Error(), "more bytes of /result came") {
		t.Errorf("the error is %v", err)
	}
	if info, err := os.Stat(
		in.t.part.files.path("result"),
	); err != nil ||
		info.Size() != smallSize {
		t.Errorf("it has %v, %v", info.Size(), err)
	}
}

// A file's holes are holes here, too, wherever the copy was cut.
func TestReceiveHoles(t *testing.T) {
	t.Parallel()
	const size = 100 << 20
	end := agent.Fetched{Bytes: size}
	for name, come := range map[string]func(in *receiver) error{
		"at the end": func(in *receiver) error {
			return errors.Join(in.Data(0, []byte("x")), in.Hole(0, size-1), in.Done(0, end))
		},
		"at the beginning": func(in *receiver) error {
			return errors.Join(in.Hole(0, size-1), in.Data(0, []byte("x")), in.Done(0, end))
		},
		"all of it": func(in *receiver) error {
			return errors.Join(in.Hole(0, size), in.Done(0, end))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tr, in := receiving(t, size)
			if err := come(in); err != nil {
				t.Fatal(err)
			}
			st, err := tr.part.files.lstat("result")
			if err != nil || st.Size != size || st.Blocks*512 > 1<<20 {
				t.Errorf("it has %d bytes, %d blocks: %v", st.Size, st.Blocks, err)
			}
			got, err := sum(tr.part.files, "result")
			if err != nil || !bytes.Equal(got, tr.have["result"].sha256) {
				t.Errorf("its hash is %x, not %x: %v", tr.have["result"].sha256, got, err)
			}
		})
	}
	_, in := receiving(t, size)
	if err := in.Hole(0, size+1); err == nil {
		t.Error("a hole that is longer than the file was taken")
	}
	_, in = receiving(t, 1<<60)
	if err := in.Hole(0, 1<<60); err == nil {
		t.Error("a hole without an end was taken")
	}
}
