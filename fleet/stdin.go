package fleet

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"jobserver/agent"
	"jobserver/sched"
)

// startWithStdin is the task of starting a run whose standard input goes with its start.
func (m *machine) startWithStdin(l *link, r *run, begin beginning) {
	text, err := os.ReadFile(CodeStdin(m.f.opt.StateDir, r.spec.Stdin))
	switch {
	case err == nil && fmt.Sprintf("%x", sha256.Sum256(text)) != r.spec.Stdin:
		err = errors.New("it is damaged")
		fallthrough
	case errors.Is(err, fs.ErrNotExist):
		m.finish(r, verdict{notStarted: fmt.Sprintf("%s: %v; submit it again with --stdin",
			sched.LostStdin, err)})
		return
	case err != nil: // the host has run out of something
		m.log.Warn("the standard input of a run can't be read; it is tried again", "run",
			r.id.Name(), "err", err)
		_ = m.f.disk.pause(l.ctx) // the end of the link is seen by release
		m.do(func() { m.release(r) })
		return
	}
	spec := m.spec(r)
	spec.Stdin = text
	if hash := r.spec.Code; hash != "" {
		m.withCode(l, hash, []*run{r}, []agent.Spec{spec}, begin)
		return
	}
	begin(l, []*run{r}, []agent.Spec{spec})
}
