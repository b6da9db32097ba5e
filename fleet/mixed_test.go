package fleet

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"testing/fstest"

	"jobserver/agent"
	"jobserver/ssh/sshtest"
)

// TestMixedPool has machines of two kinds, and nothing on the host but what a release has inside.
// The second is arm64 by what it says and runs: qemu-user runs its agent and supervisors.
func TestMixedPool(t *testing.T) {
	dir := t.TempDir()
	foreign := filepath.Join(dir, "jobserver-arm64")
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", foreign, "jobserver/slim/program")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=arm64")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if !sshtest.Emulate(t, "arm64") {
		// Without its kernel's help nothing it starts can be an arm64 program; that it speaks can
		// be seen.
		testForeignAgent(t, sshtest.Emulator(t, "arm64"), foreign)
		return
	}
	agents := slimAgents(t).(fstest.MapFS)
	agents["jobserver-linux-arm64.gz"] = &fstest.MapFile{Data: packed(t, foreign)}

	client, err := sshtest.NewClient(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	here := sshtest.Start(t, sshtest.Shared(client), sshtest.Named("here"))
	there := sshtest.Start(
		t,
		sshtest.Shared(client),
		sshtest.Named("there"),
		tool(t, "uname", "echo Linux aarch64"),
	)
	h := newHost(t, here, func(o *Options) { o.Binary, o.Slim = "/nowhere/jobserver", agents })
	for jid, m := range map[uint64]*sshtest.Machine{1: here, 2: there} {
		want := map[uint64]string{1: runtime.GOARCH, 2: "arm64"}[jid]
		c := h.connected(m.Name)
		if c.Facts.Arch != want {
			t.Errorf("the agent of %s is one for %s, not %s", m.Name, c.Facts.Arch, want)
		}
		got, err := h.Check(t.Context(), m.Name)
		if err != nil || got.Facts.Arch != want || got.Vitals.FreeBytes == 0 {
			t.Errorf("the check of %s found %+v, %v", m.Name, got, err)
		}
		r := job(m.Name, jid, "(setsid sleep 300 &); echo out; exit 3")
		h.Start(r)
		h.ends(r, "out\n")
	}
}

// testForeignAgent greets an agent that an emulator runs.
func testForeignAgent(t *testing.T, qemu, program string) {
	wrapper := filepath.Join(t.TempDir(), "agent")
	write(t, wrapper, "#!/bin/sh\nexec "+qemu+" "+program+" \"$@\"\n")
	cmd, stream, err := startAgent(wrapper, t.TempDir(), nil, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	c, err := agent.Connect(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	if f, err := c.Facts(t.Context()); err != nil || f.Arch != "arm64" {
		t.Errorf("it is %+v, %v", f, err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	waitChild(cmd)
}
