package job

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/view"
)

// PlaceFlags say where a job, or each of a matrix, begins, what it reads, and what it is called.
type PlaceFlags struct {
	Cwd   string `name:"cwd" short:"C" placeholder:"DIR" help:"Begin in this directory of the machine; relative to the login directory. May contain {NAME}."`
	Stdin string `name:"stdin" placeholder:"FILE" predictor:"file" help:"Give it this file as its standard input, as it is now; - is the input of this command."`
	Label string `name:"label" placeholder:"TEXT" help:"A note, which listings and records show."`
}

// Put puts them into what is submitted, and gives the daemon the standard input unless it is dry.
func (f *PlaceFlags) Put(
	ctx context.Context, e *cli.Env, d cli.Daemon, spec *api.JobSpec, dry bool,
) error {
	spec.Cwd, spec.Label = f.Cwd, f.Label
	if f.Stdin == "" {
		return nil
	}
	text, err := f.read(e)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(text)
	spec.Stdin, spec.StdinName = hex.EncodeToString(sum[:]), filepath.Base(f.Stdin)
	if dry {
		return nil
	}
	return putCode(ctx, d, api.PutCodeArgs{Hash: spec.Stdin, Stdin: true}, bytes.NewReader(text))
}

// read reads the standard input, which is short.
func (f *PlaceFlags) read(e *cli.Env) ([]byte, error) {
	in := e.Stdin
	if f.Stdin != "-" {
		dir, err := e.WorkDir()
		if err != nil {
			return nil, err
		}
		path := f.Stdin
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
		file, err := os.Open(path)
		if err != nil {
			return nil, api.Errorf(api.Usage, "--stdin: %v", err)
		}
		defer file.Close()
		if info, err := file.Stat(); err == nil && info.IsDir() {
			return nil, api.Errorf(api.Usage, "--stdin: %s is a directory", f.Stdin)
		}
		in = file
	}
	text, err := io.ReadAll(io.LimitReader(in, api.MaxStdin+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the standard input: %w", err)
	case len(text) > api.MaxStdin:
		return nil, api.Errorf(api.Usage, "--stdin: %s has more than %s, which go with every start",
			f.Stdin, view.FormatSize(api.MaxStdin)).
			WithHint("let the job read a file that is on its machine")
	}
	return text, nil
}
