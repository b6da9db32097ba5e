package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"jobserver/api"
	"jobserver/failpoint"
	"jobserver/fleet"
	"jobserver/logging"
	"jobserver/sched"
	"jobserver/snapshot"
	"jobserver/ssh"
	"jobserver/version"
)

// The daemon: it takes its state directory, rebuilds its state, and connects the rooms. The scheduler's loop
// owns the state; the fleet carries out what it decides, and the socket brings it requests (service.go).

// defaultMinFree is what stays free on the host's disks when --min-free isn't given.
const defaultMinFree = 256 << 20

// daemonParts are the rooms of a running daemon.
type daemonParts struct {
	settings ServeCmd
	socket   string
	started  time.Time
	now      func() time.Time
	recovery *snapshot.Recovery
	store    *snapshot.Store
	log      *logging.Log
	fleet    *fleet.Fleet
	loop     *sched.Loop
	teller   *teller     // serve_notify.go
	watcher  *watcher    // serve_watch.go
	code     *codeKeeper // serve_code.go
	unlogged uint64      // the cursor from which logEvents logs events: the state's before the loop runs
	numbers  *numbers    // serve_metrics.go; nil without --metrics
}

// runServe is the daemon's life: it returns nil when ctx ends, and leaves running jobs running.
func runServe(ctx context.Context, e *env, c ServeCmd) error {
	d := &daemonParts{settings: c, started: e.now(), now: e.now}
	if err := d.complete(e); err != nil {
		return err
	}
	// Who reads what we print may go away; that is for the log to notice. Caught and not ignored: what we start doesn't inherit it.
	unread := make(chan os.Signal, 1)
	signal.Notify(unread, syscall.SIGPIPE)
	defer signal.Stop(unread)
	log, err := logging.Open(logging.Options{ConfigPath: d.settings.LogConfig, StateDir: d.settings.StateDir, Stdout: e.stdout, Stderr: e.stderr})
	if err != nil {
		return api.Errorf(api.Usage, "%v", err)
	}
	defer log.Close()
	d.log = log
	server := log.Logger("server")
	state, err := d.open(server)
	if err != nil {
		return err
	}
	defer func() {
		if err := d.store.Close(); err != nil {
			server.Error("the state was not closed as it should be; nothing that was acknowledged is lost", "err", err)
		}
	}()
	if err := d.build(state); err != nil {
		return err
	}
	failpoint.Hit("serve.recovered")
	metricsListener, err := d.listenMetrics(ctx)
	if err != nil {
		return err
	}
	listener, err := api.Listen(d.socket)
	if err != nil {
		return errors.Join(err, closeListener(metricsListener))
	}
	server.Info("the daemon is ready", "version", version.String(), "pid", os.Getpid(), "socket", d.socket, "state", d.settings.StateDir,
		"jobs", state.JobCount(), "machines", len(state.Machines()), "driver", d.settings.Driver)
	err = d.run(ctx, listener, metricsListener, server)
	if err != nil {
		server.Error("the daemon stops", "err", err)
		var fault *sched.Error
		if errors.As(err, &fault) { // of the scheduler itself; the disk's and the network's are none of ours
			return wireError(err)
		}
		return err
	}
	server.Info("the daemon stops; running jobs run on")
	return nil
}

// build makes fleet and loop. Each needs the other: the loop is there before the fleet reports anything.
func (d *daemonParts) build(state *sched.State) error {
	c := &d.settings
	binary, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the program's own file: %w", err)
	}
	var driver []string
	if c.Driver != "" {
		driver = append([]string{c.Driver}, c.DriverArg...)
	}
	d.unlogged = state.Changes()
	state.Configure(sched.Config{Driver: driver, MaxLog: int64(c.MaxLog)})
	fleetLog := d.log.Logger("server::fleet")
	d.fleet, err = fleet.New(fleet.Options{
		ServerID: d.recovery.ServerID, Version: version.String(), StateDir: c.StateDir, LogDir: c.LogDir, Binary: binary,
		SSH: ssh.Options{
			ConfigFile: c.SSHConfig, Identity: c.Identity, KnownHosts: c.KnownHosts, OpenSSH: c.Transport == "openssh", Logger: fleetLog,
		},
		MaxLog: int64(c.MaxLog), MinFree: int64(c.MinFree),
		Report: func(o sched.Outcome) { d.loop.Report(o) },
		Log:    fleetLog,
	})
	if err != nil {
		return err
	}
	if d.teller, err = newTeller(d, state); err != nil {
		return err
	}
	d.watcher = newWatcher(d, d.teller)
	saving := d.log.Logger("server::snapshot")
	durable := journal{store: d.store, log: saving}
	if c.Metrics != "" {
		d.numbers = newNumbers(d, state)
		durable.took = d.numbers.commit.Observe
	}
	d.loop = sched.NewLoop(state, durable, d.fleet, sched.LoopOptions{
		Now: time.Now, Token: newToken, MinFree: d.stateMinFree(),
		Problem: func(what string, err error) { saving.Error("could not "+what, "err", err) },
	})
	d.code = newCodeKeeper(d)
	return nil
}

// run lets the rooms run until ctx ends or one of them fails, and waits for all of them. The socket goes first,
// then the loop, then the fleet.
func (d *daemonParts) run(ctx context.Context, listener, metricsListener net.Listener, log *slog.Logger) error {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)

	serving, stopServing := context.WithCancel(ctx)
	defer stopServing()
	looping, stopLoop := context.WithCancel(context.WithoutCancel(ctx))
	defer stopLoop()
	fleeting, stopFleet := context.WithCancel(context.WithoutCancel(ctx))
	defer stopFleet()

	var group errgroup.Group
	group.Go(func() error {
		defer stopFleet()
		defer stopServing()
		return d.loop.Run(looping)
	})
	group.Go(func() error { return d.fleet.Run(fleeting) })
	group.Go(func() error { d.log.Run(fleeting); return nil })
	group.Go(func() error { d.logEvents(fleeting); return nil })
	group.Go(func() error { d.teller.run(fleeting); return nil })
	group.Go(func() error { d.teller.notifier.Run(fleeting); return nil })
	group.Go(func() error { d.watcher.run(fleeting); return nil })
	group.Go(func() error { d.code.run(fleeting); return nil })
	group.Go(func() error { d.sweepLogs(fleeting); return nil })
	if d.numbers != nil {
		group.Go(func() error { d.numbers.follow(fleeting); return nil })
		group.Go(func() error { return d.serveMetrics(serving, metricsListener) })
	}
	group.Go(func() error {
		defer stopLoop()
		return d.serveSocket(serving, listener)
	})
	group.Go(func() error { d.reload(fleeting, hangup, log); return nil })
	return group.Wait()
}

// serveSocket answers clients until ctx ends.
func (d *daemonParts) serveSocket(ctx context.Context, listener net.Listener) error {
	log := d.log.Logger("server::api")
	return api.Serve(ctx, listener, api.ServerOptions{
		Hello: api.HelloReply{
			Version: version.String(), ServerID: d.recovery.ServerID, PID: os.Getpid(), StateDir: d.settings.StateDir, UID: os.Getuid(),
		},
		Register: func(ctx context.Context, peer api.Peer) []api.Method {
			return (&service{daemonParts: d, ctx: ctx, peer: peer, log: log}).methods()
		},
		Logger: log,
	})
}

// reload reads the log configuration again at each hangup.
func (d *daemonParts) reload(ctx context.Context, hangup <-chan os.Signal, log *slog.Logger) {
	for {
		select {
		case <-hangup:
			if err := d.log.Reload(); err != nil {
				log.Error("the log configuration was not taken over; the one before stays", "err", err)
			}
		case <-ctx.Done():
			return
		}
	}
}

// newToken names a run so that no other has the name.
func newToken() string {
	var b [12]byte
	if failpoint.Breaks("token-new") {
		return hex.EncodeToString(b[:])
	}
	rand.Read(b[:]) // it never fails: the program ends where there is no randomness
	return hex.EncodeToString(b[:])
}
