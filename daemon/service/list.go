package service

import (
	"math"
	"slices"
	"sort"
	"strings"

	"jobserver/api"
	"jobserver/daemon/wire"
	"jobserver/sched"
)

// ListJobs lists jobs, a page at a time.
func (s *service) ListJobs(args *api.ListJobsArgs, reply *api.ListJobsReply) error {
	defer func() { s.locate(reply.Jobs) }()
	switch {
	case args.Newest:
		return s.newestJobs(args, reply)
	case args.Collapse && len(args.Selectors) == 0:
		return s.read(func(st *sched.State) error {
			reply.Counts, reply.Cursor = wire.Counts(st.Counts()), st.Changes()
			s.overview(st, args, reply)
			return nil
		})
	case args.Last == 0 && !args.Running && isWalked(args.Selectors):
		return s.risingJobs(args, reply)
	}
	return s.selectedJobs(args, reply)
}

// maxWalked is how many selectors are gone through at once in pieces of a listing.
const maxWalked = 16

// isWalked says whether the jobs that the selectors match are found in pieces of a listing. Where
// many words are jobs' ids, finding all of them is quicker; conditions and times look at records.
func isWalked(words []string) bool {
	return len(words) <= maxWalked && !slices.ContainsFunc(words, func(word string) bool {
		return strings.HasPrefix(word, api.WhereWord) || strings.HasPrefix(word, "since=")
	})
}

// listPiece is how many jobs are described before the scheduler is free for others.
const listPiece = 100

// page is a page of jobs in the making.
type page struct {
	s     *service
	args  *api.ListJobsArgs
	reply *api.ListJobsReply
	limit int // of jobs
	size  int // in bytes, about
}

func (s *service) page(args *api.ListJobsArgs, reply *api.ListJobsReply) *page {
	reply.Matched = -1
	return &page{s: s, args: args, reply: reply, limit: clamp(args.Limit, sched.MaxPage)}
}

// piece is how many jobs the next piece has, at most.
func (p *page) piece() int { return min(p.limit-len(p.reply.Jobs), listPiece) }

// full says that the page has as many jobs as it may, or as many bytes.
func (p *page) full() bool { return len(p.reply.Jobs) >= p.limit || p.size > pageBytes }

// begin notes what state the page is of: that of its first piece.
func (p *page) begin(st *sched.State) {
	if p.reply.Cursor == 0 {
		p.reply.Counts, p.reply.Cursor = wire.Counts(st.Counts()), st.Changes()
	}
}

// take describes jobs until the page is full, and gives the last of them when others are left.
func (p *page) take(st *sched.State, ids []uint64) (last uint64) {
	for i, id := range ids {
		record := st.Job(id)
		if record == nil {
			continue // it was forgotten since the piece before
		}
		var job api.Job
		if p.args.Light {
			job = wire.LightJob(st, record)
		} else {
			job = wire.Job(st, p.s.About.LogDir, record, p.args.Full)
		}
		p.reply.Jobs = append(p.reply.Jobs, job)
		if p.size += jobSize(&job); p.size > pageBytes && i+1 < len(ids) {
			return id
		}
	}
	return 0
}

// newestJobs lists jobs from the newest down, in as many pieces as that takes: the loop goes on
// between them.
func (s *service) newestJobs(args *api.ListJobsArgs, reply *api.ListJobsReply) error {
	words := args.Selectors
	if args.Running && len(words) == 0 {
		words = []string{":running:copying"}
	}
	return s.inPieces(s.page(args, reply), args.Before,
		func(st *sched.State, before uint64, limit int) ([]uint64, uint64, error) {
			return st.Page(words, before, limit)
		})
}

// risingJobs lists jobs from the oldest up, in as many pieces as that takes.
func (s *service) risingJobs(args *api.ListJobsArgs, reply *api.ListJobsReply) error {
	err := s.inPieces(s.page(args, reply), args.After,
		func(st *sched.State, after uint64, limit int) ([]uint64, uint64, error) {
			return st.PageUp(args.Selectors, after, limit)
		})
	if err == nil && len(reply.Jobs) == 0 && args.After == 0 && len(args.Selectors) > 0 {
		return wire.Error(sched.NothingMatches(args.Selectors))
	}
	return err
}

// inPieces fills a page with the jobs that find finds from a place on.
func (s *service) inPieces(
	p *page, at uint64, find func(*sched.State, uint64, int) ([]uint64, uint64, error),
) error {
	for {
		err := s.read(func(st *sched.State) error {
			p.begin(st)
			ids, next, err := find(st, at, p.piece())
			if last := p.take(st, ids); last != 0 {
				next = last
			}
			at, p.reply.Next = next, next
			return err
		})
		if err != nil || at == 0 || p.full() {
			return err
		}
	}
}

// selectedJobs lists a page of all jobs that are meant, which are found at once.
func (s *service) selectedJobs(args *api.ListJobsArgs, reply *api.ListJobsReply) error {
	p := s.page(args, reply)
	var ids []uint64
	more := false // than one page has
	for first := true; first || len(ids) > 0 && !p.full(); first = false {
		err := s.read(func(st *sched.State) (err error) {
			if p.begin(st); first {
				if ids, err = s.listed(st, args); err != nil {
					return err
				}
				reply.Matched = len(ids)
				from := sort.Search(len(ids), func(i int) bool { return ids[i] > args.After })
				if ids = ids[from:]; len(ids) > p.limit {
					ids, more = ids[:p.limit], true
				}
			}
			piece := ids[:min(len(ids), listPiece)]
			if reply.Next = p.take(st, piece); reply.Next != 0 {
				return nil
			}
			if ids = ids[len(piece):]; len(piece) > 0 && (more || len(ids) > 0) {
				reply.Next = piece[len(piece)-1]
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// pageBytes is how much one page of jobs holds, roughly: it ends with the job that is beyond it.
const pageBytes = 4 << 20

// jobSize is about how many bytes a job is on the wire: its texts.
func jobSize(j *api.Job) int {
	n := 500 + len(j.Cmd) + len(j.CmdRun) + len(j.CmdExpanded) + len(j.Error) + len(j.ResultsError)
	for _, set := range []map[string]string{j.Vars, j.Env} {
		for name, value := range set {
			n += len(name) + len(value)
		}
	}
	for _, texts := range [][]string{j.Results, j.Steps} {
		for _, text := range texts {
			n += len(text)
		}
	}
	for i := range j.Attempts {
		n += 200 + len(j.Attempts[i].CmdRun) + len(j.Attempts[i].Error)
	}
	return n
}

// listed are the ids that a listing is about, ascending.
func (s *service) listed(st *sched.State, args *api.ListJobsArgs) ([]uint64, error) {
	if args.Last > 0 && len(args.Selectors) == 0 {
		return st.Newest(args.Last, args.Running), nil
	}
	ids, err := selectJobs(st, args.Selectors)
	if err != nil {
		return nil, err
	}
	runs := func(id uint64) bool {
		return st.Status(id) == sched.Running || st.Status(id) == sched.Copying
	}
	if args.Running {
		ids = slices.DeleteFunc(ids, func(id uint64) bool { return !runs(id) })
	}
	if older := len(ids) - args.Last; args.Last > 0 && older > 0 {
		kept := slices.DeleteFunc(ids[:older:older], func(id uint64) bool { return !runs(id) })
		ids = append(kept, ids[older:]...)
	}
	return ids, nil
}

// overview is the listing in which a matrix or a tag is one row: the last rows, and all that run.
func (s *service) overview(st *sched.State, args *api.ListJobsArgs, reply *api.ListJobsReply) {
	last := args.Last
	if last == 0 {
		last = math.MaxInt
	}
	o := st.Overview(min(last, sched.MaxPage), args.After, args.Running)
	for _, id := range o.Jobs {
		reply.Jobs = append(reply.Jobs, wire.Job(st, s.About.LogDir, st.Job(id), args.Full))
	}
	for _, id := range o.Matrices {
		reply.Matrices = append(reply.Matrices, wire.Matrix(st, id))
	}
	for _, id := range o.Tags {
		reply.Tags = append(reply.Tags, wire.Tag(st, id))
	}
	reply.Matched = -1
}
