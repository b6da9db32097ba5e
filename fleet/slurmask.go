package fleet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"jobserver/failpoint"
	"jobserver/sched"
	"jobserver/slurm"
	"jobserver/ssh"
)

// loginPatience is how long a script of ours may take at a login that lives.
const loginPatience = slurm.MaxTime + 15*time.Second

// maxAnswer is how much of a script's answer is read, in bytes: 100,000 jobs of one user's.
const maxAnswer = 16 << 20

// runScript runs a script at a login.
func runScript(ctx context.Context, conn ssh.Conn, script string) (said string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, loginPatience,
		fmt.Errorf("the login gave no answer within %v", loginPatience))
	defer cancel()
	s, err := conn.Exec(ctx, slurm.Shell)
	if err != nil {
		return "", err
	}
	defer s.Close()
	// A login that hangs takes no input: only the end of the connection helps.
	stop := context.AfterFunc(ctx, func() {
		s.Close()
		conn.Close()
	})
	defer stop()
	// A shell that has ended takes none of it, or a part: how it has ended says more than that.
	_, _ = io.WriteString(s, script)
	_ = s.CloseWrite()
	p, err := io.ReadAll(io.LimitReader(s, maxAnswer))
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if err == nil {
		err = s.Wait()
	}
	return string(p), err
}

// ask runs a script, over a connection that is made when there is none.
func (l *login) ask(script string) (slurm.Answer, error) {
	if l.conn != nil && l.conn.Err() != nil {
		l.hangUp()
	}
	if l.conn == nil {
		conn, err := l.f.login(l.ctx, l.addr)
		if err != nil {
			return slurm.Answer{}, err
		}
		l.conn = conn
	}
	said, err := runScript(l.ctx, l.conn, script)
	if err != nil && l.conn.Err() != nil {
		l.hangUp()
	}
	return l.f.readSlurm(said), err
}

// readSlurm reads what a script printed: of all jobs, those that have names of ours.
func (f *Fleet) readSlurm(said string) slurm.Answer {
	return slurm.ReadAnswer(said, func(name string) bool {
		_, ok := slurm.ParseName(f.opt.ServerID, name)
		return ok
	})
}

// request is an allocation as sbatch is asked for it.
func (f *Fleet) request(a sched.Allocation) slurm.Request {
	name := slurm.Name(f.opt.ServerID, a.ID)
	return slurm.Request{Name: name, Partition: a.Partition, Time: a.Time, Nodes: a.Nodes,
		Exclude: a.Exclude, Args: a.Args, Script: keeperScript(name)}
}

// submit submits an allocation. Whatever is answered, the queue says whether it is there.
func (l *login) submit(a *allocation) {
	failpoint.Hit("slurm.asked")
	answer, err := l.ask(slurm.Submit(l.f.request(a.Allocation)))
	if l.ctx.Err() != nil {
		return // the next daemon looks for it
	}
	failpoint.Hit("slurm.submitted")
	now := l.f.opt.Now()
	a.due, a.doubtful = time.Time{}, now
	job, ok := answer.Submitted()
	end := answer.Ends["submit"]
	switch {
	case ok:
		a.Job, a.words, a.refused = job, "", false
		l.look(l.pace / 5)
		return
	case err != nil:
		a.words = err.Error()
	case end.Words() == "":
		a.words = "sbatch gave no number of a job"
	default:
		a.words = end.Words()
	}
	a.refused = err == nil && !answer.Unanswered()
	l.log.Warn("an allocation was asked for, and no number came: it is looked for by its name",
		"name", a.name, "said", a.words)
	l.look(l.soon())
}

// cancel cancels all allocations for which it is time, by their names.
func (l *login) cancel(now time.Time) {
	var names []string
	var those []*allocation
	for _, a := range l.all {
		if a.releasing && !a.cancelAt.IsZero() && !a.cancelAt.After(now) && len(names) < 50 {
			names, those = append(names, a.name), append(those, a)
		}
	}
	answer, err := l.ask(slurm.Cancel(names))
	now = l.f.opt.Now()
	for _, a := range those {
		// Until it is gone: what a request that came late has submitted has the same name.
		a.cancelAt = now.Add(l.pace)
		if end, answered := answer.Ends[a.name]; err == nil && answered && end.Code == 0 {
			a.canceled = now
			a.cancelAt = now.Add(4 * l.pace)
			l.look(l.pace / 5)
		} else if err == nil {
			l.fault(end.Words())
		}
	}
	if err != nil {
		l.failed(err)
	}
}

// cancelStrays cancels second jobs of names of ours.
func (l *login) cancelStrays() {
	for _, j := range l.strays {
		l.log.Warn("a job that is not wanted has a name of ours: it is canceled", "name", j.Name,
			"job",
			j.ID)
		if _, err := l.ask(slurm.CancelJob(j.ID, j.Name)); err != nil {
			l.failed(err) // the next look finds it again
			break
		}
	}
	l.strays = nil
	l.look(l.pace)
}

// failed says that a login gave no answer.
func (l *login) failed(err error) {
	if l.ctx.Err() != nil {
		return
	}
	hint := ""
	var hinter interface{ Hint() string }
	if errors.As(err, &hinter) {
		hint = hinter.Hint()
	}
	l.say(err.Error(), hint)
}

// fault says that a command of Slurm's failed.
func (l *login) fault(words string) {
	if l.ctx.Err() != nil {
		return
	}
	hint := "it is asked again by itself; allocations that run aren't touched by this"
	if strings.Contains(words, "not found") {
		hint = "Slurm's commands have to be in the PATH of commands that are run by SSH, or of " +
			"the " +
			"daemon where there is no login: see /etc/profile there"
	}
	if words == "" {
		words = "Slurm's commands gave no answer that could be read"
	}
	l.say(words, hint)
}

// say reports of all providers how their login is, if that is news.
func (l *login) say(problem, hint string) {
	for addr := range l.providers {
		if said, before := l.problem[addr]; before && said == problem {
			continue
		}
		l.problem[addr] = problem
		if problem != "" {
			l.log.Warn("Slurm gives no answer; it is asked again", "provider", addr, "err", problem)
		}
		l.f.report(sched.ProviderSeen{Addr: addr, Problem: plain(problem), Hint: plain(hint)})
	}
}
