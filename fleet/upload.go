package fleet

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"jobserver/agent"
	"jobserver/sched"
	"jobserver/sched/statepb"
)

// content may be missing on a machine: code, or an input.
type content struct {
	hash  string
	input bool
}

func (c content) String() string {
	if c.input {
		return "input"
	}
	return "code"
}

// upload is something that is missing on a machine, and the runs that start when it is there. The
// actor has one for each, so that it is sent once to a machine, however many runs want it. It goes
// over the bulk connection: what is said of runs doesn't wait behind it.
type upload struct {
	content
	source  *statepb.Input // of an input
	waiting []*run         // busy meanwhile
	running bool           // a task has it
}

// maxSent is how often the same is sent for a run, before it is said that it doesn't stay there.
const maxSent = 3

// withCode is the task of starting runs that need code, or of making all ready for them. Where it
// isn't there, they wait for it.
func (m *machine) withCode(
	l *link, hash string, batch []*run, specs []agent.Spec,
	begin beginning,
) {
	dir, changed, err := l.client.FindCode(l.ctx, hash)
	if changed != "" && dir == "" {
		m.log.Warn("a job has written into its code; the next get another copy", "hash",
			short(hash), "file", plain(changed))
	}
	switch {
	case err == nil && dir == "":
		m.do(func() { m.lacks(content{hash: hash}, nil, batch) })
	case err == nil:
		for i := range specs {
			specs[i].Env = append(specs[i].Env, agent.Pair{Name: agent.CodeVariable, Value: dir})
		}
		begin(l, batch, specs)
	case unanswered(l, err):
		m.releaseAll(batch)
	default:
		m.failUpload(content{hash: hash}, batch, err)
	}
}

// lacks has runs wait for what is missing.
func (m *machine) lacks(c content, source *statepb.Input, batch []*run) {
	u := m.uploads[c]
	if u == nil {
		u = &upload{content: c, source: source}
		m.uploads[c] = u
	}
	for _, r := range batch {
		switch {
		case r.cancel || r.dropped:
			m.release(r)
		case r.sent[c] >= maxSent || r.sent[c] > 0 && !c.input:
			m.failUpload(c, []*run{r},
				errors.New("it was put there, and is gone or changed already"))
		default:
			u.waiting = append(u.waiting, r)
		}
	}
}

// leaveUpload takes a run out of those that wait for something that is missing, and says whether it
// was among them.
func (m *machine) leaveUpload(r *run) bool {
	for _, u := range m.uploads {
		for i, other := range u.waiting {
			if other == r {
				u.waiting = append(u.waiting[:i], u.waiting[i+1:]...)
				return true
			}
		}
	}
	return false
}

// startUploads sets going what may go. With a bulk connection that can't be made, the other one has
// to do.
func (m *machine) startUploads() {
	l := m.bulk.link
	if l == nil && m.bulk.retry {
		l = m.link
	}
	for c, u := range m.uploads {
		switch {
		case u.running:
		case len(u.waiting) == 0:
			delete(m.uploads, c)
		case l != nil:
			u.running = true
			left := func() {}
			if l == m.bulk.link {
				m.bulk.users++
				left = m.bulkLeft
			}
			l.spawn(func() { m.runUpload(l, u, left) })
		case !m.bulk.opening:
			m.openBulk()
		}
	}
}

// runUpload is the task of one upload, until it has ended or the link breaks; then the actor calls
// left.
func (m *machine) runUpload(l *link, u *upload, left func()) {
	var err error
	if u.input {
		err = m.sendInput(l, u.source)
	} else {
		err = m.sendCode(l, u.hash)
	}
	m.do(func() {
		defer left()
		u.running = false
		if err != nil && unanswered(l, err) {
			return // it goes on with the next link, from its beginning
		}
		delete(m.uploads, u.content)
		if err != nil {
			m.failUpload(u.content, u.waiting, err)
			return
		}
		for _, r := range u.waiting {
			if r.sent == nil {
				r.sent = map[content]int{}
			}
			r.sent[u.content]++
			m.toStart = append(m.toStart, r)
		}
	})
}

// sendCode puts the code of a hash on the machine.
func (m *machine) sendCode(l *link, hash string) error {
	archive, err := os.Open(CodeArchive(m.f.opt.StateDir, hash))
	if err != nil {
		return err
	}
	defer archive.Close()
	began := m.f.opt.Now()
	if _, err := l.client.PutCode(l.ctx, hash, randomToken(), archive); err != nil {
		return err
	}
	m.log.Info("sent code", "hash", short(hash), "took", m.f.opt.Now().Sub(began).
		Round(time.Millisecond))
	return nil
}

// failUpload ends runs of which something can't be put on the machine. An input that can't be read
// here is no fault of the machine's, nor of the job.
func (m *machine) failUpload(c content, batch []*run, err error) {
	v := verdict{notStarted: fmt.Sprintf("the %s could not be put on the machine: %v", c, err)}
	var tree *agent.TreeError
	switch {
	case c.input && errors.As(err, &tree):
		v = verdict{notStarted: inputWhy(tree), hold: true}
	case !c.input && errors.Is(err, fs.ErrNotExist):
		v.notStarted = sched.LostCode + ": submit it again with --code"
	}
	for _, r := range batch {
		m.finish(r, v)
	}
}

// short is a hash as people read it.
func short(hash string) string { return hash[:min(len(hash), 12)] }
