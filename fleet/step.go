package fleet

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"time"

	"jobserver/sched"
	"jobserver/slurm"
	"jobserver/ssh"
)

// A machine may be an allocation of Slurm's. It is reached like any other: a command that its login
// is given runs in a step of the allocation. All that is built on a connection (the installer, the
// agent's stream, a second one for results) knows nothing of that.

// stepConn is a connection to an allocation, by way of its login.
type stepConn struct {
	ssh.Conn
	before string // each command
}

func (c *stepConn) Exec(ctx context.Context, command string) (*ssh.Stream, error) {
	return c.Conn.Exec(ctx, c.before+command)
}

// enter connects to an allocation.
func (f *Fleet) enter(ctx context.Context, step *sched.Step) (ssh.Conn, error) {
	conn, err := f.login(ctx, step.Login)
	if err != nil {
		return nil, err
	}
	// Another job of the same name, which nobody wants, may be on the same node: see keeperScript.
	name := slurm.Name(f.opt.ServerID, step.ID) + "-" + step.Job
	return &stepConn{conn, slurm.Step(step.Job, step.Node) + "env JOBSERVER_KEEPER=" + name +
		" "}, nil
}

// login connects to where Slurm's commands are run.
func (f *Fleet) login(ctx context.Context, addr string) (ssh.Conn, error) {
	if addr == "" {
		return ssh.Here(f.slurmEnv()), nil
	}
	return f.dialer.Dial(ctx, addr)
}

// slurmEnv is the environment of Slurm's commands on this host, and so of the allocations that are
// submitted here: that of a login, with what leads to Slurm. What Slurm gave to the daemon, if that
// runs in an allocation itself, would lead astray.
func (f *Fleet) slurmEnv() []string {
	pass := append(slices.Clone(f.opt.PassEnv), "PATH", "SLURM_CONF", "SBATCH_*", "XDG_STATE_HOME",
		"LD_LIBRARY_PATH")
	return slices.DeleteFunc(loginEnv(os.Environ(), pass), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return strings.HasPrefix(name, "SLURM_") && name != "SLURM_CONF"
	})
}

// stepOf is how a machine is reached that is an allocation; nil for others.
func (f *Fleet) stepOf(addr string) *sched.Step {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.steps[addr]
}

// outOfSessions says that the connection which the pilots of a login share carries no more, where
// that is why one couldn't be reached. Only a master of OpenSSH's is shared; ours are one each.
func (m *machine) outOfSessions(err error) {
	if step := m.f.stepOf(m.addr); step != nil && errors.Is(err, ssh.ErrTooManySessions) {
		m.f.report(sched.LoginFull{Login: step.Login})
	}
}

// doubtSoon has a login's queue looked at soon if the agent of an allocation doesn't answer at
// once: Slurm may have suspended it. The result says that it has answered.
func (m *machine) doubtSoon() (answered func() bool) {
	step := m.f.stepOf(m.addr)
	if step == nil {
		return func() bool { return false }
	}
	l := m.f.loginAt(step.Login)
	return time.AfterFunc(l.soon(), func() { l.do(func() { l.look(0) }) }).Stop
}

// setStep notes how a machine is reached.
func (f *Fleet) setStep(addr string, step *sched.Step) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if step == nil {
		delete(f.steps, addr)
	} else {
		f.steps[addr] = step
	}
}

// keeperScript is what an allocation runs: it becomes the keeper as soon as an agent of ours, which
// comes as a step, shows it the program (see package agent). One that nobody comes to ends, and so
// does one that Slurm starts again.
func keeperScript(name string) string {
	return `#!/bin/sh
if [ "${SLURM_RESTART_COUNT:-0}" != 0 ]; then exit 0; fi
` + rootCandidates + `
s=0.2 n=4500 k=` + name + `-$SLURM_JOB_ID
sleep $s 2>/dev/null || { s=1 n=900; }
while [ $n -gt 0 ]; do
	for d in "$a" "$b" "$c"; do
		f=$d/keep/$k
		if [ "$d" ] && [ -x "$f" ] && [ -O "$d" ]; then exec "$f" keep "$k"; fi
	done
	sleep $s; n=$((n - 1))
done
`
}
