package service

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"jobserver/api"
	"jobserver/joblog"
	"jobserver/sched"
	"jobserver/sched/statepb"
)

// maxLogRead is how many bytes of a log one call gives at the most.
const maxLogRead = 1 << 20

// logLook is how often a log that is waited on is looked at: its bytes come without an event. A
// client asks for this only while somebody watches.
const logLook = 50 * time.Millisecond

// logKind is one of the files that are kept of a run's output.
type logKind int

const (
	logOut   logKind = iota
	logErr           // its standard error
	logWeave         // in which order the two came
)

// path is where it is kept.
func (k logKind) path(dir string, r *statepb.RunRef) string {
	if k == logWeave {
		return sched.WeavePath(dir, r)
	}
	return sched.LogPath(dir, r, k == logErr)
}

// JobLog gives bytes of a job's log.
func (s *service) JobLog(args *api.LogArgs, reply *api.LogReply, turn api.Turn) error {
	kind := logOut
	if args.Stderr {
		kind = logErr
	}
	ended, err := s.findLog(args, kind, reply)
	if err != nil {
		return err
	}
	if err := s.isThere(args, kind, reply, ended); err != nil {
		return err
	}
	if reply.Offset = args.Offset; args.Tail > 0 {
		if err := readLog(reply, 0, 0, turn); err != nil {
			return err
		}
		reply.Offset = max(reply.Size-args.Tail, 0)
	}
	ctx, cancel := context.WithTimeout(s.ctx, min(max(args.Wait, 0), maxWait))
	defer cancel()
	ticker := time.NewTicker(logLook)
	defer ticker.Stop()
	for {
		// Whether it had ended is asked before the file is read, so that EOF is only said of all of
		// it.
		if err := readLog(reply, reply.Offset, clamp(args.Max, maxLogRead), turn); err != nil {
			return err
		}
		if ended || len(reply.Data) > 0 {
			reply.EOF = ended && reply.Offset+int64(len(reply.Data)) >= reply.Size
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if ended, err = s.findLog(args, kind, reply); err != nil {
			return err
		}
	}
}

// findLog finds the file, and says whether nothing more will come.
func (s *service) findLog(
	args *api.LogArgs, kind logKind, reply *api.LogReply,
) (ended bool, err error) {
	err = s.read(func(st *sched.State) error {
		j := st.Job(args.JID)
		if j == nil {
			return api.Errorf(api.NotFound, "no job %d", args.JID).
				WithHint("`jobserver job ls` lists jobs")
		}
		reply.Status = sched.StatusName(j.Status)
		n := len(j.Attempts)
		if n == 0 {
			reply.Path, reply.Attempt, ended = "", 0, sched.Final(j.Status)
			return nil
		}
		a := j.Attempts[n-1]
		if args.Attempt != 0 {
			if a = attemptNumbered(j, args.Attempt); a == nil {
				return api.Errorf(api.NotFound, "job %d has no attempt %d that is remembered", j.Id,
					args.Attempt).
					WithHint("`jobserver job show %d` lists its attempts", j.Id)
			}
		}
		if args.Step > int(a.Step) {
			return api.Errorf(api.NotFound, "attempt %d of job %d has no step %d", a.Number, j.Id,
				args.Step)
		}
		r := &statepb.RunRef{Job: j.Id, Attempt: a.Number, Step: int32(args.Step)}
		rank, err := rankOf(j, a, args.Rank)
		if err != nil {
			return err
		}
		r.Rank = rank.Rank
		reply.Path, reply.Attempt = kind.path(s.About.LogDir, r), int(a.Number)
		newest := a == j.Attempts[n-1]
		ended = rank.Cause != statepb.Cause_CAUSE_NONE || args.Step < int(a.Step)
		reply.More = args.Step < int(a.Step) || !newest || newest && ended &&
			!sched.Final(j.Status) && j.Status != sched.Copying
		return nil
	})
	return ended, err
}

// isThere refuses the log of a run that has ended when there is none, though something was written:
// one that is empty has no file.
func (s *service) isThere(
	args *api.LogArgs, kind logKind, reply *api.LogReply, ended bool,
) error {
	if _, err := joblog.Find(reply.Path); !ended || reply.Path == "" ||
		!errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	written := int64(0)
	err := s.read(func(st *sched.State) error {
		a := attemptNumbered(st.Job(args.JID), reply.Attempt)
		if a == nil || args.Step != int(a.Step) {
			return nil
		}
		a, err := rankOf(st.Job(args.JID), a, args.Rank)
		if err != nil {
			return err
		}
		switch kind {
		case logOut:
			written = a.OutLen
		case logErr:
			written = a.ErrLen
		case logWeave: // without it, the order isn't known
		}
		return nil
	})
	if err != nil || written == 0 {
		return err
	}
	return api.Errorf(api.NotFound, "read the log of job %d: open %s: %w", args.JID, reply.Path,
		fs.ErrNotExist).
		WithHint("--keep-logs of `jobserver serve` may have removed it, or somebody else")
}

// rankOf is a rank of an attempt by its number from 1, or the first one; of one that is on a single
// machine, the attempt.
func rankOf(j *statepb.Job, a *statepb.Attempt, number int) (*statepb.Attempt, error) {
	switch {
	case number <= 1 && len(a.Ranks) == 0:
		return a, nil
	case number <= 1:
		return a.Ranks[0], nil
	case number > len(a.Ranks) || a.Ranks[number-1].Rank == 0:
		return nil, api.Errorf(api.NotFound, "job %d has no rank %d", j.Id, number-1).
			WithHint("`jobserver job show %d` lists its machines", j.Id)
	}
	return a.Ranks[number-1], nil
}

func attemptNumbered(j *statepb.Job, number int) *statepb.Attempt {
	if j == nil {
		return nil
	}
	for _, a := range j.Attempts {
		if int(a.Number) == number {
			return a
		}
	}
	return nil
}

// readLog reads from the file, which isn't there before the first byte.
func readLog(reply *api.LogReply, offset int64, most int, turn api.Turn) error {
	reply.Data, reply.Size = nil, 0
	if reply.Path == "" {
		return nil
	}
	f, err := joblog.Open(reply.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return api.Errorf(api.Internal, "read the log: %v", err)
	}
	defer f.Close()
	if reply.Size, err = f.Size(); err != nil {
		return api.Errorf(api.Internal, "read the log: %v", err)
	}
	reply.Path = f.Name()
	n := min(reply.Size-offset, int64(most))
	if n <= 0 || offset < 0 {
		return nil
	}
	if err := turn(); err != nil {
		return err
	}
	reply.Data = make([]byte, n)
	got, err := f.ReadAt(reply.Data, offset)
	reply.Data = reply.Data[:got]
	if err != nil && err != io.EOF {
		return api.Errorf(api.Internal, "read the log: %v", err)
	}
	return nil
}

// locate corrects the paths of logs that have been compressed since. It asks the disk, and so isn't
// called in the loop.
func (s *service) locate(jobs []api.Job) {
	var logs joblog.Finder
	for i := range jobs {
		j := &jobs[i]
		if j.EndedAt == nil {
			continue
		}
		paths := []*string{&j.Log, &j.ErrLog}
		for k := range j.LogFull {
			paths = append(paths, &j.LogFull[k])
		}
		for k := range j.Attempts {
			paths = append(paths, &j.Attempts[k].Log, &j.Attempts[k].ErrLog)
		}
		for _, path := range paths {
			if *path != "" {
				*path = logs.Find(*path)
			}
		}
	}
}

// mayWrite says why the daemon can't make directories in a directory. It tries: permissions alone
// don't tell of a file system that is read-only, or has no room.
func mayWrite(dir string) error {
	// A file without a name leaves nothing behind, whatever happens to the daemon.
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	switch {
	case err == nil:
		return unix.Close(fd)
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EISDIR), errors.Is(err, unix.EINVAL):
		// not this file system
		return tryDirectory(dir)
	}
	return err
}

// tryDirectory makes a directory and removes it.
func tryDirectory(dir string) error {
	probe, err := os.MkdirTemp(dir, ".jobserver-probe-")
	if err != nil {
		var path *fs.PathError
		if errors.As(err, &path) {
			return path.Err
		}
		return err
	}
	return os.Remove(probe)
}
