package agent

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// escapes are ways in which processes get away from the run that they came of. Each writes its pid
// and sleeps.
const escapes = `
say='echo $$ >>%[1]s; exec sleep 300'
e=$(command -v env) s=$(command -v setsid) h=$(command -v sh)
$h -c "$say" &
($h -c "$say" &)
($e -i $h -c "PATH=$PATH; $say" &)
($s $h -c "$say" &)
($e -i $s $h -c "PATH=$PATH; $say" &)
($e -i $s $h -c "PATH=$PATH; ($s $h -c '$say' &)" &)
while [ $(cat %[1]s 2>/dev/null | wc -l) -lt 6 ]; do sleep 0.01; done
echo ready; sleep 300`

// TestFamily: whatever becomes of its supervisor and its directory, nothing of a run lives when it
// is said to be over, and nothing of other runs is ended with it.
func TestFamily(t *testing.T) {
	for name, fate := range map[string]struct {
		befall func(m *machine, agent int, id RunID)
		state  State // that is said in the end
	}{
		"the supervisor is killed": {func(m *machine, agent int, _ RunID) {
			m.killSupervisors(agent)
		}, Vanished},
		"the directory is removed": {func(m *machine, _ int, id RunID) {
			must(m.t, os.RemoveAll(m.dir(id)))
		}, None},
		"all directories are removed": {func(m *machine, _ int, _ RunID) {
			must(m.t, os.RemoveAll(m.root))
		}, None},
		"the directory is moved away": {func(m *machine, _ int, id RunID) {
			must(m.t, os.Rename(m.dir(id), filepath.Join(m.login, id.Name())))
		}, None},
		"the supervisor is killed, and the directory removed": {func(m *machine, agent int,
			id RunID) {
			m.killSupervisors(agent)
			must(m.t, os.RemoveAll(m.dir(id)))
		}, None},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			other := m.connect() // what it starts has another supervisor
			neighbour := m.command("echo ready; sleep 300")
			start(t, other, neighbour)
			awaitOutput(t, other, neighbour.Run, "ready")
			l := m.dial()
			c, err := Connect(m.ctx(), l)
			must(t, err)
			t.Cleanup(func() { c.Close() })
			pids := filepath.Join(m.login, "pids")
			spec := m.command(escapes, pids)
			// Where its directory is moved to, only a run's name tells whose it is, and what other
			// tests run at the same time counts and names its runs as we do.
			spec.Run.Token = fmt.Sprintf("family%d", os.Getpid())
			id := start(t, c, spec)
			awaitOutput(t, c, id, "ready")
			fate.befall(m, l.cmd.Process.Pid, id)
			r, err := c.Poll(m.ctx(), PollRequest{Run: id, OutOff: 6, Wait: time.Minute}, nil)
			must(t, err)
			gone := fate.state == None &&
				strings.Contains(name, "killed") // only the variable tells of those
			if r.State != fate.state {
				t.Errorf("the state is %v, want %v", r.State, fate.state)
			}
			for _, pid := range livingOf(t, pids) {
				if gone && !hasVariable(pid, []byte(envRun+"="+id.String())) {
					must(
						t,
						unix.Kill(pid, unix.SIGKILL),
					) // what docs/reliability.md says that remains
					continue
				}
				t.Errorf("process %d lives", pid)
			}
			if _, err := os.Stat(m.dir(neighbour.Run)); err == nil {
				if r, err := other.Poll(
					m.ctx(),
					PollRequest{Run: neighbour.Run, Wait: -1},
					nil,
				); err != nil ||
					r.State != Running {
					t.Errorf("the neighbour is %v, %v", r.State, err)
				}
			}
			must(t, other.Forget(m.ctx(), []RunID{neighbour.Run, id}, true))
		})
	}
}

// livingOf lists the processes of a file that live.
func livingOf(t *testing.T, file string) (living []int) {
	t.Helper()
	words, err := os.ReadFile(file)
	must(t, err)
	for _, word := range strings.Fields(string(words)) {
		pid, err := strconv.Atoi(word)
		must(t, err)
		if s, ok := readStat(pid); ok && !s.dead() {
			living = append(living, pid)
		}
	}
	return living
}

// TestCancelWithoutDirectory: a run whose directory is gone is ended by a cancel, a kill and a
// forget, and then there is none.
func TestCancelWithoutDirectory(t *testing.T) {
	for name, end := range map[string]func(m *machine, c *Client, id RunID) error{
		"cancel": func(m *machine, c *Client,
			id RunID) error {
			return c.Control(m.ctx(), id, Control{Cancel: true})
		},
		"kill": func(m *machine, c *Client, id RunID) error { return c.Kill(m.ctx(), id) },
		"forget": func(m *machine, c *Client,
			id RunID) error {
			return c.Forget(m.ctx(), []RunID{id}, false)
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			c := m.connect()
			pids := filepath.Join(m.login, "pids")
			id := start(t, c, m.command("echo $$ >%s; echo ready; sleep 300", pids))
			awaitOutput(t, c, id, "ready")
			must(t, os.RemoveAll(m.dir(id)))
			if err := end(m, c, id); err != nil && !errors.Is(err, ErrNoRun) {
				t.Error(err)
			}
			if living := livingOf(t, pids); len(living) > 0 {
				t.Errorf("processes %v live", living)
			}
		})
	}
}

// TestListLiving: a listing says of a run that has no end on record whether anything of it lives.
func TestListLiving(t *testing.T) {
	m := newMachine(t)
	l := m.dial()
	c, err := Connect(m.ctx(), l)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	pids := filepath.Join(m.login, "pids")
	id := start(
		t,
		c,
		m.command("(env -i $(command -v setsid) sh -c 'PATH=%s; echo $$ >%s; exec sleep 300' &); "+
			"while [ ! -s %[2]s ]; do sleep 0.01; done; echo ready; sleep 300", os.Getenv("PATH"),
			pids),
	)
	awaitOutput(t, c, id, "ready")
	m.killSupervisors(l.cmd.Process.Pid)
	for _, want := range []bool{false, true} { // over?
		runs, err := m.connect().List(m.ctx(), m.server, "")
		must(t, err)
		if len(runs) != 1 || runs[0].Over() != want {
			t.Errorf("listed: %+v, want over: %v", runs, want)
		}
		must(t, m.connect().Kill(m.ctx(), id))
	}
}

// TestRunMarks: the runs of a supervisor have different marks, which their processes can't take
// off, unless they are root's.
func TestRunMarks(t *testing.T) {
	m := newMachine(t)
	c := m.connect()
	seen := map[string]bool{}
	for range 5 {
		id := start(t, c, m.command("grep realtime.timeout /proc/self/limits"))
		said := string(follow(t, c, id).out)
		if fields := strings.Fields(
			said,
		); len(fields) < 5 || fields[4] == "unlimited" ||
			seen[fields[4]] {
			t.Errorf("a run's mark is %q; before: %v", said, seen)
		}
		seen[fmt.Sprint(strings.Fields(said)[4])] = true
	}
}

// TestIsDirOf tells a run's directory from those of others that have the same number and token.
func TestIsDirOf(t *testing.T) {
	id := RunID{Server: "s", Machine: "m", Job: 1, Attempt: 2, Token: "t"}
	for path, want := range map[string]bool{
		"/root/runs/s/m/1.2.0-t":                true,
		"/root/runs/s/m/.forgotten-1.2.0-t":     true,
		"/home/me/1.2.0-t":                      true, // moved away
		"/root/runs/other/m/1.2.0-t":            false,
		"/root/runs/s/other/1.2.0-t":            false,
		"/root/runs/s/m/1.2.0-u":                false,
		"/root/runs/s/m/1.2.0-t/scratch":        false,
		"/root/runs/other/m/.forgotten-1.2.0-t": false,
		"/":                                     false,
		"":                                      false,
	} {
		if got := isDirOf(path, id); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
}

// TestStoppedSupervisor: a supervisor that was given a run's order while it stood still, by an
// agent that is gone, keeps the run neither from its start nor from its end.
func TestStoppedSupervisor(t *testing.T) {
	for name, end := range map[string]func(*machine, *Client, Spec){
		"it is killed": func(m *machine, c *Client, s Spec) {
			must(m.t, c.Kill(m.ctx(), s.Run))
		},
		"it is started again": func(m *machine, c *Client, s Spec) {
			start(m.t, c, s)
			if e := follow(m.t, c, s.Run); e.exit == nil || e.exit.Code != 0 {
				m.t.Errorf("it ended as %+v", e)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			l := m.dial()
			c, err := Connect(m.ctx(), l)
			must(t, err)
			follow(t, c, start(t, c, m.command("true"))) // whose supervisor has the next one, too
			all, err := allProcesses()
			must(t, err)
			supervisor := 0
			for _, p := range all {
				if p.parent == l.cmd.Process.Pid {
					supervisor = p.pid
					must(t, unix.Kill(p.pid, unix.SIGSTOP))
				}
			}
			s := m.command("true")
			asked := make(chan error, 1)
			go func() {
				_, err := c.Start(m.ctx(), []Spec{s})
				asked <- err
			}()
			awaitQueuedOrder(t, supervisor)
			must(t, l.cmd.Process.Kill())
			<-asked
			c.Close()
			c = m.connect()
			end(m, c, s)
			if v, err := look(m.dir(s.Run), "boot-1"); err != nil ||
				!v.state.Final() && v.state != None {
				t.Errorf("its state is %v, %v", v.state, err)
			}
			must(t, c.Forget(m.ctx(), []RunID{s.Run}, true))
		})
	}
}

// awaitQueuedOrder waits until a supervisor that stands still has an order to read.
func awaitQueuedOrder(t *testing.T, supervisor int) {
	t.Helper()
	p, err := unix.PidfdOpen(supervisor, 0)
	must(t, err)
	defer unix.Close(p)
	orders, err := unix.PidfdGetfd(p, 3, 0)
	must(t, err)
	defer unix.Close(orders)
	_, err = unix.Poll([]unix.PollFd{{Fd: int32(orders), Events: unix.POLLIN}}, 60_000)
	must(t, err)
}

// TestGoneOn: where the supervisor of a run has another one by now, or its pid is another
// process's, neither it nor what that has started is of the run.
func TestGoneOn(t *testing.T) {
	m := newMachine(t)
	c := m.connect()
	served := map[lifetime]RunID{} // by supervisor
	var first, second RunID
	var is view
	for first.Job == 0 { // it may take a moment until a supervisor is free again
		end := filepath.Join(m.login, "end-"+strconv.Itoa(len(served)))
		second = start(t, c, m.command("echo ready; until [ -e %s ]; do sleep 0.01; done", end))
		awaitOutput(t, c, second, "ready")
		var err error
		is, err = look(m.dir(second), "boot-1")
		must(t, err)
		supervisor := lifetime{is.launching.PID, is.launching.StartTime}
		if first = served[supervisor]; first.Job == 0 {
			must(t, os.WriteFile(end, nil, 0o600))
			follow(t, c, second)
			served[supervisor] = second
		}
	}
	was, err := look(m.dir(first), "boot-1")
	must(t, err)
	another := is.launching
	another.StartTime-- // as if the pid had been another supervisor's before
	another.Mark = 0
	for name, supervisor := range map[string]process{"first": was.launching, "another": another} {
		if found := family(first, supervisor); len(found) > 0 {
			t.Errorf("of the %s run are %+v", name, found)
		}
	}
	if found := family(second, is.launching); len(found) < 2 { // with it, its shell
		t.Errorf("of the second run are %+v", found)
	}
}

// TestResume: what was stopped to be killed, and is found to be none of those, goes on.
func TestResume(t *testing.T) {
	cmd := exec.Command("sleep", "300")
	must(t, cmd.Start())
	stat, ok := readStat(cmd.Process.Pid)
	if !ok {
		t.Fatal("it has no stat")
	}
	looks := 0
	killed, left := killAll(func() []procStat {
		if looks++; looks == 1 {
			return []procStat{stat}
		}
		return nil
	}, func() {})
	if killed != 0 || left != 0 {
		t.Errorf("%d were killed, %d left", killed, left)
	}
	must(t, cmd.Process.Signal(unix.SIGTERM)) // which ends none that stands still
	if err := cmd.Wait(); err == nil || err.Error() != "signal: terminated" {
		t.Errorf("it ended with %v", err)
	}
}
