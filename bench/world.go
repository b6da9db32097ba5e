package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"jobserver/daemontest"
	"jobserver/ssh/sshtest"
)

// A world is what the lines share: a directory on a real disk, a machine with sshd, and an open
// connection to it for the peers. What the lines leave in it is removed at the end: for minutes
// after files were removed, ext4 looks at each of them before it makes one in their place
// (recently_deleted, fs/ext4/ialloc.c), and line 11 makes many.
type world struct {
	dir     string
	binary  string
	user    *sshtest.Client
	machine *sshtest.Machine // "m1"
	peers   string           // an ssh configuration with a control path
	fresh   string           // the same without
	master  *exec.Cmd

	filler *filler

	many     []*sshtest.Machine // made when they are first asked for, see crowd
	machines int                // of line 23, at most

	history string // a state directory with a million jobs, made when it is first asked for
}

const (
	tmpfsMagic   = 0x01021994 // statfs(2)
	peersCiphers = "  Ciphers aes128-gcm@openssh.com\n  KexAlgorithms curve25519-sha256\n"
)

func newWorld(ctx context.Context, o options) (*world, error) {
	base := os.Getenv("BENCH_DIR")
	dir, err := os.MkdirTemp(base, "jobserver-bench-")
	if err != nil {
		return nil, err
	}
	w := &world{dir: dir, binary: o.binary, machines: o.machines,
		history: cmp.Or(o.history, filepath.Join(dir, "history"))}
	if err := w.prepare(ctx); err != nil {
		return nil, errors.Join(err, w.close())
	}
	return w, nil
}

func (w *world) prepare(ctx context.Context) error {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(w.dir, &fs); err != nil {
		return err
	}
	if fs.Type == tmpfsMagic {
		return fmt.Errorf("%s is in memory: name a directory on a disk with BENCH_DIR", w.dir)
	}
	var err error
	if w.filler, err = newFiller(w.path("filler")); err != nil {
		return err
	}
	if w.user, err = sshtest.NewClient(w.path("user")); err != nil {
		return err
	}
	if w.machine, err = w.newMachine("m1"); err != nil {
		return err
	}
	w.fresh, w.peers = w.path("fresh"), w.path("peers")
	if err := os.WriteFile(w.fresh, []byte("Host *\n"+peersCiphers+"Include "+w.user.ConfigFile+
		"\n"), 0o600); err != nil {
		return err
	}
	shared := "Host *\n  ControlPath " + w.path("control-%n") + "\n" + peersCiphers + "Include " +
		w.user.ConfigFile + "\n"
	if err := os.WriteFile(w.peers, []byte(shared), 0o600); err != nil {
		return err
	}
	w.master, err = w.openMaster(ctx, "m1")
	return err
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

// newMachine starts an sshd.
func (w *world) newMachine(name string) (*sshtest.Machine, error) {
	return sshtest.New(w.path("machine-"+name), sshtest.Shared(w.user), sshtest.Named(name),
		sshtest.ServerConfig("Subsystem sftp internal-sftp"))
}

// openMaster opens the peers' connection to a machine, and waits until it carries commands.
func (w *world) openMaster(ctx context.Context, machine string) (*exec.Cmd, error) {
	// ssh leaves its socket when it is killed, and wouldn't be a master beside an old one.
	if err := os.Remove(w.path("control-" + machine)); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	master := exec.Command("ssh", "-F", w.peers, "-M", "-N", machine)
	if err := master.Start(); err != nil {
		return nil, err
	}
	for range 1000 {
		if exec.CommandContext(ctx, "ssh", "-F", w.peers, "-O", "check", machine).Run() == nil {
			return master, nil
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), closeMaster(master))
		}
	}
	return nil, errors.Join(fmt.Errorf("the peers' connection to %s doesn't open", machine),
		closeMaster(master))
}

func closeMaster(master *exec.Cmd) error {
	err := master.Process.Kill()
	_ = master.Wait() // killed
	return err
}

func (w *world) close() error {
	var errs []error
	if w.master != nil {
		errs = append(errs, closeMaster(w.master))
	}
	for _, m := range append(w.many, w.machine) {
		if m != nil {
			errs = append(errs, m.Close())
		}
	}
	if w.filler != nil {
		errs = append(errs, w.filler.close())
	}
	return errors.Join(append(errs, os.RemoveAll(w.dir))...)
}

// A daemon is one that runs.
type daemon struct {
	*daemontest.Daemon
	metrics string // their URL, see findMetrics
}

// start starts a daemon on a state directory, which is made if there is none.
func (w *world) start(ctx context.Context, state string, args ...string) (*daemon, error) {
	d := &daemon{Daemon: &daemontest.Daemon{
		Binary: w.binary, StateDir: state,
		Args: append([]string{"--ssh-config", w.user.ConfigFile}, args...),
	}}
	if err := d.Start(ctx); err != nil {
		return nil, err
	}
	return d, nil
}

// withDaemon runs f beside a daemon with a new state directory, and ends it.
func (w *world) withDaemon(ctx context.Context, f func(d *daemon) error) error {
	state, err := os.MkdirTemp(w.dir, "state-")
	if err != nil {
		return err
	}
	return w.withState(ctx, state, f)
}

// withState is the same on a state directory that is there.
func (w *world) withState(
	ctx context.Context, state string, f func(d *daemon) error, args ...string,
) error {
	d, err := w.start(ctx, state, args...)
	if err != nil {
		return err
	}
	err = f(d)
	if err != nil {
		err = fmt.Errorf("%w\nthe daemon printed:\n%s", err, tail(d.ConsoleText(), 2000))
	}
	return errors.Join(err, d.Stop())
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

// words is a command line of the client.
func (d *daemon) words(args ...string) []string {
	return append([]string{d.Binary, "--socket", d.Socket}, args...)
}

// j runs the client, as a process, and gives what it printed and how long it took. It has to
// succeed.
func (d *daemon) j(ctx context.Context, args ...string) (string, time.Duration, error) {
	return output(ctx, d.words(args...)...)
}

// output runs a command that has to succeed, and gives what it printed on stdout.
func output(ctx context.Context, words ...string) (string, time.Duration, error) {
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	took, err := timed(cmd.Run)
	if err != nil {
		return "", 0, fmt.Errorf("%s: %w\n%s%s", strings.Join(words, " "), err,
			tail(out.String(), 1000), tail(errs.String(), 1000))
	}
	return out.String(), took, nil
}

// addMachine adds a machine and waits until it is connected and has run a job: what is measured
// later is the work alone.
func (d *daemon) addMachine(ctx context.Context, addr, class string, slots int) error {
	if _, _, err := d.j(ctx, "machine", "add", addr, class, "--slots",
		fmt.Sprint(slots)); err != nil {
		return err
	}
	_, _, err := d.j(ctx, "add", class, "true", "--wait")
	return err
}

// A job is what the checks look at, out of the documented JSON.
type job struct {
	JID      uint64 `json:"jid"`
	Status   string `json:"status"`
	ExitCode *int   `json:"exit_code"`
	Attempt  int    `json:"attempt"`
	Error    string `json:"error"`
	Log      string `json:"log"`
	Machine  string `json:"machine"`

	ResultsStatus string `json:"results_status"`
}

// jobs are all jobs that the selectors match.
func (d *daemon) jobs(ctx context.Context, selectors ...string) ([]job, error) {
	out, _, err := d.j(ctx, append([]string{"ls", "-o", "jsonl", "-n", "0"}, selectors...)...)
	if err != nil {
		return nil, err
	}
	var all []job
	for dec := json.NewDecoder(strings.NewReader(out)); ; {
		var j job
		if err := dec.Decode(&j); err == io.EOF {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("read a listing: %w", err)
		}
		all = append(all, j)
	}
}

// verify checks that n jobs match the selectors, that each has ended with 0 and ran once, and that
// its log is on this host and holds what it has to.
func (d *daemon) verify(ctx context.Context, n int, log string, selectors ...string) error {
	all, err := d.jobs(ctx, selectors...)
	if err != nil {
		return err
	}
	if len(all) != n {
		return fmt.Errorf("%d jobs match %v, not %d", len(all), selectors, n)
	}
	for _, j := range all {
		if j.Status != "done" || j.ExitCode == nil || *j.ExitCode != 0 || j.Attempt != 1 {
			return fmt.Errorf("job %d: %s after %d attempts, %s", j.JID, j.Status, j.Attempt,
				j.Error)
		}
		b, err := os.ReadFile(j.Log)
		if errors.Is(err, fs.ErrNotExist) {
			err = nil // a log that is empty has no file
		}
		if err != nil || string(b) != log {
			return fmt.Errorf("the log of job %d holds %q and not %q: %v", j.JID,
				tail(string(b), 100), log, err)
		}
	}
	return nil
}
