package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// An allocation of a batch system ends when its script does, and may take with it whatever was
// started beside the script, as steps are, with all that came of it. So an agent that is such a
// step can't start supervisors itself. It asks the allocation's keeper, which the script has
// become: supervisors are the keeper's children, and the connection on which one was asked for is
// the socket on which it gets its orders.
//
// The keeper knows nothing of runs. It starts whatever program the agent is, so that a later
// daemon's agents work with an earlier one's keeper.

// KeepMain is `jobserver keep [--idle DURATION] NAME`: the keeper of the allocation of that name.
// It returns when it is told to end, after its supervisors have recorded how their runs ended, or
// when no agent has been there for a while and nothing runs. Its exit code is that of an allocation
// that went well.
func KeepMain(args []string) int {
	flags := flag.NewFlagSet("jobserver keep", flag.ContinueOnError)
	idle := flags.Duration("idle", 15*time.Minute,
		"end when no agent has been there for `DURATION`, and nothing runs")
	if err := flags.Parse(args); err != nil || flags.NArg() != 1 || !validKeeper(flags.Arg(0)) {
		fmt.Fprintln(os.Stderr, "jobserver keep: the name of an allocation is missing")
		return 2
	}
	// What has been started again has lost its runs, and another allocation may have them by now.
	if restarts := os.Getenv(envRestarts); restarts != "" && restarts != "0" {
		fmt.Fprintf(os.Stderr, "jobserver keep: %s was started again: it keeps nothing\n",
			flags.Arg(0))
		return 0
	}
	if err := keep(flags.Arg(0), *idle); err != nil {
		fmt.Fprintf(os.Stderr, "jobserver keep: %v\n", err)
		return 1
	}
	return 0
}

// envRestarts is how often Slurm has started the allocation again.
const envRestarts = "SLURM_RESTART_COUNT"

// What an agent wants of the keeper, in the first byte of a connection.
const (
	askSupervisor = 's' // a supervisor, on this connection
	askPresence   = 'p' // to be known to be there, as long as the connection is
)

// askTime is how long an agent may take to say what it wants.
const askTime = 10 * time.Second

// keeper is the state of the process; all of it is the main goroutine's.
type keeper struct {
	supervisors map[int]bool // pids
	present     int          // agents that are there
	ended       bool         // it was told to end
}

// asked is a connection on which an agent has said what it wants.
type asked struct {
	fd   int
	pid  int // the agent's
	want byte
}

func keep(name string, idle time.Duration) error {
	// PDEATHSIG is sent when the thread that forked ends; the main goroutine keeps its thread.
	runtime.LockOSThread()
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(24 << 20)
	inheritNothing()
	// Whatever a supervisor leaves when it dies stays in the tree of the allocation.
	adoptOrphans()
	listener, err := listenAsKeeper(name)
	if err != nil {
		return err
	}
	if link := keepLink(); link != "" {
		_ = os.Remove(link) // it has led here
	}
	signals := make(chan os.Signal, 16)
	// Caught, not ignored: nothing of it is inherited.
	signal.Notify(signals, unix.SIGCHLD, unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT,
		unix.SIGUSR1, unix.SIGUSR2, unix.SIGPIPE, unix.SIGXCPU)
	calls, gone := make(chan asked), make(chan struct{})
	go acceptAgents(listener, calls) // for the life of the process
	k := &keeper{supervisors: map[int]bool{}}
	alone := time.NewTimer(idle)
	defer alone.Stop()
	for {
		select {
		case c := <-calls:
			k.answer(c, gone)
		case <-gone:
			k.present--
		case sig := <-signals:
			k.signaled(sig)
		case <-alone.C:
			return nil
		}
		if k.ended && len(k.supervisors) == 0 {
			return nil
		}
		if k.present > 0 || len(k.supervisors) > 0 {
			alone.Stop()
		} else {
			alone.Reset(idle)
		}
	}
}

// keepLink is the name by which the script has found its keeper; "" if it was another.
func keepLink() string {
	path, err := filepath.Abs(os.Args[0])
	if err != nil || filepath.Base(filepath.Dir(path)) != dirKeep {
		return ""
	}
	return path
}

// dirKeep has, in a root, links to programs, each with the name of the allocation whose keeper the
// program is to be.
const dirKeep = "keep"

// keeperAddr is an abstract name: it is gone with the keeper, and needs no place in any directory.
// It may have 107 bytes.
func keeperAddr(name string) *unix.SockaddrUnix {
	if len(name) > 64 {
		sum := sha256.Sum256([]byte(name))
		name = hex.EncodeToString(sum[:])
	}
	return &unix.SockaddrUnix{Name: "@jobserver-keep-" + strconv.Itoa(os.Getuid()) + "-" + name}
}

func listenAsKeeper(name string) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		if err = unix.Bind(fd, keeperAddr(name)); err == nil {
			err = unix.Listen(fd, 64)
		}
	}
	if err != nil {
		return -1, fmt.Errorf("listen for agents: %w", err)
	}
	return fd, nil
}

// validKeeper tells whether a text can be the name of an allocation: it is one of a file, too.
func validKeeper(name string) bool {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
	return name != "" && len(name) <= 200 && strings.Trim(name, letters) == ""
}

// acceptAgents hands on the connections of our own user's processes: an abstract name can be used
// by anybody on the machine.
func acceptAgents(listener int, calls chan<- asked) {
	for {
		fd, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
		if err != nil {
			if err != unix.EINTR && err != unix.ECONNABORTED {
				time.Sleep(100 * time.Millisecond) // no descriptors left, say
			}
			continue
		}
		pid, err := peerOfOurs(fd)
		if err != nil {
			unix.Close(fd)
			continue
		}
		go func() {
			limit := unix.NsecToTimeval(int64(askTime))
			_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit)
			var want [1]byte
			if n, err := readFD(fd, want[:]); n < 1 || err != nil {
				unix.Close(fd)
				return
			}
			_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{})
			calls <- asked{fd, pid, want[0]}
		}()
	}
}

// readFD reads once, whatever interrupts it.
func readFD(fd int, p []byte) (n int, err error) {
	for {
		if n, err = unix.Read(fd, p); err != unix.EINTR {
			return n, err
		}
	}
}

// peerOfOurs is the process at the other end of a connection; an error says that it is another
// user's.
func peerOfOurs(fd int) (pid int, err error) {
	peer, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	switch {
	case err != nil:
		return 0, err
	case int(peer.Uid) != os.Getuid():
		return 0, fmt.Errorf("the other end belongs to user %d", peer.Uid)
	}
	return int(peer.Pid), nil
}

// answer does what an agent wants.
func (k *keeper) answer(c asked, gone chan<- struct{}) {
	switch {
	case c.want == askPresence:
		k.present++
		go func() {
			var p [64]byte
			for n := 1; n > 0; {
				n, _ = readFD(c.fd, p[:])
			}
			unix.Close(c.fd)
			gone <- struct{}{}
		}()
		return
	case c.want == askSupervisor && !k.ended:
		if err := k.supervise(c); err != nil {
			fmt.Fprintf(os.Stderr, "jobserver keep: start a supervisor: %v\n", err)
		}
	}
	unix.Close(c.fd) // what isn't known or can't be had is refused so
}

// supervise starts a supervisor that takes its orders from the connection. It dies with us: what
// kills a keeper ends its allocation, whose runs may begin elsewhere. SIGTERM, for the sake of all
// that is below it.
func (k *keeper) supervise(c asked) error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	pid, err := syscall.ForkExec("/proc/"+strconv.Itoa(c.pid)+"/exe",
		[]string{"jobserver", "supervise"}, &syscall.ProcAttr{
			Dir:   "/",
			Env:   superviseEnv,
			Files: []uintptr{null.Fd(), null.Fd(), null.Fd(), uintptr(c.fd)},
			Sys:   &syscall.SysProcAttr{Setsid: true, Pdeathsig: unix.SIGTERM},
		})
	if err != nil {
		return err
	}
	k.supervisors[pid] = true
	return nil
}

// signaled takes a signal. Told to end, the keeper tells its supervisors, and waits for them: they
// end their runs and record that.
func (k *keeper) signaled(sig os.Signal) {
	switch sig {
	case unix.SIGCHLD:
		for {
			pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
			if pid <= 0 && err != unix.EINTR {
				return
			}
			delete(k.supervisors, pid)
		}
	case unix.SIGTERM, unix.SIGINT:
		k.ended = true
		for pid := range k.supervisors {
			_ = unix.Kill(pid, unix.SIGTERM) // it may have ended
		}
	}
}
