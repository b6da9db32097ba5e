//go:build linux

// Package daemon is the daemon: it takes its state directory, rebuilds its state, and connects the
// rooms. The scheduler's loop owns the state; the fleet carries out what it decides, and the socket
// brings it requests (service/). What happens is told by report/.
package daemon

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
	"runtime/debug"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"jobserver/api"
	"jobserver/daemon/report"
	"jobserver/daemon/retention"
	"jobserver/daemon/service"
	"jobserver/daemon/wire"
	"jobserver/failpoint"
	"jobserver/fleet"
	"jobserver/logging"
	"jobserver/notify"
	"jobserver/sched"
	"jobserver/slim"
	"jobserver/snapshot"
	"jobserver/version"
)

// daemon has the rooms of a running daemon.
type daemon struct {
	o             Options
	started       time.Time
	recovery      *snapshot.Recovery
	store         *snapshot.Store
	log           *logging.Log
	fleet         *fleet.Fleet
	loop          *sched.Loop
	notifications *report.Notifications
	watcher       *report.Watcher
	code          *codeKeeper
	retention     *retention.Keeper
	metrics       *report.Metrics // nil without --metrics
	timelines     *service.Timelines
	// the cursor from which logEvents logs events: the state's before the loop runs
	unlogged uint64
}

// Run is the daemon's life: it returns nil when ctx ends, and leaves running jobs running.
func Run(ctx context.Context, o Options) error {
	if o.MinFree == 0 {
		o.MinFree = DefaultMinFree
	}
	d := &daemon{o: o, started: o.Now()}
	// Who reads what we print may go away; that is for the log to notice. Caught and not ignored:
	// what we start doesn't inherit it.
	unread := make(chan os.Signal, 1)
	signal.Notify(unread, syscall.SIGPIPE)
	defer signal.Stop(unread)
	if err := d.o.ownDirs(); err != nil {
		return err
	}
	log, err := logging.Open(logging.Options{ConfigPath: d.o.LogConfig, StateDir: d.o.StateDir,
		Stdout: d.o.Stdout, Stderr: d.o.Stderr})
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
			server.Error("the state was not closed as it should be; nothing that was "+
				"acknowledged is lost", "err", err)
		}
	}()
	if err := d.build(state); err != nil {
		return err
	}
	failpoint.Hit("serve.recovered")
	metricsListener, err := listenMetrics(ctx, d.o.Metrics)
	if err != nil {
		return err
	}
	listener, err := api.Listen(d.o.Socket)
	if err != nil {
		return errors.Join(err, closeListener(metricsListener))
	}
	server.Info("the daemon is ready", "version", version.String(), "pid", os.Getpid(), "socket",
		d.o.Socket, "state", d.o.StateDir,
		"jobs", state.JobCount(), "machines", len(state.Machines()), "driver", d.o.driver())
	err = d.run(ctx, listener, metricsListener, server)
	if err != nil {
		server.Error("the daemon stops", "err", err)
		var fault *sched.Error
		if errors.As(err, &fault) {
			// of the scheduler itself; the disk's and the network's are none of ours
			return wire.Error(err)
		}
		return err
	}
	server.Info("the daemon stops; running jobs run on")
	return nil
}

// build makes fleet and loop. Each needs the other: the loop is there before the fleet reports
// anything.
func (d *daemon) build(state *sched.State) error {
	c := &d.o
	binary, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the program's own file: %w", err)
	}
	d.unlogged = state.Changes()
	state.Configure(sched.Config{Driver: c.Driver, MaxLog: c.MaxLog})
	fleetLog := d.log.Logger("server::fleet")
	sshOptions := c.SSH
	sshOptions.Logger = fleetLog
	d.fleet, err = fleet.New(fleet.Options{
		ServerID: d.recovery.ServerID, Version: version.String(), StateDir: c.StateDir,
		LogDir: c.LogDir, Binary: binary,
		Slim: slim.Agents(),
		SSH:  sshOptions, PassEnv: c.PassEnv,
		MaxLog: c.MaxLog, MinFree: c.MinFree,
		Report: func(o sched.Outcome) { d.loop.Report(o) },
		AfterList: func(ctx context.Context, job uint64) ([]byte, error) {
			return service.AfterList(ctx, d.loop, job)
		},
		Log: fleetLog,
	})
	if err != nil {
		return err
	}
	d.notifications, err = report.NewNotifications(report.NotificationOptions{
		Modes: c.Modes, Commands: c.Commands, Interval: c.SummaryInterval,
		Now: c.Now, Log: d.log.Logger("server::notify"),
	}, state)
	if err != nil {
		return api.Errorf(api.Usage, "%v", err)
	}
	watch := report.WatchOptions{
		Away: c.Away, MinFree: c.MinFree, StateDir: c.StateDir, LogDir: c.LogDir, Now: c.Now,
	}
	if d.notifications.Wants(notify.Silent) {
		watch.Silent = c.Silent
	}
	d.watcher = report.NewWatcher(watch)
	saving := d.log.Logger("server::snapshot")
	durable := journal{store: d.store, log: saving}
	loop := sched.LoopOptions{
		Now: time.Now, Token: newToken, MinFree: c.stateMinFree(),
		Problem: func(what string, err error) { saving.Error("could not "+what, "err", err) },
	}
	if c.Metrics != "" {
		d.metrics = report.NewMetrics(report.MetricsOptions{
			Now: c.Now, Log: d.log.Logger("server::metrics"),
			Version: version.String(), ServerID: d.recovery.ServerID, Started: d.started,
			StateDir: c.StateDir, Notifications: d.notifications.Stats,
		}, state)
		durable.took, loop.Stretch = d.metrics.Committed, d.metrics.Stretch
	}
	d.loop = sched.NewLoop(state, durable, d.fleet, loop)
	d.timelines = service.NewTimelines(d.loop, c.Now)
	d.retention = retention.New(retention.Options{
		Loop: d.loop, Now: c.Now, Log: d.log.Logger("server::retention"), LogDir: c.LogDir,
		Keep: c.Keep, KeepJobs: c.KeepJobs, KeepLogs: c.KeepLogs, Archive: c.Archive,
	})
	d.code = newCodeKeeper(c.StateDir, d.loop, c.Now, d.log.Logger("server::code"))
	return nil
}

// run lets the rooms run until ctx ends or one of them fails, and waits for all of them. The socket
// goes first, then the loop, then the fleet.
func (d *daemon) run(
	ctx context.Context, listener, metricsListener net.Listener, log *slog.Logger,
) error {
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
	group.Go(func() error { d.notifications.Follow(fleeting, d.loop); return nil })
	group.Go(func() error { d.notifications.Send(fleeting); return nil })
	group.Go(func() error { d.watcher.Watch(fleeting, d.loop); return nil })
	group.Go(func() error { d.code.run(fleeting); return nil })
	group.Go(func() error { sweepCopies(fleeting, d.loop, d.fleet, log); return nil })
	group.Go(func() error { d.timelines.Run(fleeting); return nil })
	group.Go(func() error { d.retention.Run(fleeting); return nil })
	group.Go(func() error { sweepLogs(fleeting, d.o.LogDir, d.loop, d.fleet, log); return nil })
	if d.metrics != nil {
		group.Go(func() error { d.metrics.Follow(fleeting, d.loop.Events()); return nil })
		group.Go(func() error { return d.metrics.Serve(serving, metricsListener, d.loop) })
	}
	group.Go(func() error {
		defer stopLoop()
		return d.serveSocket(serving, stopServing, listener)
	})
	group.Go(func() error { d.reload(fleeting, hangup, log); return nil })
	return group.Wait()
}

// serveSocket answers clients until ctx ends, which stop has it do.
func (d *daemon) serveSocket(
	ctx context.Context, stop context.CancelFunc, listener net.Listener,
) error {
	log := d.log.Logger("server::api")
	calls := &service.Options{
		Loop: d.loop, Fleet: d.fleet, Now: d.o.Now, Log: log,
		About: api.Status{
			Version: version.String(), PID: os.Getpid(), StateDir: d.o.StateDir, LogDir: d.o.LogDir,
			Socket: d.o.Socket, Driver: d.o.driver(), ServerID: d.recovery.ServerID,
			StartedAt: d.started,
		},
		MinFree: d.o.stateMinFree(), CodeCame: d.code.came, Timelines: d.timelines,
		Retention: d.retention,
		Stop:      stop,
	}
	return api.Serve(ctx, listener, api.ServerOptions{
		Hello: api.HelloReply{
			Version: version.String(), ServerID: d.recovery.ServerID, PID: os.Getpid(),
			StateDir: d.o.StateDir, UID: os.Getuid(),
		},
		Register: func(ctx context.Context, peer api.Peer) []api.Method {
			return service.Methods(ctx, calls, peer)
		},
		Logger:  log,
		Pressed: collectEarly(),
	})
}

// collectEarly has garbage collected early while clients hold much of the memory that they may
// have: what they were given before is to be gone before more is given to others.
func collectEarly() func(bool) {
	usual := debug.SetGCPercent(100)
	debug.SetGCPercent(usual)
	const early = 25
	return func(pressed bool) {
		switch {
		case !pressed:
			debug.SetGCPercent(usual)
		case usual < 0 || usual > early:
			debug.SetGCPercent(early)
		}
	}
}

// reload reads the log configuration again at each hangup.
func (d *daemon) reload(ctx context.Context, hangup <-chan os.Signal, log *slog.Logger) {
	for {
		select {
		case <-hangup:
			if err := d.log.Reload(); err != nil {
				log.Error("the log configuration was not taken over; the one before stays", "err",
					err)
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
