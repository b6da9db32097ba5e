package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"jobserver/cli/server"
	"jobserver/completion"
)

// file is one file of an archive.
type file struct {
	name    string // in the archive; what has a whole path is in packages alone
	install string // in a package: its path on a system; "" for what packages have no use for
	mode    int64
	content []byte
}

// contents are the files of an archive beside the program: what a person needs who has nothing
// else.
func contents(program string, client bool) ([]file, error) {
	files := []file{
		{name: "jobserver", install: "/usr/bin/jobserver", mode: 0o755},
		{name: "README.md", install: "/usr/share/doc/jobserver/README.md", mode: 0o644},
		{name: "CHANGELOG.md", install: "/usr/share/doc/jobserver/CHANGELOG.md", mode: 0o644},
		{name: "jobserver.1", install: "/usr/share/man/man1/jobserver.1", mode: 0o644},
		{name: "install.sh", mode: 0o755},
	}
	sources := map[string]string{
		"jobserver": program, "README.md": "README.md", "CHANGELOG.md": "CHANGELOG.md",
		"jobserver.1": "docs/jobserver.1", "install.sh": "release/install.sh",
	}
	if !client {
		files = append(files, file{
			name:    "jobserver.service",
			install: "/usr/lib/systemd/user/jobserver.service",
			mode:    0o644,
			content: []byte(server.Unit("/usr/bin/jobserver", nil)),
		})
	}
	for i := range files {
		if files[i].content != nil {
			continue
		}
		content, err := os.ReadFile(sources[files[i].name])
		if err != nil {
			return nil, err
		}
		files[i].content = content
	}
	// install.sh asks the program for these, as they name its path.
	for shell, path := range map[string]string{
		"bash": "/usr/share/bash-completion/completions/jobserver",
		"zsh":  "/usr/share/zsh/vendor-completions/_jobserver",
		"fish": "/usr/share/fish/vendor_completions.d/jobserver.fish",
	} {
		script, err := completion.Script(shell, "jobserver", "/usr/bin/jobserver")
		if err != nil {
			return nil, err
		}
		files = append(files, file{path, path, 0o644, []byte(script)})
	}
	return files, nil
}

// tarball packs files below a directory, in the order of their names, as root's and of one time.
func tarball(dir string, files []file, at time.Time) ([]byte, error) {
	var plain bytes.Buffer
	w := tar.NewWriter(&plain)
	for _, f := range byName(files) {
		if strings.HasPrefix(f.name, "/") {
			continue
		}
		err := w.WriteHeader(&tar.Header{
			Name: dir + "/" + f.name, Mode: f.mode, Size: int64(len(f.content)), ModTime: at,
			Uname: "root", Gname: "root", Format: tar.FormatUSTAR,
		})
		if err == nil {
			_, err = io.Copy(w, bytes.NewReader(f.content))
		}
		if err != nil {
			return nil, fmt.Errorf("pack %s: %w", f.name, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return compress(plain.Bytes())
}
