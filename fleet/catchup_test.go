package fleet

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"jobserver/agent"
)

// noise is a file of n bytes that are no repetition.
func noise(t *testing.T, name string, n int) []byte {
	t.Helper()
	data := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(n)}).Read(data) // it never fails
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return data
}

// TestCatchUp: the log of a machine that is far away comes over several channels, both streams in
// order and without a gap, whatever becomes of a channel, and up to the last piece.
func TestCatchUp(t *testing.T) {
	l, _ := far(t, 5*time.Millisecond)
	l.source.roundTrip(t.Context())
	m := &machine{f: &Fleet{space: logSpace{dir: t.TempDir()}}}
	dir := t.TempDir()
	out := noise(t, filepath.Join(dir, "out"), 9<<20+123)
	errs := noise(t, filepath.Join(dir, "err"), 3<<20+1)
	spec := agent.Spec{
		Run:     agent.RunID{Server: "s", Machine: "m", Job: 1, Attempt: 1, Token: "t"},
		Command: fmt.Appendf(nil, "cat %s/out; cat %[1]s/err >&2", dir),
	}
	if _, err := l.client.Start(t.Context(), []agent.Spec{spec}); err != nil {
		t.Fatal(err)
	}
	reply := agent.PollReply{}
	for reply.State != agent.Ended {
		var err error
		reply, err = l.client.Poll(t.Context(), agent.PollRequest{
			Run: spec.Run, Wait: time.Minute, Most: 1,
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
	}
	if want := int64(len(out) + len(errs)); reply.Sizes[0]+reply.Sizes[1] != want {
		t.Fatalf("the streams have %v bytes, not %d", reply.Sizes, want)
	}
	for round, broken := range []bool{false, false, true} {
		if round == 1 {
			grown(l.source) // whatever the network is like here
		}
		if all, _ := l.source.all(); broken {
			all[1].Close()
		}
		r := &run{id: spec.Run, ctx: t.Context()}
		r.out.path = filepath.Join(t.TempDir(), "out")
		r.err.path = filepath.Join(t.TempDir(), "err")
		if err := r.openLogs(); err != nil {
			t.Fatal(err)
		}
		if err := r.out.append(out[:5]); err != nil { // what a poll has brought
			t.Fatal(err)
		}
		if err := m.catchUpOver(t.Context(), l, r, reply); err != nil || !r.wide || r.narrow {
			t.Fatalf("round %d: %v; wide %v, narrow %v", round, err, r.wide, r.narrow)
		}
		for _, s := range []struct {
			file *logFile
			want []byte
		}{{&r.out, out}, {&r.err, errs}} {
			got, err := os.ReadFile(s.file.path)
			if err != nil || !bytes.HasPrefix(s.want, got) || len(s.want)-len(got) >= pieceSize {
				t.Errorf("round %d: %d bytes of %d came: %v", round, len(got), len(s.want), err)
			}
		}
	}
}

// TestLogOfLess: of a machine that says that it has more than it has, what there is comes once, and
// then by polls.
func TestLogOfLess(t *testing.T) {
	l, _ := far(t, 5*time.Millisecond)
	l.source.roundTrip(t.Context())
	m := &machine{f: &Fleet{space: logSpace{dir: t.TempDir()}}}
	r := &run{
		id:  agent.RunID{Server: "s", Machine: "m", Job: 1, Attempt: 1, Token: "t"},
		ctx: t.Context(),
	}
	r.out.path, r.err.path = filepath.Join(t.TempDir(), "o"), filepath.Join(t.TempDir(), "e")
	reply := agent.PollReply{}
	reply.Sizes[agent.Stdout] = 1 << 60
	err := m.catchUpOver(t.Context(), l, r, reply)
	if err != nil || r.wide || !r.narrow || r.most(l) != 0 {
		t.Errorf("%v; wide %v, narrow %v, a poll brings %d", err, r.wide, r.narrow, r.most(l))
	}
}

// TestDyingConnections: results and logs are exact, to the byte, although connections to a machine
// that is far away die again and again.
func TestDyingConnections(t *testing.T) {
	h, alias, proxy := farHost(t)
	proxy.SetDelay(4 * time.Millisecond)
	const mb = 1 << 20
	random := rand.New(rand.NewPCG(1, 2))
	died := 0
	proxy.SetLife(func() int64 {
		died++
		return 3*mb + random.Int64N(5*mb)
	})
	proxy.Reset()
	dir := t.TempDir()
	want := map[string]string{"7": "/", "7/d": "/"}
	want["7/large"] = string(noise(t, filepath.Join(dir, "large"), 12*mb+7))
	if err := os.Mkdir(filepath.Join(dir, "d"), 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range 300 {
		name := fmt.Sprintf("d/%d", i)
		want["7/"+name] = string(noise(t, filepath.Join(dir, name), 3000+i))
	}
	log := string(noise(t, filepath.Join(dir, "log"), 12*mb+1))
	r := job(alias, 7, "cat "+filepath.Join(dir, "log"))
	h.Start(r)
	h.ends(r, log)
	dest := filepath.Join(t.TempDir(), "7")
	c := results(alias, 7, dest, filepath.Join(dir, "large"), filepath.Join(dir, "d"))
	if out := h.copied(c); out.Error != "" {
		t.Error(out.Error)
	}
	got := tree(t, filepath.Dir(dest))
	for name, content := range want {
		if got[name] != content {
			t.Errorf("%s differs: %d bytes, not %d", name, len(got[name]), len(content))
		}
	}
	if len(got) != len(want) || died < 4 {
		t.Errorf("%d results, not %d; %d connections were made", len(got), len(want), died)
	}
}
