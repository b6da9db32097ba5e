package report

import (
	"context"
	"log/slog"
	"net"
	"runtime"
	"time"

	"jobserver/disk"
	"jobserver/metrics"
	"jobserver/notify"
	"jobserver/sched"
)

// Metrics are what `serve --metrics` tells: what happened since the start, and how things are when
// somebody asks.
type Metrics struct {
	o        MetricsOptions
	cursor   uint64 // of the events
	attempts *metrics.Counter
	copies   *metrics.Counter
	broken   *metrics.Counter
	missed   *metrics.Counter
	start    *metrics.Histogram
	commit   *metrics.Histogram
	stretch  *metrics.Histogram

	// Follow's own: jobs whose newest attempt, or step, has not started yet
	dispatched map[uint64]time.Time
}

// MetricsOptions say what metrics tell of the daemon beside its events.
type MetricsOptions struct {
	Now               func() time.Time
	Log               *slog.Logger
	Version, ServerID string
	Started           time.Time
	StateDir          string
	Notifications     func() notify.Stats
}

// maxDispatched bounds the jobs that are remembered until they start.
const maxDispatched = 100_000

// NewMetrics counts what happens after the present state.
func NewMetrics(o MetricsOptions, state *sched.State) *Metrics {
	return &Metrics{
		o: o, cursor: state.Changes(), dispatched: map[uint64]time.Time{},
		attempts: metrics.NewCounter("jobserver_attempts_total",
			"Attempts that have ended, by what became of the job.", "outcome", "class"),
		copies: metrics.NewCounter("jobserver_copies_total", "Copies of results that have ended.",
			"outcome", "class"),
		broken: metrics.NewCounter("jobserver_machines_broken_total",
			"Machines that were set aside.", "class"),
		missed: metrics.NewCounter("jobserver_metrics_gaps_total",
			"Times that events came faster than they could be counted here."),
		start: metrics.NewHistogram("jobserver_dispatch_latency_seconds",
			"From the decision to run an attempt, which is durable then, to the news that it has "+
				"started.", metrics.Seconds()),
		commit: metrics.NewHistogram("jobserver_journal_sync_seconds",
			"Time to make a batch of changes durable.", metrics.Seconds()),
		stretch: metrics.NewHistogram("jobserver_loop_stretch_seconds",
			"Processor time of what the scheduler did at a stretch, during which nobody else got "+
				"in.",
			[]float64{0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.003, 0.004, 0.005, 0.0075, 0.01,
				0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1}),
	}
}

// Committed is told how long a batch of changes took to become durable, in seconds.
func (m *Metrics) Committed(seconds float64) { m.commit.Observe(seconds) }

// Stretch measures what the scheduler does until done is called, in processor time: how long it
// waits for a processor says nothing of it.
func (m *Metrics) Stretch() (done func()) {
	runtime.LockOSThread()
	began := threadTime()
	return func() {
		m.stretch.Observe((threadTime() - began).Seconds())
		runtime.UnlockOSThread()
	}
}

// Serve answers until ctx ends. That nobody can read the numbers any more doesn't stop the daemon.
func (m *Metrics) Serve(ctx context.Context, l net.Listener, loop *sched.Loop) error {
	m.o.Log.Info("metrics are served", "address", l.Addr().String())
	page := func(ctx context.Context) (*metrics.Page, error) { return m.page(ctx, loop) }
	if err := metrics.Serve(ctx, l, m.o.Log, page); err != nil {
		m.o.Log.Error("metrics are no longer served", "err", err)
	}
	return nil
}

// Follow counts events until ctx ends or the loop stops.
func (m *Metrics) Follow(ctx context.Context, from *sched.Events) {
	from.Follow(ctx, m.cursor, func(events []sched.Event, gap bool) bool {
		if gap {
			m.missed.Add(1)
		}
		for i := range events {
			m.count(&events[i])
		}
		return true
	})
}

func (m *Metrics) count(e *sched.Event) {
	switch e.Kind {
	case sched.EventJobRunning:
		if len(m.dispatched) < maxDispatched {
			m.dispatched[e.Job] = e.At
		}
	case sched.EventJobStarted:
		if at, ok := m.dispatched[e.Job]; ok {
			m.start.Observe(e.At.Sub(at).Seconds())
			delete(m.dispatched, e.Job)
		}
	case sched.EventJobForgotten:
		delete(m.dispatched, e.Job)
	case sched.EventJobCopied:
		m.copies.Add(1, "copied", e.Class)
	case sched.EventJobCopyFailed:
		m.copies.Add(1, "failed", e.Class)
	case sched.EventMachineBroken:
		m.broken.Add(1, e.Class)
	}
	if e.Ended {
		delete(m.dispatched, e.Job)
		outcome := sched.StatusName(e.Status)
		switch e.Status {
		case sched.Copying:
			outcome = "done"
		case sched.Waiting, sched.Held:
			outcome = "retried"
		case sched.Running:
			outcome = "step"
		}
		m.attempts.Add(1, outcome, e.Class)
	}
}

// page is the present reply.
func (m *Metrics) page(ctx context.Context, loop *sched.Loop) (*metrics.Page, error) {
	page := &metrics.Page{
		Families: []metrics.Family{m.attempts.Family(), m.copies.Family(), m.broken.Family(),
			m.missed.Family()},
		Histograms: []*metrics.Histogram{m.start, m.commit, m.stretch},
	}
	now := m.o.Now()
	if err := loop.Read(ctx,
		func(st *sched.State) {
			page.Families = append(page.Families, stateFamilies(st, now)...)
		}); err != nil {
		return nil, err
	}
	page.Families = append(page.Families,
		metrics.Family{Name: "jobserver_info",
			Help: "Always 1; the labels tell which daemon this is.", Samples: []metrics.Sample{
				{Labels: []metrics.Label{{Name: "version", Value: m.o.Version},
					{Name: "server_id", Value: m.o.ServerID}}, Value: 1}}},
		metrics.Gauge("jobserver_start_time_seconds",
			"When the daemon started, in seconds since the Unix epoch.",
			float64(m.o.Started.UnixNano())/1e9),
		metrics.Gauge("jobserver_host_free_bytes",
			"What is left on the file system of the state directory.", float64(free(m.o.StateDir))),
	)
	page.Families = append(page.Families, notifyFamilies(m.o.Notifications())...)
	return page, nil
}

// free tells how much is left on the file system of a directory, in bytes; -1 when that can't be
// told.
func free(dir string) int64 {
	n, err := disk.Free(dir)
	if err != nil {
		return -1
	}
	return n
}

func notifyFamilies(s notify.Stats) []metrics.Family {
	counter := func(name, help string, value uint64) metrics.Family {
		return metrics.Family{Name: name, Help: help, Counter: true,
			Samples: []metrics.Sample{{Value: float64(value)}}}
	}
	return []metrics.Family{
		counter("jobserver_notifications_sent_total",
			"Messages that were taken, and commands of --on that succeeded.", s.Sent),
		counter("jobserver_notifications_failed_total",
			"Tries to send a message, or to run a command, that failed.", s.Failed),
		counter("jobserver_notifications_dropped_total",
			"Events that were never told, as their message was refused for good.", s.Dropped),
	}
}

// stateFamilies are the numbers that the state has.
func stateFamilies(st *sched.State, now time.Time) []metrics.Family {
	jobs := metrics.Family{Name: "jobserver_jobs",
		Help: "Jobs by class and status, ended ones included until they are forgotten."}
	for class, counts := range st.CountsByClass() {
		for status := sched.Waiting; status <= sched.Lost; status++ {
			jobs.Samples = append(jobs.Samples, metrics.Sample{
				Labels: []metrics.Label{{Name: "class", Value: class},
					{Name: "status", Value: sched.StatusName(status)}},
				Value: float64(counts.By[status])})
		}
	}
	age := metrics.Family{Name: "jobserver_queue_age_seconds",
		Help: "How long the next job of a class has waited; absent when none waits."}
	for class, since := range st.WaitingSince() {
		age.Samples = append(age.Samples,
			metrics.Sample{Labels: []metrics.Label{{Name: "class", Value: class}},
				Value: max(now.Sub(since).Seconds(), 0)})
	}
	counts := st.Counts()
	return append(append(machineFamilies(st), resourceFamilies(st)...), jobs, age, allocations(st),
		metrics.Gauge("jobserver_jobs_blocked",
			"Jobs that wait for what can't come at present.", float64(st.CountBlocked())),
		metrics.Gauge("jobserver_jobs_paused", "Jobs that are paused, or are to be.",
			float64(st.CountPaused())),
		metrics.Gauge("jobserver_matrices", "Matrices that are known.",
			float64(len(st.Matrices()))),
		metrics.Gauge("jobserver_results_uncopied",
			"Jobs that are done and whose results could not be copied.", float64(counts.Uncopied)),
		metrics.Family{Name: "jobserver_changes_total",
			Help: "Changes in the journal since the state began.", Counter: true,
			Samples: []metrics.Sample{{Value: float64(st.Changes())}}})
}

// allocations counts those of Slurm that were asked for and haven't ended.
func allocations(st *sched.State) metrics.Family {
	f := metrics.Family{Name: "jobserver_allocations",
		Help: "Allocations of Slurm by class and state: submitted, pending, running, ending."}
	for _, addr := range st.Providers() {
		p, _ := st.Provider(addr)
		counts := map[string]int{}
		for i := range p.Allocations {
			counts[p.Allocations[i].Stage()]++
		}
		for _, stage := range sched.Stages {
			f.Samples = append(f.Samples, metrics.Sample{
				Labels: []metrics.Label{{Name: "class", Value: p.Class},
					{Name: "provider", Value: addr}, {Name: "state", Value: stage}},
				Value: float64(counts[stage])})
		}
	}
	return f
}

// resourceFamilies say what machines have in all, by class, and without one what the pool has.
func resourceFamilies(st *sched.State) []metrics.Family {
	type kind struct{ class, name string }
	all, held := map[kind]int64{}, map[kind]int64{}
	for _, addr := range st.Machines() {
		m, _ := st.Machine(addr)
		for _, r := range st.MachineResources(addr) {
			k := kind{m.Class, r.Name}
			all[k] += sched.All(r.Resource)
			held[k] += r.Held
		}
	}
	for _, r := range st.Resources() {
		all[kind{"", r.Name}] += sched.All(r.Resource)
		held[kind{"", r.Name}] += r.Held
	}
	families := []metrics.Family{
		{Name: "jobserver_resource", Help: "What machines of a class have of a resource; " +
			"without a class, what the pool has. Memory is in bytes."},
		{Name: "jobserver_resource_held", Help: "What of it is given out."},
	}
	for k := range all {
		labels := []metrics.Label{{Name: "resource", Value: k.name}}
		if k.class != "" {
			labels = append([]metrics.Label{{Name: "class", Value: k.class}}, labels...)
		}
		families[0].Samples = append(families[0].Samples,
			metrics.Sample{Labels: labels, Value: float64(all[k])})
		families[1].Samples = append(families[1].Samples,
			metrics.Sample{Labels: labels, Value: float64(held[k])})
	}
	return families
}

func machineFamilies(st *sched.State) []metrics.Family {
	type place struct{ class, state string }
	machines, slots, busy := map[place]int{}, map[string]int{}, map[string]int{}
	for _, addr := range st.Machines() {
		m, _ := st.Machine(addr)
		state := string(m.Link)
		switch {
		case m.Link == sched.LinkConnected && m.Resting:
			state = "resting"
		case m.Link == sched.LinkConnected && (m.Draining || m.Removing):
			state = "draining"
		}
		machines[place{m.Class, state}]++
		slots[m.Class] += int(m.Slots)
		busy[m.Class] += len(m.Running)
	}
	families := []metrics.Family{
		{Name: "jobserver_machines", Help: "Machines by class and state."},
		{Name: "jobserver_slots", Help: "Slots of the machines of a class."},
		{Name: "jobserver_machine_jobs", Help: "Jobs that occupy machines of a class."},
	}
	for p, n := range machines {
		families[0].Samples = append(families[0].Samples, metrics.Sample{
			Labels: []metrics.Label{{Name: "class", Value: p.class},
				{Name: "state", Value: p.state}}, Value: float64(n)})
	}
	for class := range slots {
		label := []metrics.Label{{Name: "class", Value: class}}
		families[1].Samples = append(families[1].Samples,
			metrics.Sample{Labels: label, Value: float64(slots[class])})
		families[2].Samples = append(families[2].Samples,
			metrics.Sample{Labels: label, Value: float64(busy[class])})
	}
	return families
}
