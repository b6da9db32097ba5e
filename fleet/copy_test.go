package fleet

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"jobserver/sched"
	"jobserver/sched/statepb"
	"jobserver/ssh/sshtest"
)

// tree describes what is below dir, except records: a file by
// its content, a directory by "/", a link by its target.
func tree(t testing.TB, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		switch {
		case strings.HasSuffix(name, "job.json"):
		case d.IsDir():
			all[name] = "/"
		case d.Type()&os.ModeSymlink != 0:
			target, err := os.Readlink(path)
			all[name] = "-> " + target
			return err
		default:
			data, err := os.ReadFile(path)
			all[name] = string(data)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// plant makes what tree describes.
func plant(t testing.TB, dir string, all map[string]string) {
	t.Helper()
	for name, what := range all {
		path := filepath.Join(dir, name)
		parent := filepath.Dir(path)
		if what == "/" {
			parent = path
		}
		err := os.MkdirAll(parent, 0o755)
		target, link := strings.CutPrefix(what, "-> ")
		switch {
		case err != nil || what == "/":
		case link:
			err = os.Symlink(target, path)
		default:
			err = os.WriteFile(path, []byte(what), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// results is a copy of what is at the paths on this host.
func results(addr string, jid uint64, dest string, paths ...string) sched.Copy {
	return sched.Copy{
		Job: &statepb.Job{Id: jid, Class: "c", Cmd: []byte("make {X}")},
		Attempt: &statepb.Attempt{Number: 1, Machine: addr, Results: paths,
			CmdRun: []byte("make 1")},
		Machine: &statepb.Machine{Addr: addr, Os: "linux", Cores: 2},
		Dest:    dest,
	}
}

func (h *host) copied(c sched.Copy) sched.CopyEnded {
	h.t.Helper()
	h.Copy(c)
	return await(h, func(o sched.CopyEnded) bool { return o.Job == c.Job.Id })
}

// partOf is where the results of a copy are gathered.
func (h *host) partOf(c sched.Copy) string {
	return filepath.Join((&copying{Copy: c}).partDir(), h.partName((&copying{Copy: c}).id()))
}

func TestCopy(t *testing.T) {
	everything := map[string]string{
		"one file": "1", "empty": "", "it's \"quoted\"": "2", "run.a": "3", "run.b": "4",
		"dir": "/", "dir/x": "5",
		"dir/sub/y": "6", "dir/void": "/", "dir/link": "-> sub/y", "dir/out": "-> ../one file",
		"dir/abs": "-> /etc/passwd", "dir/sub/up": "-> ../x", "other/x": "7", "other/one file": "8",
	}
	tests := []struct {
		name   string
		paths  []string
		before map[string]string // in the destination's parent
		want   map[string]string // likewise
		err    string            // a part of it
		shared bool
	}{
		{name: "a file", paths: []string{"one file"},
			want: map[string]string{"7": "/", "7/one file": "1"}},
		{name: "quotes", paths: []string{"it's \"quoted\""},
			want: map[string]string{"7": "/", "7/it's \"quoted\"": "2"}},
		{name: "nothing in it", paths: []string{"empty"},
			want: map[string]string{"7": "/", "7/empty": ""}},
		{name: "a glob", paths: []string{"run.*"},
			want: map[string]string{"7": "/", "7/run.a": "3", "7/run.b": "4"}},
		{name: "a prefix", paths: []string{"run"},
			want: map[string]string{"7": "/", "7/run.a": "3", "7/run.b": "4"}},
		{
			name: "a directory", paths: []string{"dir"}, err: "leads out",
			want: map[string]string{
				"7": "/", "7/dir": "/", "7/dir/x": "5", "7/dir/sub": "/", "7/dir/sub/y": "6",
				"7/dir/void": "/",
				"7/dir/link": "-> sub/y", "7/dir/sub/up": "-> ../x",
			},
		},
		{name: "the same twice", paths: []string{"run.a", "run.a"},
			want: map[string]string{"7": "/", "7/run.a": "3"}},
		{name: "one name for two", paths: []string{"one file", "other/one file"},
			want: map[string]string{"7": "/", "7/one file": "1"}, err: "one file"},
		{name: "missing", paths: []string{"nowhere"}, want: map[string]string{},
			err: "results are missing: nowhere"},
		{
			name: "one missing", paths: []string{"nowhere", "run.a"},
			err:  "results are missing: nowhere",
			want: map[string]string{"7": "/", "7/run.a": "3"},
		},
		{
			name: "into what is there", paths: []string{"run.a", "dir/sub"},
			before: map[string]string{"7/old": "x", "7/sub/z": "y", "7/sub/y": "6"},
			want: map[string]string{"7": "/", "7/old": "x", "7/run.a": "3", "7/sub": "/",
				"7/sub/z": "y", "7/sub/y": "6"},
			err: "leads out",
		},
		{
			name: "a taken name", paths: []string{"empty", "run.a"},
			before: map[string]string{"7/run.a": "of somebody"},
			want:   map[string]string{"7": "/", "7/run.a": "of somebody"},
			err:    "7/run.a exists already",
		},
		{
			name: "a link in the way", paths: []string{"dir/sub"},
			before: map[string]string{"7/sub": "-> ../elsewhere", "elsewhere": "/"},
			want:   map[string]string{"7": "/", "7/sub": "-> ../elsewhere", "elsewhere": "/"},
			err:    "7/sub exists already",
		},
		{
			name: "shared", paths: []string{"run.a"}, shared: true,
			before: map[string]string{"7/run.b": "of another"},
			want:   map[string]string{"7": "/", "7/run.a": "3", "7/run.b": "of another"},
		},
		{
			name: "shared and taken", paths: []string{"run.a", "run.b"}, shared: true,
			before: map[string]string{"7/run.b": "of another"},
			want:   map[string]string{"7": "/", "7/run.b": "of another"},
			err:    "7/run.b exists already",
		},
	}
	h := newHost(t, nil)
	h.connected("local")
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			from, to := t.TempDir(), t.TempDir()
			plant(t, from, everything)
			plant(t, to, test.before)
			for i, p := range test.paths {
				test.paths[i] = filepath.Join(from, p)
			}
			c := results("local", uint64(i+1), filepath.Join(to, "7"), test.paths...)
			c.Shared = test.shared
			got := h.copied(c)
			want := strings.ReplaceAll(test.err, "nowhere", filepath.Join(from, "nowhere"))
			if !strings.Contains(got.Error, want) || test.err == "" && got.Error != "" {
				t.Errorf("the error is %q, want %q", got.Error, want)
			}
			if diff := cmp.Diff(test.want, tree(t, to)); diff != "" {
				t.Errorf("it is not as it should be:\n%s", diff)
			}
		})
	}
}

// More results are named than go into one request.
func TestCopyOfManyPaths(t *testing.T) {
	h := newHost(t, nil)
	from, to := t.TempDir(), t.TempDir()
	plant(t, from, map[string]string{"first": "1", "last": "2"})
	paths := []string{filepath.Join(from, "first")}
	for i := range 70_000 {
		paths = append(paths, fmt.Sprintf("%s/none/%d", from, i))
	}
	h.connected("local")
	got := h.copied(results("local", 5, filepath.Join(to, "5"),
		append(paths, filepath.Join(from, "last"))...))
	if got.Files != 2 || !strings.HasPrefix(got.Error, "results are missing") {
		t.Errorf("the copy ended with %+v", got)
	}
}

func TestCopyRecord(t *testing.T) {
	h := newHost(t, nil)
	from, to := t.TempDir(), t.TempDir()
	plant(t, from, map[string]string{"out": "abc"})
	if err := os.Chmod(filepath.Join(from, "out"), 0o640); err != nil {
		t.Fatal(err)
	}
	h.connected("local")
	c := results("local", 5, filepath.Join(to, "5"), filepath.Join(from, "out"))
	c.Job.Vars = []*statepb.Var{{Name: "X", Value: []byte("1")},
		{Name: "KEY", Secret: true, Value: []byte("hush")}}
	got := h.copied(c)
	if got.Error != "" || got.Files != 1 || got.Bytes != 3 || got.Dir != c.Dest {
		t.Errorf("the copy ended with %+v", got)
	}
	data, err := os.ReadFile(filepath.Join(to, "5", "job.json"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(data), "hush") {
		t.Error("the record tells a secret")
	}
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	want := []recordResult{{
		Name: "out", Source: filepath.Join(from, "out"), Kind: "file", Bytes: 3, Mode: "0640",
		MTime:  r.Results[0].MTime,
		SHA256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
	}}
	if diff := cmp.Diff(want, r.Results); diff != "" {
		t.Error(diff)
	}
	if r.JID != 5 || r.Cmd != "make {X}" || r.CmdRun != "make 1" || !r.Complete ||
		r.ServerID != "srv" {
		t.Errorf("the record says %s", data)
	}
	info, err := os.Stat(filepath.Join(to, "5", "out"))
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("the result has %v, %v", info.Mode(), err)
	}
	left, err := filepath.Glob(filepath.Join(to, ".jobserver*"))
	if err != nil || len(left) > 0 {
		t.Errorf("%q stays", left)
	}

	h.halt()
	// the report got lost: the copy is asked for once more, when the files on the machine are gone
	h.run()
	if err := os.RemoveAll(from); err != nil {
		t.Fatal(err)
	}
	h.connected("local")
	if got := h.copied(c); got.Error != "" || got.Files != 1 {
		t.Errorf("the finished copy ended with %+v", got)
	}
}

// A result keeps its name if that is the record's: the record gives way. One that an
// earlier, incomplete copy left under the name gives way, too; somebody's file doesn't.
func TestCopyOfRecordsName(t *testing.T) {
	h := newHost(t, nil)
	from, to := t.TempDir(), t.TempDir()
	plant(t, from, map[string]string{"out": "abc"})
	h.connected("local")
	copied := func(jid uint64) sched.CopyEnded {
		h.mu.Lock()
		h.reports = nil
		h.mu.Unlock()
		return h.copied(results("local", jid, filepath.Join(to, "5"), filepath.Join(from, "out"),
			filepath.Join(from, "job.json")))
	}
	if got := copied(5); !strings.Contains(got.Error, "results are missing") {
		t.Fatalf("the first copy ended with %+v", got)
	}
	plant(t, from, map[string]string{"job.json": "the job's"})
	for range 2 { // the second finds that it was done before
		if got := copied(5); got.Error != "" || got.Files != 2 {
			t.Fatalf("the copy ended with %+v", got)
		}
		got, err := os.ReadFile(filepath.Join(to, "5", "job.json"))
		if err != nil || string(got) != "the job's" {
			t.Errorf("the result is %q, %v", got, err)
		}
		text, err := os.ReadFile(filepath.Join(to, "5", "5.job.json"))
		var r record
		if err == nil {
			err = json.Unmarshal(text, &r)
		}
		if err != nil || r.JID != 5 || len(r.Results) != 2 {
			t.Errorf("the record is %s: %v", text, err)
		}
	}
	plant(t, from, map[string]string{"job.json": "another's"})
	if got := copied(6); !strings.Contains(got.Error, "5/job.json exists already") {
		t.Errorf("over another job's it ended with %+v", got)
	}
}

// Of what an interrupted copy left, only results come to the destination.
func TestCopyLeftOver(t *testing.T) {
	h := newHost(t, nil)
	h.connected("local")
	for i, shared := range []bool{false, true} {
		t.Run(fmt.Sprintf("shared=%v", shared), func(t *testing.T) {
			from, to := t.TempDir(), t.TempDir()
			want := map[string]string{"a": "1", "dir": "/", "dir/x": "2", "dir/void": "/",
				"dir/link": "-> x"}
			plant(t, from, want)
			c := results("local", uint64(i+1), filepath.Join(to, "results"),
				filepath.Join(from, "a"), filepath.Join(from, "dir"))
			c.Shared = shared
			part := h.partOf(c)
			plant(t, filepath.Join(part, partFiles), map[string]string{
				"a": "old", "gone": "3", "job.diff": "4", "dir/gone": "5", "dir/void/gone": "-> x",
				"old/sub/x": "6",
			})
			left := &transfer{f: h.Fleet, c: &copying{Copy: c},
				note: copyNote{Part: part, BootID: h.bootID}}
			if err := left.keepNote(); err != nil {
				t.Fatal(err)
			}
			if got := h.copied(c); got.Error != "" || got.Files != 2 {
				t.Errorf("the copy ended with %+v", got)
			}
			if diff := cmp.Diff(want, tree(t, c.Dest)); diff != "" {
				t.Errorf("it is not as it should be:\n%s", diff)
			}
		})
	}
}

// A copy that is cut goes on where it was, whether the connection or the daemon broke off.
func TestCopyCut(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprintf("restart=%v", restart), func(t *testing.T) {
			m := sshtest.Start(t)
			proxy, alias := behindProxy(t, m)
			h := newHost(t, m)
			h.connected(alias)
			from, to := t.TempDir(), t.TempDir()
			big := make([]byte, 40<<20)
			for i := range big {
				big[i] = byte(i * 7 >> 8)
			}
			plant(t, from, map[string]string{"a": "1", "z": "2", "big": string(big)})
			// A copy of little opens the bulk connection, so that what is cut below is the
			// transfer.
			if got := h.copied(results(alias, 1, filepath.Join(to, "1"),
				filepath.Join(from, "a"))); got.Error != "" {
				t.Fatal(got.Error)
			}
			proxy.ResetAfter(20 << 20)
			c := results(alias, 2, filepath.Join(to, "2"), filepath.Join(from, "a"),
				filepath.Join(from, "big"), filepath.Join(from, "z"))
			h.Copy(c)
			await[sched.CopyWaits](h, nil)
			info, err := os.Stat(filepath.Join(h.partOf(c), partFiles, "big"))
			if err != nil || info.Size() == 0 || info.Size() >= int64(len(big)) {
				t.Errorf("of the large file is there %v, %v", info, err)
			}
			if restart {
				h.halt()
			}
			if restart {
				h.run()
				h.connected(alias)
				h.Copy(c)
			}
			got := await(h, func(o sched.CopyEnded) bool { return o.Job == 2 })
			if got.Error != "" || got.Files != 3 || got.Bytes != int64(len(big))+2 {
				t.Errorf("the copy ended with %+v", got)
			}
			if diff := cmp.Diff(map[string]string{"a": "1", "z": "2", "big": string(big)},
				tree(t, filepath.Join(to, "2"))); diff != "" {
				t.Errorf("the results differ (%d bytes of difference)", len(diff))
			}
		})
	}
}
