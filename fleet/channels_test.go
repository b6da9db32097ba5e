package fleet

import (
	stdcmp "cmp"
	"crypto/sha256"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"jobserver/agent"
	"jobserver/ssh/sshtest"
	"jobserver/tests/budget"
)

// arrived is a sink that keeps what comes, and says how often it had files in the wrong order.
type arrived struct {
	sums  map[int]string
	bytes map[int]int64
	done  []agent.Fetched
	data  []byte // of the current file
	wrong int
}

func (a *arrived) Data(file int, p []byte) error {
	if file != len(a.done) {
		a.wrong++
	}
	a.data = append(a.data, p...)
	return nil
}

func (a *arrived) Hole(file int, n int64) error { return a.Data(file, make([]byte, n)) }

func (a *arrived) Done(file int, f agent.Fetched) error {
	if file != len(a.done) {
		a.wrong++
	}
	if a.sums == nil {
		a.sums, a.bytes = map[int]string{}, map[int]int64{}
	}
	a.sums[file], a.bytes[file] = fmt.Sprintf("%x", sha256.Sum256(a.data)), int64(len(a.data))
	a.data = nil
	a.done = append(a.done, f)
	return nil
}

// farHost is a fleet that is connected to a machine behind a proxy.
func farHost(t *testing.T) (h *host, alias string, proxy *sshtest.Proxy) {
	t.Helper()
	m := sshtest.Start(t)
	proxy, alias = behindProxy(t, m)
	h = newHost(t, m)
	h.connected(alias)
	return h, alias, proxy
}

// far is a link to a machine behind a proxy that delays what comes.
func far(t *testing.T, delay time.Duration) (*link, *sshtest.Proxy) {
	t.Helper()
	h, alias, proxy := farHost(t)
	l, err := h.open(t.Context(), t.Context(), alias, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	proxy.SetDelay(delay)
	return l, proxy
}

// wanted makes files of such sizes, and the request for them.
func wanted(t *testing.T, sizes ...int64) (r agent.FetchRequest, sums map[int]string) {
	t.Helper()
	dir := t.TempDir()
	sums = map[int]string{}
	for i, size := range sizes {
		name := filepath.Join(dir, fmt.Sprint(i))
		data := make([]byte, size)
		for k := range data {
			data[k] = byte(k*(i+7)>>7) | 1
		}
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		r.Files = append(
			r.Files,
			agent.FetchFile{Source: name, Size: size, ModTime: info.ModTime()},
		)
		sums[i] = fmt.Sprintf("%x", sha256.Sum256(data))
	}
	return r, sums
}

// Whatever the files are like, and whatever becomes of them and of a channel, the sink gets them in
// order, as from one.
func TestChannels(t *testing.T) {
	l, _ := far(t, 5*time.Millisecond)
	const mb = 1 << 20
	r, sums := wanted(t, 0, 10, 3*mb, mb, mb+1, 100, 2*mb-1, 5*mb, 7, 4*mb, 0)
	r.Files[2].Offset = 2*mb + 17 // gone on with
	r.Files[7].ModTime = time.Unix(1, 0)
	r.Files[8].Source += "-none"
	broken, _ := wanted(t, 3*mb)
	r.Files = append(r.Files, broken.Files...)
	if err := os.Truncate(broken.Files[0].Source, 2*mb); err != nil {
		t.Fatal(err)
	}
	var want arrived
	if err := l.client.Fetch(t.Context(), r, &want); err != nil {
		t.Fatal(err)
	}
	for round := range 3 {
		var got arrived
		if err := l.source.Fetch(t.Context(), r, &got); err != nil {
			t.Fatal(err)
		}
		for i := range got.done { // checksums are those of parts, and a reason names what was tried
			got.done[i].CRC, want.done[i].CRC = 0, 0
			if got.done[i].Status != agent.FetchOK {
				got.done[i].Bytes, want.done[i].Bytes = 0, 0
				continue
			}
			if i != 2 && got.sums[i] != sums[i] {
				t.Errorf("file %d differs", i)
			}
		}
		if diff := cmp.Diff(
			want.done,
			got.done,
		); diff != "" || got.wrong > 0 ||
			got.sums[2] != want.sums[2] {
			t.Errorf("round %d: %d times in the wrong order\n%s", round, got.wrong, diff)
		}
		all, _ := l.source.all()
		switch {
		case round == 0 && len(all) == 1:
			grown(l.source) // whatever the network is like here
		case round == 1:
			all[1].Close()
		}
	}
}

// A machine that sends more than it was asked for fills no memory.
func TestPieceIsBounded(t *testing.T) {
	t.Parallel()
	var pieces []*piece
	c := cutter{files: []agent.FetchFile{
		{Source: "/a", Size: 3 << 20}, {Source: "/b", Size: 5}, {Source: "/c"},
	}}
	for p := c.next(); p != nil; p = c.next() {
		pieces = append(pieces, p)
	}
	if len(pieces) != 7 || pieces[5].files[0].Until != 3<<20 || !pieces[5].ends || pieces[4].ends ||
		len(pieces[6].files) != 2 {
		t.Fatalf("%d pieces", len(pieces))
	}
	for _, p := range pieces {
		p.room = p.size
	}
	if err := pieces[0].Data(0, make([]byte, pieceSize+1)); err == nil ||
		!strings.Contains(err.Error(), "/a") {
		t.Errorf("more than a piece: %v", err)
	}
	if err := pieces[6].Hole(0, 6); err == nil {
		t.Error("a hole longer than the file was taken")
	}
	var err error
	for range pieceSize / 2 {
		if err = stdcmp.Or(pieces[1].Data(0, []byte{1}), pieces[1].Hole(0, 1)); err != nil {
			break
		}
	}
	if err == nil || !strings.Contains(err.Error(), "too many pieces") {
		t.Errorf("holes between all bytes: %v", err)
	}
}

// TestHugeFilesAreCutOneByOne: a machine may say that a file has as many bytes as a number can be,
// and a job can have one that is all hole.
func TestHugeFilesAreCutOneByOne(t *testing.T) {
	for _, size := range []int64{1 << 42, math.MaxInt64 - 1, math.MaxInt64} {
		end := budget.Hold(t, 1<<20)
		files := []agent.FetchFile{
			{Source: "/a", Size: size, Offset: 7}, {Source: "/b", Size: size, Offset: size - 1},
		}
		if isLittle(files) {
			t.Errorf("%d bytes are little", size)
		}
		c := cutter{files: files}
		for at := int64(7); at < 100*pieceSize; at += pieceSize {
			p := c.next()
			if f := p.files[0]; f.Offset != at || f.Until != at+pieceSize || p.ends {
				t.Fatalf("of %d bytes at %d: %+v", size, at, p)
			}
		}
		c.taken = size - 7 - 10 // near the end
		if p := c.next(); p.size != 10 || !p.ends || p.files[0].Until != size {
			t.Errorf("the end of %d bytes: %+v", size, p)
		}
		if p := c.next(); p.index != 1 || p.size != 1 || !p.ends || c.next() != nil {
			t.Errorf("after %d bytes: %+v", size, p)
		}
		end()
	}
}
