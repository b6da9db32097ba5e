package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"jobserver/agent"
	"jobserver/redact"
	"jobserver/sched"
	"jobserver/sched/statepb"
)

// said is a machine that says what it likes of its results: each line is one of
//
//	name/            a directory
//	name -> target   a symbolic link
//	name=content     a file
type said struct {
	lines   []string
	fetched int         // files that were asked for
	between func(n int) // called before file n comes
}

func (s *said) entries() (all []agent.Entry) {
	for _, line := range s.lines {
		e := agent.Entry{Kind: agent.File, Mode: 0o644, ModTime: time.Unix(1e9, 0)}
		if name, target, ok := strings.Cut(line, " -> "); ok {
			e.Name, e.Kind, e.Target = name, agent.Symlink, target
		} else if name, ok := strings.CutSuffix(line, "/"); ok {
			e.Name, e.Kind, e.Mode = name, agent.Dir, 0o755
		} else {
			name, content, _ := strings.Cut(line, "=")
			e.Name, e.Size = name, int64(len(content))
		}
		e.Source = "/m/" + e.Name
		all = append(all, e)
	}
	return all
}

func (s *said) Manifest(context.Context, agent.ManifestRequest) (agent.Manifest, error) {
	return agent.Manifest{Entries: s.entries()}, nil
}

func (s *said) Fetch(_ context.Context, r agent.FetchRequest, to agent.Sink) error {
	content := map[string]string{}
	for _, line := range s.lines {
		if name, text, ok := strings.Cut(line, "="); ok {
			content["/m/"+name] = text
		}
	}
	for i, f := range r.Files {
		s.fetched++
		if s.between != nil {
			s.between(i)
		}
		text := content[f.Source][f.Offset:]
		if err := to.Data(i, []byte(text)); err != nil && text != "" {
			return err
		}
		if err := to.Done(i, agent.Fetched{Bytes: int64(len(text))}); err != nil {
			return err
		}
	}
	return nil
}

// daemon is a fleet without machines, on a state directory of its own.
func daemon(t testing.TB, server string) *Fleet {
	t.Helper()
	state := t.TempDir()
	opt := Options{
		ServerID: server,
		StateDir: state,
		LogDir:   filepath.Join(state, "logs"),
		Binary:   "/bin/true",
		Report:   func(sched.Outcome) {},
		Log:      slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	f, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// copyFrom copies what a machine says into a directory, as job jid.
func (f *Fleet) copyFrom(
	from source,
	jid uint64,
	dest string,
	shared bool,
) (sched.CopyEnded, error) {
	c := results("m", jid, dest, "o")
	c.Shared = shared
	copying := &copying{Copy: c, ctx: context.Background()}
	out, err := (&transfer{f: f, from: from, c: copying}).run(context.Background())
	if err != nil { // as copyError does
		err = errors.Join(err, f.discard(copying))
	}
	return out, err
}

// What a machine says, and what earlier jobs have left in the destination, leads nothing elsewhere.
func TestHostileResults(t *testing.T) {
	t.Parallel()
	type job struct {
		lines  []string
		below  string // of CP_PATH
		shared bool
		want   string // a part of the error; "" none
	}
	for name, jobs := range map[string][]job{
		"a directory becomes a link": {
			{lines: []string{"d/", "d/1/", "d/1/s/", "d/1/s -> ..", "d/1/s/passwd -> " +
				"../../../../../etc/passwd"}, want: "two results"},
		},
		"a link first": {
			{lines: []string{"d/", "d/1/", "d/1/s -> ..", "d/1/s/", "d/1/s/x=1"},
				want: "two results"},
		},
		"by way of a link": {
			{lines: []string{"d/", "d/1/", "d/1/s -> ..", "d/l -> 1/s/../../x"}, want: "leads out"},
		},
		"links to links": {
			{lines: []string{"d/", "d/a/", "d/a/b/", "d/a/b/up -> ../..", "d/l -> a/b/up/../..",
				"d/in -> a/b/up/a"}, want: "leads out"},
		},
		"out by what comes later": {
			{lines: []string{"d/", "d/l -> e/../../x"}, shared: true, want: "leads out"},
			{lines: []string{"d/", "d/e/"}, shared: true},
		},
		"below a link of another job": {
			{lines: []string{"d/", "d/in/", "d/l -> in"}, shared: true},
			{lines: []string{"l/", "l/x=1"}, shared: true, below: "d", want: "d/l exists already"},
			{lines: []string{"l=1"}, shared: true, below: "d", want: "d/l exists already"},
		},
		"a CP_PATH among results": {
			{lines: []string{"d/", "d/e/", "d/e/l -> ../.."}, shared: true, want: "leads out"},
			{lines: []string{"e/", "e/l/", "e/l/x=1"}, shared: true, below: "d"},
		},
		"records of others": {
			{lines: []string{"2.job.json={}", "job.json={}"}, shared: true, want: "such names"},
			{lines: []string{"x=1"}, shared: true},
		},
		"parts of others": {
			{
				lines:  []string{".jobserver-srv-2.1.part/", ".jobserver-srv-2.1.part/files -> .."},
				shared: true,
				want:   "the daemon's own",
			},
			{lines: []string{"x=1"}, shared: true},
		},
		"names": {{lines: []string{"a//b=1", "../x=1"}, want: "directory of the results"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			top := t.TempDir()
			plant(t, top, map[string]string{"home": "/", "home/.bashrc": "mine", "passwd": "root"})
			f := daemon(t, "srv")
			for i, job := range jobs {
				dest := filepath.Join(top, "home", "r", job.below)
				if !job.shared {
					dest = filepath.Join(dest, fmt.Sprint(i+1))
				}
				out, err := f.copyFrom(&said{lines: job.lines}, uint64(i+1), dest, job.shared)
				got := out.Error
				if err != nil {
					got = err.Error()
				}
				if !strings.Contains(got, job.want) || job.want == "" && got != "" {
					t.Errorf("job %d: the error is %q, want %q", i+1, got, job.want)
				}
			}
			for name, what := range tree(t, top) {
				if target, link := strings.CutPrefix(what, "-> "); link {
					real, err := filepath.EvalSymlinks(filepath.Join(top, name))
					if err == nil && !strings.HasPrefix(real, filepath.Join(top, "home", "r")+"/") {
						t.Errorf("%s leads to %s, which is %s", name, target, real)
					}
				}
				if !strings.HasPrefix(name, "home/r") && name != "home" && name != "home/.bashrc" &&
					name != "passwd" {
					t.Errorf("%s is outside", name)
				}
				if strings.Contains(name, ourNames) {
					t.Errorf("%s is left", name)
				}
			}
			if got := tree(t, top); got["home/.bashrc"] != "mine" || got["passwd"] != "root" {
				t.Errorf("it has written elsewhere: %v", got)
			}
		})
	}
}

// That a job's results are in place is nothing that a file could say.
func TestForgedRecord(t *testing.T) {
	t.Parallel()
	dest := t.TempDir()
	f := daemon(t, "srv")
	forged := `{"jid":2,"server_id":"srv","attempt":1,"complete":true,"results":[{"name":"numbers.csv","kind":"file","bytes":8}]}`
	plant(t, dest, map[string]string{"numbers.csv": "forged,1", "2.job.json": forged})
	from := &said{lines: []string{"mine=2"}}
	out, err := f.copyFrom(from, 2, dest, true)
	if err != nil || out.Error != "" || out.Files != 1 || from.fetched != 1 {
		t.Errorf("%d files were fetched; it ended with %+v, %v", from.fetched, out, err)
	}
	if got := tree(t, dest); got["mine"] != "2" || got["numbers.csv"] != "forged,1" {
		t.Errorf("there is %v", got)
	}
}

// Two daemons whose jobs have the same ids share no destination, whether it is there before or not,
// whoever is first.
func TestTwoDaemonsOneDestination(t *testing.T) {
	t.Parallel()
	for _, shared := range []bool{false, true} {
		for _, there := range []bool{false, true} {
			t.Run(fmt.Sprintf("shared=%v there=%v", shared, there), func(t *testing.T) {
				t.Parallel()
				dest := filepath.Join(t.TempDir(), "7")
				if there {
					plant(t, dest, map[string]string{"old": "x"})
				}
				a, b := daemon(t, "one"), daemon(t, "two")
				inner := &said{lines: []string{"o/", "o/x=2", "o/only2=2"}}
				// While the first daemon gathers, the second one does all of its copy.
				var second error
				outer := &said{lines: []string{"o/", "o/x=1", "o/only1=1"}, between: func(n int) {
					if n == 0 {
						_, second = b.copyFrom(inner, 7, dest, shared)
					}
				}}
				_, first := a.copyFrom(outer, 7, dest, shared)
				var taken *takenError
				if second != nil || !errors.As(first, &taken) {
					t.Errorf("the first ended with %v, the second with %v", first, second)
				}
				want := map[string]string{"o": "/", "o/x": "2", "o/only2": "2"}
				if there {
					want["old"] = "x"
				}
				if diff := cmp.Diff(want, tree(t, dest)); diff != "" {
					t.Error(diff)
				}
				left, err := filepath.Glob(filepath.Join(filepath.Dir(dest), ".jobserver*"))
				if err != nil || len(left) > 0 {
					t.Errorf("%q is left", left)
				}
			})
		}
	}
}

// A daemon whose state directory was copied doesn't disturb the other's copy.
func TestPartIsLocked(t *testing.T) {
	t.Parallel()
	dest := filepath.Join(t.TempDir(), "7")
	a, b := daemon(t, "one"), daemon(t, "one")
	var second error
	outer := &said{lines: []string{"o/", "o/x=1"}, between: func(int) {
		_, second = b.copyFrom(&said{lines: []string{"o/", "o/x=2"}}, 7, dest, false)
	}}
	out, err := a.copyFrom(outer, 7, dest, false)
	if err != nil || out.Error != "" || !errors.Is(second, errGathered) {
		t.Errorf("the first ended with %+v, %v, the second with %v", out, err, second)
	}
	if got := tree(t, dest); got["o/x"] != "1" {
		t.Errorf("there is %v", got)
	}
}

// A file system that takes two names for one is found out, whatever kinds they are, and nothing is
// copied. A second name for a file stands here for such a file system.
func TestNamesThatFallTogether(t *testing.T) {
	t.Parallel()
	for _, size := range []int64{10, smallSize + 10} {
		_, in := receiving(t, size)
		second := in.files[0]
		second.Name, second.Source = "RESULT", "/RESULT"
		in.files = append(in.files, second)
		in.requests = append(in.requests, in.requests[0])
		in.t.manifest.Entries = in.files
		in.small.clash = in.t.clash
		data := make([]byte, size)
		err := errors.Join(in.Data(0, data), in.Done(0, agent.Fetched{Bytes: size}))
		if err == nil && size <= smallSize { // it is written beside
			err = in.small.close()
			in.small = smallFiles{clash: in.t.clash}
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Link(
			in.t.part.files.path("result"),
			in.t.part.files.path("RESULT"),
		); err != nil {
			t.Fatal(err)
		}
		err = in.Data(1, data)
		if err == nil {
			err = in.Done(1, agent.Fetched{Bytes: size})
		}
		if err == nil {
			err = in.small.close()
			in.small = smallFiles{}
		}
		var clash *clashError
		if !errors.As(err, &clash) || clash.a != "result" || clash.b != "RESULT" {
			t.Errorf("the error is %v", err)
		}
	}
}

// What is in the part when all has come is what the machine has, or nothing is put in place.
func TestVerifyPart(t *testing.T) {
	t.Parallel()
	lines := []string{"d/", "d/x=123", "d/l -> x", "y=1", "d/void/"}
	for name, spoil := range map[string]func(part string) error{
		"nothing":   nil,
		"missing":   func(part string) error { return os.Remove(part + "/d/x") },
		"shorter":   func(part string) error { return os.Truncate(part+"/d/x", 1) },
		"one more":  func(part string) error { return os.WriteFile(part+"/d/z", nil, 0o600) },
		"on top":    func(part string) error { return os.Mkdir(part+"/z", 0o700) },
		"in a void": func(part string) error { return os.WriteFile(part+"/d/void/z", nil, 0o600) },
		"a link": func(part string) error {
			return errors.Join(os.Remove(part+"/y"), os.Symlink("d/x", part+"/y"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := daemon(t, "srv")
			tr := &transfer{
				f:    f,
				from: &said{lines: lines},
				c:    &copying{Copy: results("m", 1, filepath.Join(t.TempDir(), "1"))},
			}
			err := errors.Join(tr.list(t.Context()), tr.openPart())
			if err == nil {
				t.Cleanup(tr.part.close)
				err = tr.gather(t.Context())
			}
			if err == nil && spoil != nil {
				err = spoil(tr.part.files.dir.Name())
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := tr.verify(); (err == nil) != (spoil == nil) {
				t.Errorf("the error is %v", err)
			}
		})
	}
}

// What a daemon that died has left is removed, wherever it died; what is in place stays.
func TestLeftCopies(t *testing.T) {
	t.Parallel()
	dest := t.TempDir()
	f := daemon(t, "srv")
	left := &transfer{
		f:    f,
		from: &said{lines: []string{"o=1"}},
		c:    &copying{Copy: results("m", 3, filepath.Join(dest, "3"))},
	}
	if err := left.openPart(); err != nil {
		t.Fatal(err)
	}
	left.part.close()
	plant(
		t,
		dest,
		map[string]string{
			".jobserver-4.1.part/x":          "1",
			"..jobserver-4.1.part.resume123": "2",
			".jobserver-4.1.part.resume":     "3",
		},
	)
	if out, err := f.copyFrom(
		&said{lines: []string{"o=1"}},
		4,
		filepath.Join(dest, "4"),
		false,
	); err != nil ||
		out.Error != "" {
		t.Fatalf("it ended with %+v, %v", out, err)
	}
	jobs, err := f.LeftCopies()
	if err != nil || len(jobs) != 2 { // of 4, that it is in place
		t.Fatalf("there are notes of %v, %v", jobs, err)
	}
	if err := f.RemoveLeft(jobs); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"4": "/", "4/o": "1"}, tree(t, dest)); diff != "" {
		t.Error(diff)
	}
	if jobs, err := f.LeftCopies(); err != nil || len(jobs) != 0 {
		t.Errorf("there are notes of %v, %v", jobs, err)
	}
}

// The record names files byte for byte, and isn't for everybody when the job has secrets.
func TestRecordOfOddNames(t *testing.T) {
	t.Parallel()
	dest := filepath.Join(t.TempDir(), "1")
	f := daemon(t, "srv")
	c := results("m", 1, dest)
	c.Job.Env = []*statepb.Var{{Name: "KEY", Secret: true}}
	tr := &transfer{
		f:    f,
		from: &said{lines: []string{"caf\xe9/", "caf\xe9/x=1"}},
		c:    &copying{Copy: c},
	}
	if out, err := tr.run(t.Context()); err != nil || out.Error != "" {
		t.Fatalf("it ended with %+v, %v", out, err)
	}
	data, err := os.ReadFile(path.Join(dest, "caf\xe9/x"))
	if err != nil || string(data) != "1" {
		t.Errorf("there is %q, %v", data, err)
	}
	file := filepath.Join(dest, "job.json")
	text, err := os.ReadFile(file)
	var r record
	if err := errors.Join(err, json.Unmarshal(text, &r)); err != nil {
		t.Fatal(err)
	}
	if got := r.Results[1].path(); got != "caf\xe9/x" ||
		string(r.Results[1].SourceBytes) != "/m/caf\xe9/x" {
		t.Errorf("the record has %q", got)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the record has %v, %v", info.Mode(), err)
	}
}

// What a job prints of a secret, or calls its files, is in no text that stays.
func TestSecretsInResults(t *testing.T) {
	t.Parallel()
	const secret = "hunter2hunter2"
	dest := filepath.Join(t.TempDir(), "1")
	c := results("m", 1, dest, "/m/"+secret)
	c.Attempt.Measurements = []string{"key=" + secret}
	c.Secrets = []string{secret}
	from := &said{lines: []string{"o/", "o/" + secret + "=1", "o/out -> /" + secret}}
	copying := &copying{Copy: c, ctx: t.Context(), hidden: redact.New(secret)}
	out, err := (&transfer{f: daemon(t, "srv"), from: from, c: copying}).run(t.Context())
	if err != nil || !strings.Contains(out.Error, "(secret)") ||
		strings.Contains(out.Error, secret) {
		t.Errorf("it ended with %+v, %v", out, err)
	}
	text, err := os.ReadFile(filepath.Join(dest, "job.json"))
	if err != nil || strings.Contains(string(text), secret) {
		t.Errorf("the record is %s, %v", text, err)
	}
	if _, err := os.Stat(filepath.Join(dest, "o", secret)); err != nil {
		t.Error(err)
	}
}
