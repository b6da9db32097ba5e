package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"jobserver/api"
	"jobserver/code"
)

// codeFlag pins the code that jobs run.
type codeFlag struct {
	Code string `name:"code" placeholder:"DIR" predictor:"dir" help:"Put this directory on each machine before the jobs run, as it is now: they find it in $JOBSERVER_CODE. What .gitignore names stays here; the commit and what isn't committed go into job.json."`
}

// codePiece is how much of an archive one call brings.
const codePiece = 1 << 20

// pinCode packs a directory and gives it to the daemon, unless it has it, or this is a dry run. What is wrong
// with it is found before anything is submitted.
func pinCode(ctx context.Context, e *env, d daemon, dir string, dry bool) (*api.Code, error) {
	if dir == "" {
		return nil, nil
	}
	archive, err := os.CreateTemp("", "jobserver-code-")
	if err != nil {
		return nil, fmt.Errorf("pack the code: %w", err)
	}
	defer os.Remove(archive.Name())
	defer archive.Close()
	info, err := code.Pack(ctx, dir, archive)
	var own *code.Error
	if errors.As(err, &own) {
		return nil, api.Errorf(api.Usage, "%s", own.Msg).WithHint("%s", own.Hint)
	} else if err != nil {
		return nil, err
	}
	if _, err := archive.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("pack the code: %w", err)
	}
	put := func(args api.PutCodeArgs, r io.Reader) error {
		if dry {
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
		if err := put(api.PutCodeArgs{Hash: out.Diff, Diff: true}, bytes.NewReader(info.Diff)); err != nil {
			return nil, err
		}
		state += " with changes"
	}
	e.note("the code is %s, %s: %s", info.Hash[:12], state, counted(info.Files, "file"))
	return out, nil
}

// putCode sends what the daemon doesn't have.
func putCode(ctx context.Context, d daemon, args api.PutCodeArgs, r io.Reader) error {
	reply, err := ask[api.PutCodeReply](ctx, d, "PutCode", &args)
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
			if _, err := ask[api.PutCodeReply](ctx, d, "PutCode", &piece); err != nil {
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
	_, err = ask[api.PutCodeReply](ctx, d, "PutCode", &args)
	return err
}
