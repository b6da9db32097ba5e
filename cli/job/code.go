package job

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/code"
	"jobserver/view"
)

// CodeFlag pins the code that jobs run.
type CodeFlag struct {
	Code string `name:"code" placeholder:"DIR" predictor:"dir" help:"Send this directory, as it is now, to each machine; jobs find it in $JOBSERVER_CODE. Files that .gitignore names stay here; the commit and uncommitted changes are recorded in job.json."`
}

// codePiece is how much of an archive one call brings.
const codePiece = 1 << 20

// CodeSource is a directory to be pinned.
type CodeSource struct {
	Dir string // "" : there is none
	// Apart are paths that are no part of the code wherever they are: where its jobs' results go,
	// which would make other code of it with every job, and the file that describes the sweep. ""
	// is none. Where other jobs' results go is known to the daemon.
	Apart []string
	Dry   bool // nothing is sent
}

// largeCode is how many bytes of code are hardly all code.
const largeCode = 50 << 20

// PinCode packs a directory and gives it to the daemon, unless it has it. What is wrong with it is
// found before anything is submitted.
func PinCode(ctx context.Context, e *cli.Env, d cli.Daemon, source CodeSource) (*api.Code, error) {
	if source.Dir == "" {
		return nil, nil
	}
	without, err := source.without(ctx, e, d)
	if err != nil {
		return nil, fmt.Errorf("find the code: %w", err)
	}
	archive, err := os.CreateTemp("", "jobserver-code-")
	if err != nil {
		return nil, fmt.Errorf("pack the code: %w", err)
	}
	defer os.Remove(archive.Name())
	defer archive.Close()
	info, err := code.Pack(ctx, source.Dir, archive, without...)
	if err != nil {
		return nil, api.Wrap(api.Usage, err)
	}
	if _, err := archive.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("pack the code: %w", err)
	}
	put := func(args api.PutCodeArgs, r io.Reader) error {
		if source.Dry {
			return nil
		}
		return putCode(ctx, d, args, r)
	}
	if err := put(api.PutCodeArgs{Hash: info.Hash}, archive); err != nil {
		return nil, err
	}
	out := &api.Code{Hash: info.Hash, Commit: info.Commit, Cut: info.Cut}
	state := "of no commit"
	if info.Commit != "" {
		state = "commit " + info.Commit[:min(len(info.Commit), 12)]
	}
	if len(info.Diff) > 0 {
		sum := sha256.Sum256(info.Diff)
		out.Diff = hex.EncodeToString(sum[:])
		if err := put(api.PutCodeArgs{Hash: out.Diff, Diff: true},
			bytes.NewReader(info.Diff)); err != nil {
			return nil, err
		}
		state += " with changes"
	}
	e.Note("the code is %s, %s: %s, %s", info.Hash[:12], state, view.Counted(info.Files, "file"),
		view.FormatSize(info.Bytes))
	if info.Bytes > largeCode {
		e.Warn([]string{fmt.Sprintf("the code has %s, which go to each machine: "+
			"name data and results in .gitignore", view.FormatSize(info.Bytes))})
	}
	return out, nil
}

// putCode sends what the daemon doesn't have.
func putCode(ctx context.Context, d cli.Daemon, args api.PutCodeArgs, r io.Reader) error {
	reply, err := cli.Ask[api.PutCodeReply](ctx, d, "PutCode", &args)
	if err != nil || reply.Have {
		return err
	}
	var token [12]byte
	rand.Read(token[:]) // it never fails
	args.Token = hex.EncodeToString(token[:])
	for {
		piece := args
		piece.Data = make([]byte, codePiece)
		n, err := io.ReadFull(r, piece.Data)
		if piece.Data = piece.Data[:n]; n > 0 {
			if _, err := cli.Ask[api.PutCodeReply](ctx, d, "PutCode", &piece); err != nil {
				return err
			}
			args.Offset += int64(n)
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			break
		} else if err != nil {
			return fmt.Errorf("read the packed code: %w", err)
		}
	}
	args.Last = true
	_, err = cli.Ask[api.PutCodeReply](ctx, d, "PutCode", &args)
	return err
}
