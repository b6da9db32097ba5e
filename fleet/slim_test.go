package fleet

import (
	"bytes"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"testing/fstest"

	"compress/gzip"

	"jobserver/ssh/sshtest"
)

// slimAgents gives what a release has inside, for machines like this host.
func slimAgents(t *testing.T) fs.FS {
	t.Helper()
	return fstest.MapFS{"jobserver-linux-" + runtime.GOARCH + ".gz": {Data: packed(t, program)}}
}

// packed is the content of a file, compressed.
func packed(t *testing.T, file string) []byte {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// A release sends the agent that it has inside, and needs no file for it.
func TestSlimAgent(t *testing.T) {
	used := filepath.Join(t.TempDir(), "used")
	for name, c := range map[string]struct {
		gzip  string
		calls string // of gzip
	}{
		"compressed":      {`echo "$@" >>` + used + `; exec /bin/gzip "$@"`, "-dc\n"},
		"gzip fails":      {"echo fails >>" + used + "; exit 1", "fails\n"},
		"gzip stops":      {"echo stops >>" + used + "; read -r x; echo half; exit 2", "stops\n"},
		"gzip is no more": {"echo gone >>" + used + "; rm \"$0\"; exit 127", "gone\n"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(used, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			m := sshtest.Start(t, tool(t, "gzip", c.gzip))
			h := newHost(
				t,
				m,
				func(o *Options) { o.Binary, o.Slim = "/nowhere/jobserver", slimAgents(t) },
			)
			h.connected(m.Name)
			r := job(m.Name, 1, "echo here")
			h.Start(r)
			h.ends(r, "here\n")
			if got, err := os.ReadFile(used); err != nil || string(got) != c.calls {
				t.Errorf("gzip was called with %q, %v", got, err)
			}
		})
	}
}

// A file of the daemon's is sent compressed as well, and where there is no gzip as it is.
func TestSendPlain(t *testing.T) {
	b := newBuilds(program, "", nil)
	defer b.close()
	own, err := b.own()
	if err != nil {
		t.Fatal(err)
	}
	packed, err := own.gzip()
	if err != nil || int64(len(packed)) > own.size*2/3 {
		t.Errorf("%d bytes become %d, %v", own.size, len(packed), err)
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	unpacked, err := io.ReadAll(z)
	if content, _ := os.ReadFile(program); err != nil || !bytes.Equal(unpacked, content) {
		t.Errorf("it isn't the same when it is unpacked: %v", err)
	}
}

// This host's agent is the slim one, unpacked when it is first needed. When that can't be, the
// program itself is.
func TestSlimLocal(t *testing.T) {
	agents := slimAgents(t)
	b := newBuilds(program, "", agents)
	own, err := b.own()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		prepare func(t *testing.T, bin, file string) // bin is where the agent is unpacked, as file
		program bool                                 // takes the slim one's place
	}{
		"first":   {func(*testing.T, string, string) {}, false},
		"damaged": {func(t *testing.T, bin, file string) { write(t, file, "\x7fELF") }, false},
		"another": {func(t *testing.T, bin, file string) { write(t, file, "#!/bin/sh\n") }, false},
		"no directory": {func(t *testing.T, bin, file string) {
			write(t, bin, "")
		}, true},
		"full disk": {func(t *testing.T, bin, file string) {
			if !mayMount(t) {
				write(t, bin, "") // no place either
				return
			}
			if err := os.MkdirAll(bin, 0o700); err != nil {
				t.Fatal(err)
			}
			sh(t, "mount", "-t", "tmpfs", "-o", "size=64k", "none", bin)
			unmount(t, bin)
		}, true},
		"noexec": {func(t *testing.T, bin, file string) {
			if !mayMount(t) {
				write(t, bin, "") // no place either
				return
			}
			if err := os.MkdirAll(bin, 0o700); err != nil {
				t.Fatal(err)
			}
			sh(t, "mount", "-t", "tmpfs", "-o", "noexec", "none", bin)
			unmount(t, bin)
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			bin := filepath.Join(dir, "local", "bin")
			file := filepath.Join(bin, "jobserver-"+own.hash)
			c.prepare(t, bin, file)
			h := newHost(t, nil, func(o *Options) {
				o.StateDir, o.LogDir, o.Slim = dir, filepath.Join(dir, "logs"), agents
				if !c.program {
					o.Binary = "/nowhere/jobserver"
				}
			})
			h.connected("local")
			r := job("local", 1, "echo here")
			h.Start(r)
			h.ends(r, "here\n")
			if c.program {
				h.heard("the program itself takes its place")
			} else if here, err := openBuild(file); err != nil || here.hash != own.hash {
				t.Errorf("what was unpacked is %v, %v", here, err)
			} else {
				here.file.Close()
			}
			h.halt()
		})
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
}
