package main

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"jobserver/daemontest"
	"jobserver/ssh/sshtest"
)

// tryPool has machines of two kinds, by SSH, and of the release nothing but the program.
func tryPool(t *testing.T, dist string) {
	name := "jobserver-9.8.7-linux-" + runtime.GOARCH
	dir := t.TempDir()
	sh(t, dir, nil, "tar", "xzf", filepath.Join(dist, name+".tar.gz"), name+"/jobserver")
	client, err := sshtest.NewClient(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]string{"here": runtime.GOARCH}
	sshtest.Start(t, sshtest.Shared(client), sshtest.Named("here"))
	if sshtest.Emulate(t, "arm64") {
		kinds["there"] = "arm64"
		sshtest.Start(t, sshtest.Shared(client), sshtest.Named("there"), uname(t, "aarch64"))
	}
	// None that a release has an agent for.
	sshtest.Start(t, sshtest.Shared(client), sshtest.Named("exotic"), uname(t, "s390x"))
	state, err := os.MkdirTemp("", "jobserver-pool-") // a short path, as a socket's has to be
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(state) })
	d := &daemontest.Daemon{Binary: filepath.Join(dir, name, "jobserver"),
		StateDir: filepath.Join(state, "state"),
		Args:     []string{"--ssh-config", client.ConfigFile}}
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.Stop(); err != nil {
			t.Error(err)
		}
	}()
	for machine, goarch := range kinds {
		d.J(t, "machine", "add", machine, machine)
		jid := strings.TrimSpace(d.J(t, "add", machine, "echo from "+machine, "-q"))
		d.J(t, "wait", jid)
		if log := d.J(t, "log", "-c", jid); log != "from "+machine+"\n" {
			t.Errorf("the log of a job on %s is %q", machine, log)
		}
		if ls := d.J(t, "machine", "ls", machine, "-o", "json"); !strings.Contains(ls,
			`"arch":"`+goarch+`"`) {
			t.Errorf("the agent of %s is not for %s: %s", machine, goarch, ls)
		}
	}
	stdout, stderr, _, err := d.Run(t.Context(), "machine", "add", "exotic", "exotic")
	if said := stdout + stderr; err != nil ||
		!strings.Contains(said, "no agent for linux/s390x") ||
		!strings.Contains(said, "GOARCH=s390x CGO_ENABLED=0 go build -o ") {
		t.Errorf("of a machine for which there is no agent it says, %v: %s", err, said)
	}
}

// uname lets a machine say that it has a processor of that name.
func uname(t *testing.T, processor string) sshtest.Option {
	t.Helper()
	dir := t.TempDir()
	text := "#!/bin/sh\necho Linux " + processor + "\n"
	if err := os.WriteFile(filepath.Join(dir, "uname"), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return sshtest.Env("PATH=" + dir + ":" + os.Getenv("PATH"))
}
