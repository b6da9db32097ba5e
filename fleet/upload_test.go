package fleet

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"jobserver/sched"
	"jobserver/sched/statepb"
	"jobserver/ssh/sshtest"
)

// keepCode gives the host code with these files, and gives its hash.
func (h *host) keepCode(files ...string) string {
	h.t.Helper()
	var archive bytes.Buffer
	sum := sha256.New()
	zip := gzip.NewWriter(&archive)
	w := tar.NewWriter(io.MultiWriter(zip, sum))
	for i := 0; i < len(files); i += 2 {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: files[i], Mode: 0o644,
			Size: int64(len(files[i+1]))}); err != nil {
			h.t.Fatal(err)
		}
		io.WriteString(w, files[i+1])
	}
	w.Close()
	zip.Close()
	hash := hex.EncodeToString(sum.Sum(nil))
	file := CodeArchive(h.opt.StateDir, hash)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(file, archive.Bytes(), 0o600); err != nil {
		h.t.Fatal(err)
	}
	return hash
}

// coded is a job that has code.
func coded(addr string, jid uint64, hash, command string) sched.Run {
	r := job(addr, jid, command)
	r.Code = hash
	return r
}

// times counts how often something was logged.
func (h *host) times(text string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Count(h.said, text)
}

// copies lists the copies of code on a machine, without their hashes.
func copies(t *testing.T, root string) (suffixes []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(root, "code"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() {
			suffixes = append(suffixes, strings.TrimLeft(e.Name(), "0123456789abcdef"))
		}
	}
	return suffixes
}

// Code is sent to a machine once, whoever wants it and however often, and once more to the next.
func TestCodeIsSentOnce(t *testing.T) {
	first := sshtest.Start(t)
	second := sshtest.Start(t, sshtest.Shared(first.Client))
	h := newHost(t, first)
	root := h.connected(first.Name).Facts.Root
	h.connected(second.Name)
	hash := h.keepCode("dir/say", "echo code $1\n")
	for jid := uint64(1); jid <= 20; jid++ {
		m := first
		if jid > 15 {
			m = second
		}
		h.Start(coded(m.Name, jid, hash, fmt.Sprintf("sh $JOBSERVER_CODE/dir/say %d; cd "+
			"$JOBSERVER_CODE; pwd", jid)))
	}
	for jid := uint64(1); jid <= 15; jid++ {
		h.ends(job(first.Name, jid, ""),
			fmt.Sprintf("code %d\n%s/code/%s/files\n", jid, root, hash))
	}
	for jid := uint64(16); jid <= 20; jid++ {
		await(h, func(o sched.Ended) bool { return o.Ref.Job == jid && o.Result.ExitCode == 0 })
	}
	h.halt()
	h.run() // another daemon's life finds it there
	h.connected(first.Name)
	h.Start(coded(first.Name, 21, hash, "sh $JOBSERVER_CODE/dir/say again"))
	h.ends(job(first.Name, 21, ""), "code again\n")
	if n := h.times("sent code"); n != 2 {
		t.Errorf("the code was sent %d times to two machines", n)
	}
	if got := copies(t, root); len(got) != 1 {
		t.Errorf("the machine has %q", got)
	}

	// Code that the host doesn't have any more fails those who need it, and nobody else.
	if err := os.Remove(CodeArchive(h.opt.StateDir, hash)); err != nil {
		t.Fatal(err)
	}
	h.Start(coded(first.Name, 22, hash, "sh $JOBSERVER_CODE/dir/say again"))
	h.ends(job(first.Name, 22, ""), "code again\n")
	h.Start(coded(first.Name, 23, strings.Repeat("0", 64), "true"))
	o := await(h, func(o sched.NotStarted) bool { return o.Ref.Job == 23 })
	if !strings.Contains(o.Reason, "the host has lost the code") {
		t.Errorf("it was not started: %s", o.Reason)
	}
}

// Other code, the same once more, and even who writes into it, leave alone what a run has.
func TestCodeStaysUnderARun(t *testing.T) {
	m := sshtest.Start(t)
	h := newHost(t, m)
	root := h.connected(m.Name).Facts.Root
	hash, other := h.keepCode("f", "one\n"), h.keepCode("f", "two\n")
	g := newGate(t)
	long := coded(m.Name, 1, hash, "cd $JOBSERVER_CODE; cat f; "+g.command()+
		"; cat f $JOBSERVER_CODE/f")
	h.Start(long)
	g.reached()
	h.Start(coded(m.Name, 2, other, "cat $JOBSERVER_CODE/f"))
	h.ends(job(m.Name, 2, ""), "two\n")
	// Where nobody may write, root can; others have to want it.
	h.Start(coded(m.Name, 3, other, "chmod u+w $JOBSERVER_CODE/f; echo mine > $JOBSERVER_CODE/f"))
	h.ends(job(m.Name, 3, ""), "")
	h.Start(coded(m.Name, 4, other, "cat $JOBSERVER_CODE/f"))
	h.ends(job(m.Name, 4, ""), "two\n")
	h.Start(coded(m.Name, 5, hash, "cat $JOBSERVER_CODE/f"))
	h.ends(job(m.Name, 5, ""), "one\n")
	if n := h.times("a job has written into its code"); n == 0 {
		t.Error("nobody was told that a job wrote into its code")
	}
	if got := strings.Join(copies(t, root), " "); strings.TrimSpace(got) != ".2" {
		t.Errorf("the copies are %q", got)
	}
	g.open(t)
	h.ends(long, "one\none\none\n")
}

// A connection that breaks while code is on its way costs time, and nothing else.
func TestCodeIsCut(t *testing.T) {
	m := sshtest.Start(t)
	p, alias := behindProxy(t, m)
	h := newHost(t, m)
	root := h.connected(alias).Facts.Root
	random := make([]byte, 4<<20)
	rand.NewChaCha8([32]byte{}).Read(random)
	hash := h.keepCode("random", string(random), "f", "there\n")
	p.ResetAfter(1 << 20)
	for jid := uint64(1); jid <= 4; jid++ {
		h.Start(coded(alias, jid, hash, "cat $JOBSERVER_CODE/f"))
	}
	await[sched.Away](h, nil)
	for jid := uint64(1); jid <= 4; jid++ {
		h.ends(job(alias, jid, ""), "there\n")
	}
	if n := h.times("sent code"); n != 1 {
		t.Errorf("the code was sent %d times", n)
	}
	if got := copies(t, root); len(got) != 1 || got[0] != "" {
		t.Errorf("the machine has %q", got)
	}
}

// Who is canceled while its code is on its way doesn't wait for it.
func TestCanceledBeforeItsCodeCame(t *testing.T) {
	m := sshtest.Start(t)
	h := newHost(t, m)
	h.connected(m.Name)
	hash := h.keepCode("f", "text")
	fifo := CodeArchive(h.opt.StateDir, hash)
	if err := os.Remove(fifo); err != nil {
		t.Fatal(err)
	}
	if err := exec.Command("mkfifo", fifo).Run(); err != nil {
		t.Fatal(err)
	}
	r := coded(m.Name, 1, hash, "true")
	h.Start(r)
	archive, err := os.OpenFile(fifo, os.O_WRONLY, 0) // it comes back when the archive is read
	if err != nil {
		t.Fatal(err)
	}
	h.Cancel(r.Ref)
	o := await(h, func(o sched.NotStarted) bool { return o.Ref.Job == 1 })
	if !strings.Contains(o.Reason, "canceled before it was started") {
		t.Errorf("it was not started: %s", o.Reason)
	}
	h.settled(&statepb.Obligation{Run: r.Ref})
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
}

// The record says which code a job ran, or that this isn't known.
func TestRecordOfCode(t *testing.T) {
	h := newHost(t, nil)
	h.connected("local")
	for i, test := range []struct{ name, command, want string }{
		{"as it was submitted", "true", `{"hash":"HASH"}`},
		{"caches", `cd "$JOBSERVER_CODE" && chmod u+w . && mkdir __pycache__`,
			`{"hash":"HASH","python_caches":true}`},
		{
			"written and hidden",
			`cd "$JOBSERVER_CODE" && touch -r f $JOBSERVER_SCRATCH/t && chmod u+w f &&` +
				` echo 2 > f && chmod a-w f && touch -r $JOBSERVER_SCRATCH/t f`,
			`{"submitted":"HASH","doubt":"when the job had ended, \"f\" was not what was submitted"}`,
		},
		{
			"added to", `cd "$JOBSERVER_CODE" && chmod u+w . && mkdir helper`,
			`{"submitted":"HASH","doubt":"when the job had ended, \"helper\" was not what was submitted"}`,
		},
	} {
		jid := uint64(i + 1)
		hash := h.keepCode("f", fmt.Sprint(i))
		r := coded("local", jid, hash, test.command+
			`; cd $JOBSERVER_SCRATCH; echo x > o; echo "RESULTS: $PWD/o"`)
		h.Start(r)
		c := results("local", jid, filepath.Join(t.TempDir(), "r"))
		c.Attempt = h.ends(r, h.logOf(r))
		c.Job.Code = &statepb.Code{Hash: hash}
		if got := h.copied(c); got.Error != "" {
			t.Fatalf("%s: %s", test.name, got.Error)
		}
		got, err := readRecord(below(t, c.Dest), plainRecord)
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(got.Code)
		if want := strings.ReplaceAll(test.want, "HASH", hash); err != nil || string(text) != want {
			t.Errorf("%s: it says %s, want %s: %v", test.name, text, want, err)
		}
	}
}
