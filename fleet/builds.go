package fleet

import (
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
)

// builds are the executables that can be put on machines.
type builds struct {
	binary, dir string

	mu    sync.Mutex
	known map[string]*build // by GOOS/GOARCH, once opened
}

// build is one executable. The file stays open, so that hash and content belong together whatever is
// installed over it later.
type build struct {
	file *os.File
	size int64
	hash string // sha256, in hex: its name on machines
}

// buildError says that there is nothing that could be sent to a machine of this kind.
type buildError struct {
	Target, Reason, Advice string
}

func (e *buildError) Error() string { return fmt.Sprintf("no agent for %s: %s", e.Target, e.Reason) }

// Final says so to ssh.IsFinal.
func (e *buildError) Final() bool { return true }

// Hint says how to make one.
func (e *buildError) Hint() string { return e.Advice }

func newBuilds(binary, dir string) *builds {
	return &builds{binary: binary, dir: dir, known: map[string]*build{}}
}

// own is the daemon's own executable.
func (b *builds) own() (*build, error) { return b.get(runtime.GOOS, runtime.GOARCH) }

// get opens the build for a kind of machine, the daemon's own binary where it fits.
func (b *builds) get(goos, goarch string) (*build, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	target := goos + "/" + goarch
	if known := b.known[target]; known != nil {
		return known, nil
	}
	path := filepath.Join(b.dir, "jobserver-"+goos+"-"+goarch)
	if goos == runtime.GOOS && goarch == runtime.GOARCH {
		path = b.binary
	}
	command := fmt.Sprintf("GOOS=%s GOARCH=%s CGO_ENABLED=0 go build -o %s", goos, goarch, path)
	opened, err := openBuild(path)
	if os.IsNotExist(err) {
		return nil, &buildError{target, "there is no " + path, "build it: " + command}
	}
	if err != nil {
		return nil, &buildError{target, err.Error(), "build it anew: " + command}
	}
	b.known[target] = opened
	return opened, nil
}

// openBuild refuses what a machine may not be able to run: a binary that needs the loader and libraries of the
// system that it was linked on.
func openBuild(path string) (*build, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	opened, err := measureBuild(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s %w", path, err)
	}
	return opened, nil
}

func measureBuild(f *os.File) (*build, error) {
	program, err := elf.NewFile(f)
	if err != nil {
		return nil, fmt.Errorf("is not an ELF executable: %w", err)
	}
	for _, p := range program.Progs {
		if p.Type == elf.PT_INTERP {
			return nil, fmt.Errorf("is not linked statically")
		}
	}
	sum := sha256.New()
	n, err := io.Copy(sum, io.NewSectionReader(f, 0, 1<<40))
	if err != nil {
		return nil, fmt.Errorf("can't be read: %w", err)
	}
	return &build{file: f, size: n, hash: hex.EncodeToString(sum.Sum(nil))}, nil
}

// content reads the executable from its start; several may do so at once.
func (b *build) content() io.Reader { return io.NewSectionReader(b.file, 0, b.size) }

func (b *builds) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, known := range b.known {
		known.file.Close()
	}
	clear(b.known)
}

// goTarget translates the output of uname -sm. A machine without uname is taken for one like this host. The words become part of a
// file's name and of a command that people are told to run: what could not be a system's or a processor's name is refused.
func goTarget(uname string) (goos, goarch string, err error) {
	fields := strings.Fields(uname)
	if len(fields) < 2 {
		return runtime.GOOS, runtime.GOARCH, nil
	}
	machine := fields[len(fields)-1]
	arches := map[string]string{
		"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64", "i386": "386", "i686": "386",
		"armv6l": "arm", "armv7l": "arm", "armv8l": "arm", "loongarch64": "loong64",
	}
	if arch, ok := arches[machine]; ok {
		machine = arch
	}
	goos, goarch = strings.ToLower(fields[0]), machine
	for _, word := range []string{goos, goarch} {
		if strings.Trim(word, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" || len(word) > 32 {
			return "", "", &buildError{Target: fmt.Sprintf("%.100q", goos+"/"+goarch), Reason: "uname says no name of a system and a processor there"}
		}
	}
	return goos, goarch, nil
}
