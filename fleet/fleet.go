package fleet

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"jobserver/sched"
	"jobserver/sched/statepb"
	"jobserver/ssh"
)

// Fleet implements sched.Fleet. See the package's documentation.
type Fleet struct {
	opt    Options
	dialer *ssh.Dialer
	builds *builds
	logs   *logKeeper
	copies *places // of Options.Copies
	names  *listing
	pieces *pieces
	behind *places // for logs that come over several channels
	inputs *inputReader
	disk   diskGate
	space  logSpace
	bootID string // of this host; "" unknown

	tasks sync.WaitGroup // all goroutines but those of a link

	surveys  surveys
	refusals *refusals

	mu       sync.Mutex
	ctx      context.Context        // of Run; nil before
	ended    bool                   // Run only waits: nothing is started any more
	machines map[string]*machine    // by address; driversHere is the agent for drivers
	copiers  map[uint64][]string    // by job: the addresses from which its results are copied
	steps    map[string]*sched.Step // by address: machines that are allocations
	logins   map[string]*login      // by address: where Slurm's commands are run
	asked    map[uint64]bool        // by id: allocations that aren't gone, whatever their logins
}

// driversHere stands where an address stands, for the runs that the driver makes on this host. It
// begins like a local machine's and can't be one's name.
const driversHere = "local:\x00drivers"

// New makes a Fleet; nothing is started before Run.
func New(opt Options) (*Fleet, error) {
	opt, err := opt.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(opt.LogDir, 0o700); err != nil {
		return nil, fmt.Errorf("make the log directory: %w", err)
	}
	return &Fleet{
		opt:      opt,
		dialer:   ssh.NewDialer(opt.SSH),
		builds:   newBuilds(opt.Binary, opt.Builds, opt.Slim),
		logs:     newLogKeeper(opt.LogDir, opt.SyncEvery, opt.Log),
		copies:   newPlaces(opt.Copies),
		names:    newListing(opt.Copies),
		pieces:   &pieces{},
		behind:   newPlaces(logsAtOnce),
		inputs:   newInputReader(),
		disk:     diskGate{log: opt.Log, every: opt.DiskRetry, least: max(opt.MinFree, room)},
		space:    logSpace{dir: opt.LogDir, keep: opt.MinFree},
		machines: map[string]*machine{},
		copiers:  map[uint64][]string{},
		steps:    map[string]*sched.Step{},
		logins:   map[string]*login{},
		asked:    map[uint64]bool{},
		refusals: newRefusals(),
		bootID:   hostBootID(),
	}, nil
}

// Run carries out what is asked for until ctx ends, and returns when all goroutines have ended.
// Runs on machines are left as they are. It is called once.
func (f *Fleet) Run(ctx context.Context) error {
	f.mu.Lock()
	if f.ctx != nil {
		f.mu.Unlock()
		return fmt.Errorf("run the fleet: it runs already")
	}
	f.ctx = ctx
	f.tasks.Go(func() { f.logs.run(ctx) })
	f.tasks.Go(func() { f.watchRefusals(ctx) })
	for _, m := range f.machines {
		f.start(m)
	}
	for _, l := range f.logins {
		f.startLogin(l)
	}
	f.mu.Unlock()

	<-ctx.Done()
	f.mu.Lock()
	f.ended = true // a task that was begun after this would not be waited for
	f.mu.Unlock()
	f.tasks.Wait()
	f.builds.close()
	return nil
}

// start sets a machine's actor going. f.mu is held.
func (f *Fleet) start(m *machine) {
	if f.ctx == nil || f.ended {
		return
	}
	f.tasks.Go(func() { m.loop(f.ctx) })
}

// machine is the actor for an address; it is made when there is none.
func (f *Fleet) machine(addr string) *machine {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := f.machines[addr]
	if m == nil {
		m = newMachine(f, addr)
		f.machines[addr] = m
		f.start(m)
	}
	return m
}

// tell has the actor for an address call fn; it is made when there is none, and again when it has
// just ended.
func (f *Fleet) tell(addr string, fn func(m *machine)) {
	for {
		m := f.machine(addr)
		if m.do(func() { fn(m) }) {
			return
		}
	}
}

// place is where a run is: on its machine, or on this host if it is a driver's.
func place(r *statepb.RunRef) string {
	if r.Driver {
		return driversHere
	}
	return r.Machine
}

// Connect implements sched.Fleet. A machine that was refused is tried again.
func (f *Fleet) Connect(p sched.Pool) {
	f.setStep(p.Addr, p.Step)
	f.tell(p.Addr, func(m *machine) { m.connect(p) })
}

// Retry tries a machine again at once: something has changed, as after Trust.
func (f *Fleet) Retry(addr string) { f.inform(addr, (*machine).retry) }

// Disconnect implements sched.Fleet. The actor ends when it has nothing to do any more.
func (f *Fleet) Disconnect(addr string) {
	f.setStep(addr, nil)
	f.inform(addr, (*machine).disconnect)
}

// Start implements sched.Fleet.
func (f *Fleet) Start(r sched.Run) {
	f.tell(place(r.Ref), func(m *machine) { m.want(r) })
}

// Cancel implements sched.Fleet.
func (f *Fleet) Cancel(r *statepb.RunRef) {
	f.inform(place(r), func(m *machine) { m.cancel(r) })
}

// Retime implements sched.Fleet.
func (f *Fleet) Retime(r *statepb.RunRef, timeout time.Duration) {
	f.inform(place(r), func(m *machine) { m.retime(r, timeout) })
}

// Pause implements sched.Fleet.
func (f *Fleet) Pause(r *statepb.RunRef, stop bool) {
	f.inform(place(r), func(m *machine) { m.pause(r, stop) })
}

// Signal implements sched.Fleet.
func (f *Fleet) Signal(r *statepb.RunRef, signal int) {
	f.tell(place(r), func(m *machine) { m.signal(r, signal) })
}

// Settle implements sched.Fleet.
func (f *Fleet) Settle(o *statepb.Obligation) {
	// that its results are in place is durable, or they are wanted no more
	f.forgetCopy(copyID{o.Run.Job, o.Run.Attempt, o.Run.Rank})
	f.tell(place(o.Run), func(m *machine) { m.settle(o) })
}

// Drop implements sched.Fleet.
func (f *Fleet) Drop(r *statepb.RunRef) {
	f.inform(place(r), func(m *machine) { m.drop(r) })
}

// ForgetLogs implements sched.Fleet.
func (f *Fleet) ForgetLogs(job uint64) { f.logs.forget(job) }

// report hands an outcome to sched. Texts may come from a machine, and go into records: they are
// made harmless.
func (f *Fleet) report(o sched.Outcome) {
	switch x := o.(type) {
	case sched.Away:
		x.Reason = plain(x.Reason)
		o = x
	case sched.Refused:
		x.Reason, x.Hint = plain(x.Reason), plain(x.Hint)
		o = x
	case sched.NotStarted:
		x.Reason = plain(x.Reason)
		o = x
	case sched.RunLost:
		x.Reason = plain(x.Reason)
		o = x
	case sched.Stopped:
		x.Unremoved = plain(x.Unremoved)
		o = x
	case sched.CopyWaits:
		x.Reason = plain(x.Reason)
		o = x
	case sched.CopyEnded:
		x.Error = plain(x.Error)
		o = x
	case sched.Unsteered:
		x.Reason = plain(x.Reason)
		o = x
	case sched.Settled, sched.Connected:
		f.surveys.report(o, f.opt.Report)
		return
	}
	f.opt.Report(o)
}

// plain makes a text of a machine's valid UTF-8, as the records require, and not longer than
// anybody reads.
func plain(s string) string {
	const most = 4 << 10
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// hostBootID tells this boot of the host from others.
func hostBootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "" // then no copy is taken up where another daemon left it
	}
	return strings.TrimSpace(string(id))
}

// randomToken is unlike any other.
func randomToken() string {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
