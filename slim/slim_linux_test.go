package slim

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"jobserver/agent"
)

// What the slim agent may cost: each is paid for by every machine, connection or run.
const (
	maxSize     = 3_750_000 // bytes of the program
	maxSent     = 1_500_000 // bytes of it compressed
	maxResident = 5 << 20   // bytes of an agent that waits
	maxStart    = 1.3       // times a program that does nothing
	maxInits    = 56        // packages that are initialised when it starts, some for nothing
)

// allowed are the packages from outside the standard library.
var allowed = []string{
	"golang.org/x/sync/errgroup", "golang.org/x/sys/unix",
	"jobserver/agent", "jobserver/disk", "jobserver/failpoint", "jobserver/slim/program",
}

// notWanted lists the packages of the standard library that would make it large or slow.
var notWanted = []string{
	"encoding/gob",
	"encoding/json",
	"encoding/xml",
	"html/template",
	"net/http",
	"net/rpc",
	"regexp",
	"text/template",
	"crypto/tls",
	"log/slog",
	"testing",
	"go/ast",
}

func TestImports(t *testing.T) {
	cmd := exec.Command("go", "list", "-deps", "-f", "{{.ImportPath}} {{.Standard}}", "./program")
	cmd.Env = append(os.Environ(), "GOOS=linux", "CGO_ENABLED=0")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for line := range strings.Lines(string(out)) {
		name, standard, _ := strings.Cut(strings.TrimSpace(line), " ")
		seen++
		if standard == "true" && !slices.Contains(notWanted, name) ||
			slices.Contains(allowed, name) {
			continue
		}
		t.Errorf(
			"the slim agent imports %s: do without, or say here why each start should pay for it",
			name,
		)
	}
	if seen < 50 {
		t.Errorf("go list gave only %d packages", seen)
	}
}

// TestBudgets builds the agents as a release does, and holds what they cost.
func TestBudgets(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.Command("go", "run", "jobserver/release", "agents", dir).
		CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for arch, machine := range map[string]elf.Machine{
		"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64, "riscv64": elf.EM_RISCV,
	} {
		packed, err := os.ReadFile(filepath.Join(dir, "jobserver-linux-"+arch+".gz"))
		if err != nil {
			t.Fatal(err)
		}
		z, err := gzip.NewReader(bytes.NewReader(packed))
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(z)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d bytes, %d compressed", arch, len(content), len(packed))
		if len(content) > maxSize || len(packed) > maxSent {
			t.Errorf(
				"%s: %d bytes and %d compressed, more than %d and %d",
				arch,
				len(content),
				len(packed),
				maxSize,
				maxSent,
			)
		}
		if f, err := elf.NewFile(bytes.NewReader(content)); err != nil || f.Machine != machine {
			t.Errorf("%s: it is a program for %v, %v", arch, f.Machine, err)
		}
		if arch == runtime.GOARCH {
			program := filepath.Join(dir, "jobserver")
			if err := os.WriteFile(program, content, 0o700); err != nil {
				t.Fatal(err)
			}
			t.Run("resident", func(t *testing.T) { testResident(t, program) })
			t.Run("start", func(t *testing.T) { testStart(t, program) })
		}
	}
}

// testResident measures an agent that has greeted its host.
func testResident(t *testing.T, program string) {
	cmd := exec.Command(program, "agent", "--root", t.TempDir())
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c, err := agent.Connect(t.Context(), &struct {
		io.Reader
		io.WriteCloser
	}{out, in})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
	if err != nil {
		t.Error(err)
	}
	m := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindSubmatch(status)
	if m == nil {
		t.Fatalf("no VmRSS in %s", status)
	}
	kib, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d KiB", kib)
	if kib<<10 > maxResident {
		t.Errorf("an agent that waits has %d KiB, more than %d", kib, maxResident>>10)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// testStart compares the processor time of a start with that of a program that does nothing: the
// least of many, taken in turns, and more of them while others disturb.
func testStart(t *testing.T, program string) {
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), "GODEBUG=inittrace=1")
	trace, _ := cmd.CombinedOutput() // it ends with 2, as it was told nothing to do
	inits := bytes.Count(trace, []byte("\ninit ")) + 1
	t.Logf("%d packages are initialised", inits)
	if inits < 10 || inits > maxInits {
		t.Errorf("%d packages are initialised: %s", inits, trace)
	}

	dir := t.TempDir()
	source := filepath.Join(dir, "nothing.go")
	if err := os.WriteFile(source, []byte("package main\n\nfunc main() {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	nothing := filepath.Join(dir, "nothing")
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", nothing, source)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	least := map[string]time.Duration{}
	ratio := 0.0
	for round := range 1000 {
		for _, name := range []string{program, nothing} {
			took := cpuTime(t, name)
			if least[name] == 0 || took < least[name] {
				least[name] = took
			}
		}
		if ratio = float64(
			least[program],
		) / float64(
			least[nothing],
		); round >= 50 &&
			ratio <= maxStart {
			break
		}
	}
	t.Logf("it takes %v, nothing %v: %.2f times", least[program], least[nothing], ratio)
	if ratio > maxStart {
		t.Errorf(
			"a start takes %.2f times what a program takes that does nothing, more than %.1f",
			ratio,
			maxStart,
		)
	}
}

// cpuTime measures what a process takes from its start to its end.
func cpuTime(t *testing.T, program string) time.Duration {
	t.Helper()
	cmd := exec.Command(program)
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	usage := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
