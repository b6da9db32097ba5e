package service

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"

	"jobserver/api"
	"jobserver/code"
	"jobserver/fleet"
	"jobserver/sched"
)

// maxDiffFile is the largest uncommitted difference that a client may send.
const maxDiffFile = 16 << 20

// codeFile is where the daemon keeps an archive or a difference.
func (s *service) codeFile(hash string, diff bool) string {
	if diff {
		return fleet.CodeDiff(s.About.StateDir, hash)
	}
	return fleet.CodeArchive(s.About.StateDir, hash)
}

// hasStdin refuses a standard input that the daemon wasn't given.
func (s *service) hasStdin(hash string) error {
	switch {
	case hash == "":
	case !code.ValidHash(hash):
		return api.Errorf(api.Invalid, "%q is no hash of a standard input", hash)
	case !s.keepsCode(fleet.CodeStdin(s.About.StateDir, hash)):
		return api.Errorf(api.Conflict, "the daemon doesn't have the standard input %s", hash[:12]).
			WithHint("submit it again with --stdin")
	}
	return nil
}

// hasCode refuses code that the daemon wasn't given.
func (s *service) hasCode(c *api.Code) error {
	if c == nil {
		return nil
	}
	for _, f := range []struct {
		hash string
		diff bool
	}{{c.Hash, false}, {c.Diff, true}} {
		if f.hash == "" && f.diff {
			continue
		}
		if !code.ValidHash(f.hash) {
			return api.Errorf(api.Invalid, "%q is no hash of code", f.hash)
		}
		if !s.keepsCode(s.codeFile(f.hash, f.diff)) {
			return api.Errorf(api.Conflict, "the daemon doesn't have the code %s", f.hash[:12]).
				WithHint("submit it again with --code")
		}
	}
	return nil
}

// Places says where results go, as far as that is in a directory.
func (s *service) Places(args *api.PlacesArgs, reply *api.PlacesReply) error {
	if !filepath.IsAbs(args.Dir) {
		return api.Errorf(api.Invalid, "the directory %q is not absolute", args.Dir)
	}
	return s.read(func(st *sched.State) error {
		reply.Paths = st.Places(filepath.Clean(args.Dir))
		return nil
	})
}

// PutCode takes code in pieces. It is kept, durably, when all of it has come and is what its hash
// says.
func (s *service) PutCode(args *api.PutCodeArgs, reply *api.PutCodeReply) error {
	if !code.ValidHash(args.Hash) {
		return api.Errorf(api.Invalid, "%q is no hash of code", args.Hash)
	}
	file := s.codeFile(args.Hash, args.Diff)
	if args.Stdin {
		file = fleet.CodeStdin(s.About.StateDir, args.Hash)
	}
	if s.keepsCode(file) {
		reply.Have = true
		return nil
	}
	if len(args.Data) == 0 && !args.Last {
		return nil
	}
	if args.Token == "" || len(args.Token) > 64 ||
		strings.Trim(args.Token, "0123456789abcdef") != "" || args.Offset < 0 ||
		args.Offset > 2*code.MaxBytes {
		return api.Errorf(api.Invalid, "a piece of code at %d, of %q", args.Offset, args.Token)
	}
	part := filepath.Join(filepath.Dir(file), ".part-"+args.Hash[:16]+"-"+args.Token)
	if !args.Last {
		return keepPart(part, args.Data, args.Offset)
	}
	defer os.Remove(part)
	if err := checkPart(part, args); err != nil {
		return err
	}
	if err := renamePart(part, file); err != nil {
		return err
	}
	s.Log.Info("took code", "uid", s.peer.UID, "hash", args.Hash, "difference", args.Diff)
	s.CodeCame()
	reply.Have = true
	return nil
}

// keepsCode says that the daemon has a file of code. From then on it is kept for a while, also when
// no job names it yet.
func (s *service) keepsCode(file string) bool {
	now := s.Now()
	return os.Chtimes(file, now, now) == nil
}

func keepPart(part string, data []byte, offset int64) error {
	if err := os.MkdirAll(filepath.Dir(part), 0o700); err != nil {
		return fmt.Errorf("keep the code: %w", err)
	}
	f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("keep the code: %w", err)
	}
	_, err = f.WriteAt(data, offset)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("keep the code: %w", err)
	}
	return nil
}

// checkPart refuses what isn't what its hash says.
func checkPart(part string, args *api.PutCodeArgs) error {
	f, err := os.Open(part)
	if err != nil {
		return api.Errorf(api.Invalid, "no piece of the code has come before its end")
	}
	defer f.Close()
	var got string
	if args.Diff || args.Stdin {
		var text []byte
		most := int64(maxDiffFile)
		if args.Stdin {
			most = api.MaxStdin
		}
		if text, err = io.ReadAll(io.LimitReader(f, most)); err == nil {
			sum := sha256.Sum256(text)
			got = hex.EncodeToString(sum[:])
		}
	} else {
		got, err = code.Verify(f)
	}
	if err != nil {
		return api.Errorf(api.Invalid, "%v", err)
	}
	if got != args.Hash {
		return api.Errorf(api.Invalid, "what arrived has the hash %s, not %s", got, args.Hash).
			WithHint("submit it again")
	}
	return nil
}

// renamePart makes a file durable under its name.
func renamePart(part, file string) error {
	f, err := os.Open(part)
	if err != nil {
		return fmt.Errorf("keep the code: %w", err)
	}
	defer f.Close()
	out, err := renameio.NewPendingFile(file, renameio.WithTempDir(filepath.Dir(file)),
		renameio.WithPermissions(0o600))
	if err != nil {
		return fmt.Errorf("keep the code: %w", err)
	}
	defer out.Cleanup()
	if _, err := io.Copy(out, f); err != nil {
		return fmt.Errorf("keep the code: %w", err)
	}
	if err := out.CloseAtomicallyReplace(); err != nil {
		return fmt.Errorf("keep the code: %w", err)
	}
	dir, err := os.Open(filepath.Dir(file))
	if err != nil {
		return fmt.Errorf("keep the code: %w", err)
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		return fmt.Errorf("keep the code: %w", err)
	}
	return nil
}
