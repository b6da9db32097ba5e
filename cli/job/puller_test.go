package job

import (
	"context"
	"crypto/sha256"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"jobserver/api"
)

// hostileDaemon answers for one job whatever the test wants.
type hostileDaemon struct {
	files []api.File
	read  func(part api.FilePart) api.FileData
}

func (d *hostileDaemon) Call(_ context.Context, method string, args, reply any) error {
	switch method {
	case "JobFiles":
		reply.(*api.FilesReply).Files = d.files
	case "ReadFiles":
		for _, part := range args.(*api.ReadFilesArgs).Parts {
			reply.(*api.ReadFilesReply).Parts = append(reply.(*api.ReadFilesReply).Parts,
				d.read(part))
		}
	}
	return nil
}

func (d *hostileDaemon) Close() error { return nil }

func whole(text string) func(api.FilePart) api.FileData {
	sum := sha256.Sum256([]byte(text))
	return func(part api.FilePart) api.FileData {
		return api.FileData{Data: []byte(text)[min(int(part.Offset), len(text)):],
			Size: int64(len(text)), MTime: time.Unix(1, 0), SHA256: sum[:]}
	}
}

// TestPullStaysInside: whatever a daemon names, nothing is written outside of the job's directory,
// and what it sends is taken only if it is what it says.
func TestPullStaysInside(t *testing.T) {
	regular := func(names ...string) (files []api.File) {
		for _, name := range names {
			files = append(files, api.File{Name: name, Size: 5, Mode: 0o644})
		}
		return files
	}
	for name, test := range map[string]struct {
		daemon hostileDaemon
		want   string // in the error or a problem; "" : all is well
	}{
		"well":          {hostileDaemon{regular("a"), whole("hello")}, ""},
		"parent":        {hostileDaemon{regular("../evil"), whole("hello")}, "isn't below"},
		"absolute":      {hostileDaemon{regular("/tmp/evil"), whole("hello")}, "isn't below"},
		"hidden parent": {hostileDaemon{regular("d/../../evil"), whole("hello")}, "isn't below"},
		"nothing":       {hostileDaemon{regular(""), whole("hello")}, "isn't below"},
		"log in a folder": {hostileDaemon{[]api.File{{Name: "d/x", Log: true, Size: 5}},
			whole("hello")}, "isn't below"},
		"link out": {hostileDaemon{[]api.File{{Name: "l", Target: "../evil"}},
			whole("hello")}, "leads out"},
		"absolute link": {hostileDaemon{[]api.File{{Name: "l", Target: "/etc"}}, whole("hello")},
			"leads out"},
		"through a link": {hostileDaemon{append([]api.File{{Name: "d", Target: "."}},
			regular("d/a")...), whole("hello")}, "d/a"},
		"wrong sum": {hostileDaemon{regular("a"), func(api.FilePart) api.FileData {
			return api.FileData{Data: []byte("hello"), Size: 5, SHA256: make([]byte, sha256.Size)}
		}}, "changes while"},
		"never a byte": {hostileDaemon{regular("a"), func(api.FilePart) api.FileData {
			return api.FileData{Size: 5}
		}}, "sends nothing"},
		"a refusal": {hostileDaemon{regular("a"), func(api.FilePart) api.FileData {
			return api.FileData{Error: "permission denied"}
		}}, "permission denied"},
		"setuid": {hostileDaemon{[]api.File{{Name: "a", Size: 5, Mode: 0o4755}},
			whole("hello")}, ""},
	} {
		top := t.TempDir()
		to := filepath.Join(top, "jobs", "1")
		p := &puller{d: &test.daemon, job: &api.Job{JID: 1}}
		err := p.pull(t.Context(), to)
		said := strings.Join(p.problems, "\n")
		if err != nil {
			said += err.Error()
		}
		if (said == "") != (test.want == "") || !strings.Contains(said, test.want) {
			t.Errorf("%s: %q, want %q", name, said, test.want)
		}
		if found, _ := filepath.Glob(filepath.Join(top, "*")); len(found) != 1 {
			t.Errorf("%s: outside there is %q", name, found)
		}
		if st, err := os.Lstat(filepath.Join(to, "a")); err == nil && st.Mode()&os.ModeSetuid != 0 {
			t.Errorf("%s: it is %v", name, st.Mode())
		}
	}
}

// TestPullDirectory: which last word is a directory.
func TestPullDirectory(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.Mkdir("results", 0o700); err != nil {
		t.Fatal(err)
	}
	for word, want := range map[string]bool{
		".": true, "..": true, "./x": true, "/tmp": true, "a/b": true, "results": true,
		"nothing": false, "7": false, "3..9": false,
		"last": false, "%93": false, "%a/b": false, "@tag": false, ":failed": false,
		"class=foo": false, "machine=a/b": false, "./A=1/x": true, "2026/runs": false,
		"./2026/runs": true, "": false,
	} {
		if got := isPath(word); got != want {
			t.Errorf("%q: %v", word, got)
		}
	}
}
