package fleet

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"compress/gzip"

	"github.com/google/renameio/v2"
)

// builds are the executables that can be put on machines: the slim agents that a release has
// inside, else the daemon's own binary, and files beside it.
type builds struct {
	binary, dir string
	slim        fs.FS // compressed agents, jobserver-GOOS-GOARCH.gz; nil: none

	mu    sync.Mutex
	known map[string]*build // by GOOS/GOARCH, once opened
}

// build is one executable, in a file or compressed in memory. The file stays open, so that hash and
// content belong together whatever is installed over it later.
type build struct {
	file *os.File // nil: only packed
	size int64
	hash string                 // sha256, in hex: its name on machines
	gzip func() ([]byte, error) // the content, compressed
}

// buildError says that there is nothing that could be sent to a machine of this kind.
type buildError struct {
	Target, Reason, Advice string
}

func (e *buildError) Error() string { return "no agent for " + e.Target + ": " + e.Reason }

// Final says so to ssh.IsFinal.
func (e *buildError) Final() bool { return true }

// Hint says how to make one.
func (e *buildError) Hint() string { return e.Advice }

func newBuilds(binary, dir string, slim fs.FS) *builds {
	return &builds{binary: binary, dir: dir, slim: slim, known: map[string]*build{}}
}

// own is the agent for machines like this host.
func (b *builds) own() (*build, error) { return b.get(runtime.GOOS, runtime.GOARCH) }

// get opens the build for a kind of machine.
func (b *builds) get(goos, goarch string) (*build, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	target := goos + "/" + goarch
	if known := b.known[target]; known != nil {
		return known, nil
	}
	name := "jobserver-" + goos + "-" + goarch
	opened, err := b.inside(name)
	if errors.Is(err, fs.ErrNotExist) {
		opened, err = b.beside(target, name, goos, goarch)
	}
	if err != nil {
		return nil, err
	}
	b.known[target] = opened
	return opened, nil
}

// inside is a slim agent of the release; without one the error is fs.ErrNotExist.
func (b *builds) inside(name string) (*build, error) {
	if b.slim == nil {
		return nil, fs.ErrNotExist
	}
	packed, err := fs.ReadFile(b.slim, name+".gz")
	if err != nil {
		return nil, err
	}
	opened := &build{gzip: func() ([]byte, error) { return packed, nil }}
	content, err := opened.content()
	if err != nil {
		return nil, fmt.Errorf("unpack the agent %s: %w", name, err)
	}
	sum := sha256.New()
	if opened.size, err = io.Copy(sum, content); err != nil {
		return nil, fmt.Errorf("unpack the agent %s: %w", name, err)
	}
	opened.hash = hex.EncodeToString(sum.Sum(nil))
	return opened, nil
}

// goArches are the processors that Go makes programs for Linux for: `go tool dist list`.
const goArches = "386 amd64 arm arm64 loong64 mips mips64 mips64le mipsle ppc64 ppc64le riscv64 " +
	"s390x"

// beside is a file: the daemon's own binary where it fits, or one of that name beside it.
func (b *builds) beside(target, name, goos, goarch string) (*build, error) {
	if goos != "linux" {
		return nil, &buildError{
			target,
			"only Linux can be a machine",
			"take the machine out, or put Linux on it",
		}
	}
	path := filepath.Join(b.dir, name)
	command := fmt.Sprintf(
		"GOOS=%s GOARCH=%s CGO_ENABLED=0 go build -o %s ./slim/program",
		goos,
		goarch,
		path,
	)
	if goos == runtime.GOOS && goarch == runtime.GOARCH {
		path, command = b.binary, "CGO_ENABLED=0 go build -o "+b.binary
	}
	opened, err := openBuild(path)
	if os.IsNotExist(err) && !slices.Contains(strings.Fields(goArches), goarch) {
		return nil, &buildError{
			target,
			"there is none inside this program, and Go makes none for that processor",
			"take the machine out",
		}
	}
	if os.IsNotExist(err) {
		reason := "there is none inside this program, and no " + path
		return nil, &buildError{
			target,
			reason,
			"build it in the checkout of this version: " + command,
		}
	}
	if err != nil {
		return nil, &buildError{target, err.Error(), "build it anew: " + command}
	}
	return opened, nil
}

// openBuild refuses what a machine may not be able to run: a binary that needs the loader and
// libraries of the system that it was linked on.
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
	loader, err := needsLoader(f)
	if err != nil {
		return nil, fmt.Errorf("is not an ELF executable: %w", err)
	}
	if loader {
		return nil, errors.New("is not linked statically")
	}
	sum := sha256.New()
	n, err := io.Copy(sum, io.NewSectionReader(f, 0, 1<<40))
	if err != nil {
		return nil, fmt.Errorf("can't be read: %w", err)
	}
	b := &build{file: f, size: n, hash: hex.EncodeToString(sum.Sum(nil))}
	b.gzip = sync.OnceValues(b.compress)
	return b, nil
}

// content reads the executable from its start; several may do so at once.
func (b *build) content() (io.Reader, error) {
	if b.file != nil {
		return io.NewSectionReader(b.file, 0, b.size), nil
	}
	packed, err := b.gzip()
	if err != nil {
		return nil, err
	}
	return gzip.NewReader(bytes.NewReader(packed))
}

// compress is for a build in a file. It takes a third of a second, once, and a third of the file's
// size in memory from then on; each machine that it is sent to gets it in a third of the time.
func (b *build) compress() ([]byte, error) {
	var packed bytes.Buffer
	z, err := gzip.NewWriterLevel(&packed, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(z, io.NewSectionReader(b.file, 0, b.size)); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return packed.Bytes(), nil
}

// unpack puts this host's slim agent below root, as a machine has it, and gives its path; it is ""
// when the program has none inside.
func (b *builds) unpack(root string) (path string, err error) {
	if b.slim == nil {
		return "", nil
	}
	own, err := b.own()
	if err != nil || own.file != nil {
		return "", err
	}
	dir := filepath.Join(root, "bin")
	path = filepath.Join(dir, "jobserver-"+own.hash)
	if here, err := openBuild(path); err == nil {
		here.file.Close()
		if here.hash == own.hash {
			return path, nil
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	content, err := own.content()
	if err != nil {
		return "", err
	}
	file, err := renameio.NewPendingFile(
		path,
		renameio.WithPermissions(0o700),
		renameio.WithTempDir(dir),
	)
	if err != nil {
		return "", err
	}
	defer file.Cleanup()
	if _, err := io.Copy(file, content); err != nil {
		return "", err
	}
	return path, file.CloseAtomicallyReplace()
}

func (b *builds) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, known := range b.known {
		if known.file != nil {
			known.file.Close()
		}
	}
	clear(b.known)
}

// goTarget translates the output of uname -sm. A machine without uname is taken for one like this
// host. The words become part of a file's name and of a command that people are told to run: what
// could not be a system's or a processor's name is refused.
func goTarget(uname string) (goos, goarch string, err error) {
	fields := strings.Fields(uname)
	if len(fields) < 2 {
		return runtime.GOOS, runtime.GOARCH, nil
	}
	machine := fields[len(fields)-1]
	arches := map[string]string{
		"x86_64":      "amd64",
		"amd64":       "amd64",
		"aarch64":     "arm64",
		"arm64":       "arm64",
		"i386":        "386",
		"i686":        "386",
		"armv6l":      "arm",
		"armv7l":      "arm",
		"armv8l":      "arm",
		"loongarch64": "loong64",
	}
	if arch, ok := arches[machine]; ok {
		machine = arch
	}
	goos, goarch = strings.ToLower(fields[0]), machine
	for _, word := range []string{goos, goarch} {
		if strings.Trim(word, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" || len(word) > 32 {
			return "", "", &buildError{
				Target: fmt.Sprintf("%.100q", goos+"/"+goarch),
				Reason: "uname says no name of a system and a processor there",
			}
		}
	}
	return goos, goarch, nil
}
