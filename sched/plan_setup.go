package sched

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"jobserver/sched/statepb"
)

// A setup is a job that takes all slots of its machine and runs its commands in order, each as a
// run of its own (a step). When all steps have succeeded the machine joins the setup's class. While
// the setup runs, and after it has failed, the machine stays where it is, and what went wrong stays
// with it; but where jobs of its class need the setup, it is in no class then.
//
// A setup with a reboot has a step that reboots the machine: that step has succeeded when it
// exits with 0, when the reboot ends it by a signal, or when it is lost, as another boot id
// shows. The step after it is sent only to another boot.

// rebootCommand reboots the machine, as root or as a user that may.
const rebootCommand = "sudo -n reboot || reboot || /sbin/reboot"

// rebootLimit is how long a machine may take to come back, when the setup's timeout leaves as much.
const rebootLimit = 15 * time.Minute

// SetupSpec sets machines up.
type SetupSpec struct {
	Addrs []string
	Class string // joined at the end; "" none, or with Keep the class that each has now
	Keep  bool
	Slots int
	Steps []string
	// Resources has those of each machine, as in MachineSpec.
	Resources map[string]string
	// the machine is rebooted after the steps, and Verify waits for it to be back
	Reboot  bool
	Verify  string        // the last step; "" none
	Timeout time.Duration // over all steps
	Stagger time.Duration
	// Parallel is how many of the machines are set up at a time;
	// 0: all. The others go on working until it is their turn.
	Parallel int
	Notify   bool
	Until    time.Time
	Retries  int // of a step
	// leave out machines on which the same steps have succeeded, or are to run, as their last setup
	Once bool
	// Needed says that jobs are to run on these machines only when the setup has succeeded.
	Needed bool
}

// PlanSetup submits one setup for each machine. IDs are those of the jobs, in the order of the
// machines.
func (s *State) PlanSetup(spec SetupSpec, now time.Time) (Plan, error) {
	p := s.planner()
	steps, err := spec.steps()
	if err != nil {
		return Plan{}, err
	}
	if spec.Class != "" {
		if err := checkClass(spec.Class); err != nil {
			return Plan{}, err
		}
	}
	if spec.Parallel < 0 {
		return Plan{}, errorf(Invalid, "%d machines at a time are not possible", spec.Parallel)
	}
	if spec.Retries < 0 || spec.Retries > 1_000_000 || spec.Stagger < 0 || spec.Timeout < 0 {
		return Plan{}, errorf(Invalid, "a setup's timeout, stagger and retries can't be "+
			"negative, nor its retries more than a million")
	}
	seen := map[string]bool{}
	for i, addr := range spec.Addrs {
		if seen[addr] {
			return Plan{}, errorf(Invalid, "the machine %s is given twice", addr)
		}
		seen[addr] = true
		if s.machines[addr] == nil {
			if err := s.refuseSlurm(addr); err != nil {
				return Plan{}, err
			}
		}
		if spec.Once && s.isSetUp(addr, steps) {
			continue
		}
		all := steps
		if m := s.machines[addr]; spec.Class != "" && (m == nil || s.classAfter(m) != spec.Class) {
			all = append(slices.Clip(steps), p.wanted(addr, spec.Class, steps)...)
		}
		if err := p.setup(spec, all, addr, i, now); err != nil {
			return Plan{}, err
		}
	}
	return p.Plan, nil
}

// steps are all commands of a setup, in order.
func (spec *SetupSpec) steps() ([]string, error) {
	steps := append([]string(nil), spec.Steps...)
	if spec.Reboot {
		steps = append(steps, rebootCommand)
	}
	switch {
	case spec.Verify != "":
		steps = append(steps, spec.Verify)
	case spec.Reboot:
		steps = append(steps, "true") // it is back when that has run
	}
	if len(steps) == 0 {
		return nil, errorf(Invalid, "a setup needs commands").
			hint("give them after --, each as one word: -- 'apt-get update' 'make -C bench'")
	}
	for _, step := range steps {
		if strings.TrimSpace(step) == "" || strings.IndexByte(step, 0) >= 0 {
			return nil, errorf(Invalid, "a command of the setup is empty, or has a zero byte in it")
		}
		if len(step) > MaxCommand {
			return nil, errorf(Invalid, "a command of the setup has %d bytes; at most %d are "+
				"possible", len(step), MaxCommand).hint(shorterHint)
		}
	}
	return steps, nil
}

func (p *planner) setup(
	spec SetupSpec, steps []string, addr string, position int, now time.Time,
) error {
	if spec.Reboot && IsLocal(addr) {
		return errorf(Invalid, "%s is this host: a setup can't reboot it, as the daemon runs here",
			addr)
	}
	class := spec.Class
	m := p.s.machines[addr]
	if m != nil && spec.Keep && class == "" {
		class = p.s.classAfter(m)
	}
	rec, err := p.s.machineRecord(m,
		MachineSpec{Addr: addr, Slots: spec.Slots, Until: spec.Until, Resources: spec.Resources},
		now)
	if err != nil {
		return err
	}
	if m == nil || !m.sameOffer(rec) || m.Draining || m.Removing {
		p.add(&Change{MachineAdded: &statepb.MachineAdded{Machine: rec}})
	}
	j := &statepb.Job{
		Class: class, Cmd: []byte(strings.Join(steps, " && ")), Timeout: int64(spec.Timeout),
		Notify: spec.Notify, Status: Waiting,
		Setup: &statepb.Setup{Machine: addr, Class: class, Slots: rec.Slots,
			Retries: int32(spec.Retries), Until: rec.Until, Needed: spec.Needed},
	}
	if spec.Stagger > 0 {
		j.Setup.StartAt = now.Add(time.Duration(position) * spec.Stagger).UnixNano()
	}
	if spec.Reboot {
		j.Setup.RebootBefore = int32(len(spec.Steps)) + 1
	}
	for _, step := range steps {
		if err := p.capture(j, step, "setup", nil, false); err != nil {
			return err
		}
		j.Setup.Steps = append(j.Setup.Steps, []byte(step))
	}
	if why := p.s.tooLong(j, nil); why != "" {
		return errorf(Invalid, "%s", why).hint(shorterHint)
	}
	j.Id = p.id(1)
	p.IDs = append(p.IDs, j.Id)
	if spec.Parallel > 0 {
		j.Setup.Batch = p.IDs[0]
		j.Setup.Parallel = int32(min(spec.Parallel, math.MaxInt32))
	}
	p.add(&Change{JobSubmitted: &statepb.JobSubmitted{Job: j}})
	return nil
}

// batchFull says that as many setups of a batch run as may at a time.
func (s *State) batchFull(setup *statepb.Setup) bool {
	if setup.Parallel == 0 {
		return false
	}
	n := int32(0)
	for _, m := range s.machines {
		if j := s.live[m.slots[0]]; j != nil && j.Setup != nil && j.Setup.Batch == setup.Batch {
			n++
		}
	}
	return n >= setup.Parallel
}

// isSetUp says that the machine's last setup, which has succeeded or is to end, has these steps.
func (s *State) isSetUp(addr string, steps []string) bool {
	m := s.machines[addr]
	if m == nil {
		return false
	}
	hash := hashOf(steps)
	if n := len(m.setups); n > 0 {
		return bytes.Equal(stepsHash(s.live[m.setups[n-1]].Setup.Steps), hash)
	}
	if j := s.live[m.slots[0]]; j != nil && j.Setup != nil {
		return bytes.Equal(stepsHash(j.Setup.Steps), hash)
	}
	return bytes.Equal(m.SetUp, hash)
}

func hashOf(steps []string) []byte {
	var all [][]byte
	for _, step := range steps {
		all = append(all, []byte(step))
	}
	return stepsHash(all)
}

// stepsHash names the steps of a setup.
func stepsHash(steps [][]byte) []byte {
	h := sha256.New()
	for _, step := range steps {
		fmt.Fprintf(h, "%d:%s,", len(step), step)
	}
	return h.Sum(nil)
}

// classAfter is the class that a machine will be in when nothing more is asked: that of its last
// setup that is still to end, the one from which it was set aside, or its own.
func (s *State) classAfter(m *machine) string {
	if n := len(m.setups); n > 0 {
		return s.live[m.setups[n-1]].Setup.Class
	}
	if j := s.live[m.slots[0]]; j != nil && j.Setup != nil {
		return j.Setup.Class
	}
	if m.HomeClass != "" {
		return m.HomeClass
	}
	return m.Class
}

// nextStep is the change that goes on with a setup between two of its steps, or gives it up.
func (s *State) nextStep(j *job, now time.Time) *Change {
	a := last(j.Job)
	if deadline := stepDeadline(j.Job); deadline != 0 && deadline <= now.UnixNano() {
		why := fmt.Sprintf("timed out before step %d of %d", s.stepAfter(j.Job)+1,
			len(j.Setup.Steps))
		if rebooting(j.Job, a) {
			why = "its machine did not come back in time after the reboot"
		}
		return &Change{SetupFailed: &statepb.SetupFailed{Job: j.Id, Error: why}}
	}
	m := s.machines[a.Machine]
	if m == nil || m.link != LinkConnected || rebooting(j.Job, a) && stepSucceeded(j.Job, a) &&
		m.BootId == a.BootId {
		return nil
	}
	next := &statepb.Attempt{
		Number: a.Number, Machine: a.Machine, Slot: a.Slot, BootId: m.BootId,
		Step:         s.stepAfter(j.Job),
		DispatchedAt: now.UnixNano(),
	}
	next.Timeout = int64(remaining(j.Job, now))
	if why := s.tooLong(j.Job, next); why != "" {
		return &Change{SetupFailed: &statepb.SetupFailed{Job: j.Id, Error: "could not go on: " +
			why}}
	}
	next.CmdRun = []byte(s.commandLine(j.Job, next))
	return &Change{Dispatched: &statepb.Dispatched{Job: j.Id, Attempt: next}}
}

// stepAfter is the step that a setup between two steps goes on with: the next, or the same once
// more.
func (s *State) stepAfter(j *statepb.Job) int32 {
	a := last(j)
	if stepSucceeded(j, a) {
		return a.Step + 1
	}
	return a.Step
}

// rebooting says that the newest step is the one that reboots the machine.
func rebooting(j *statepb.Job, a *statepb.Attempt) bool {
	return j.Setup.RebootBefore != 0 && a.Step == j.Setup.RebootBefore-1
}

// stepSucceeded says so of the newest step, which has ended.
func stepSucceeded(j *statepb.Job, a *statepb.Attempt) bool {
	switch {
	case a.Cause == statepb.Cause_EXITED && a.ExitCode == 0 && a.Signal == "":
		return true
	case rebooting(j, a):
		return a.Cause == statepb.Cause_EXITED && a.Signal != "" ||
			a.Cause == statepb.Cause_MACHINE_LOST
	}
	return false
}

// left gives the time that a setup which waits between two steps had left when the newest has
// ended.
// Its steps are measured on their machine, by a clock that no change of the time touches.
func left(j *statepb.Job) int64 { return j.Timeout - last(j).Duration - j.Setup.Waited }

// remaining gives what is left of a setup's time over all its steps; 0: there is no limit.
func remaining(j *statepb.Job, now time.Time) time.Duration {
	if j.Timeout == 0 {
		return 0
	}
	return max(time.Duration(left(j))-now.Sub(Time(last(j).EndedAt)), time.Millisecond)
}

// stepDeadline is when a setup that waits between two steps is given up; 0: never.
func stepDeadline(j *statepb.Job) int64 {
	a := last(j)
	var deadline int64
	if j.Timeout != 0 {
		deadline = a.EndedAt + left(j)
	}
	if rebooting(j, a) && (deadline == 0 || a.EndedAt+int64(rebootLimit) < deadline) {
		deadline = a.EndedAt + int64(rebootLimit)
	}
	return deadline
}

// applyStep sends a setup's next step, or the same once more.
func (s *State) applyStep(j *job, next *statepb.Attempt) error {
	a := last(j.Job)
	if j.Status != Running || j.Setup == nil || !s.steps[j.Id] {
		return fmt.Errorf("job %d has no next step", j.Id)
	}
	if next.Step == a.Step {
		a.StepTries++
	} else {
		a.StepTries = 0
	}
	j.Setup.Waited += max(next.DispatchedAt-a.EndedAt, 0)
	a.Step, a.Token, a.BootId, a.CmdRun, a.Timeout = next.Step, next.Token, next.BootId,
		next.CmdRun, next.Timeout
	a.Cause, a.ExitCode, a.Signal, a.Error, a.EndedAt, a.StepStarted, a.LastWords = 0, 0, "", "", 0,
		false, ""
	delete(s.steps, j.Id)
	s.askStart(j)
	return nil
}

// endedStep goes on with a setup: to its next step, to the same once more, or to its end.
func (s *State) endedStep(j *job, a *statepb.Attempt, at int64) error {
	s.owe(&statepb.Obligation{Run: ref(j.Job)})
	ok := stepSucceeded(j.Job, a)
	switch {
	case a.Cause == statepb.Cause_CANCELED_BY_USER:
		s.endSetup(j, Canceled, at)
	case ok && int(a.Step)+1 == len(j.Setup.Steps):
		s.endSetup(j, Done, at)
		if m := s.machines[a.Machine]; m != nil {
			s.pardon(m, false)
			m.HomeClass, m.SetupError = "", ""
			m.SetUp = stepsHash(j.Setup.Steps)
			s.moveMachine(m, j.Setup.Class)
			s.file(m)
		}
	case ok && j.Canceling:
		s.endSetup(j, Canceled, at)
	case ok, a.Cause == statepb.Cause_EXITED && a.StepTries < j.Setup.Retries && !j.Canceling:
		s.steps[j.Id] = true
	default:
		why := fmt.Sprintf("step %d of %d %s", a.Step+1, len(j.Setup.Steps), Reason(a))
		if a.LastWords != "" {
			why += ": " + a.LastWords
		}
		s.failSetup(j, why, at)
	}
	return s.settle(j)
}

// endSetup frees the machine of a setup that has ended.
func (s *State) endSetup(j *job, status Status, at int64) {
	s.vacate(j.Job)
	delete(s.steps, j.Id)
	if j.Setup.Batch != 0 {
		for _, m := range s.machines { // it may be the turn of another
			if len(m.setups) > 0 {
				s.dirty[m.Class] = true
			}
		}
	}
	j.Status, j.EndedAt, j.Canceling = status, at, false
}

// isNeeded says that jobs of the machine's class need a setup: whoever asked for it said so, or one
// of its matrices, of which cells are left, has these commands as its own setup.
func (s *State) isNeeded(j *job, m *machine) bool {
	if j.Setup.Needed {
		return true
	}
	of := func(step []byte) bool {
		return slices.ContainsFunc(j.Setup.Steps, func(other []byte) bool {
			return bytes.Equal(step, other)
		})
	}
	return slices.ContainsFunc(s.order, func(x *matrix) bool {
		return len(x.Setup) > 0 && x.Template.Class == m.Class && x.left() > 0 &&
			!slices.ContainsFunc(x.Setup, func(step []byte) bool { return !of(step) })
	})
}

// hardware describes what a machine is made of, nil when that isn't known.
func hardware(m *statepb.Machine) *statepb.Hardware {
	if m.Cores == 0 && m.Memory == 0 && m.CpuModel == "" {
		return nil
	}
	return &statepb.Hardware{Cores: m.Cores, Memory: m.Memory, CpuModel: m.CpuModel}
}

// failSetup ends a setup that didn't succeed. Its machine is marked with the reason.
func (s *State) failSetup(j *job, why string, at int64) {
	s.endSetup(j, Failed, at)
	j.Error = why
	j.Failures++
	if m := s.machines[last(j.Job).Machine]; m != nil {
		m.SetupError = fmt.Sprintf("setup %d: %s", j.Id, why)
		if s.isNeeded(j, m) {
			s.moveMachine(m, "") // jobs that need it came while it ran
		}
	}
}

// applySetupFailed gives up a setup that waits between two steps.
func (s *State) applySetupFailed(c *statepb.SetupFailed, at int64) error {
	j := s.live[c.Job]
	if j == nil || !s.steps[c.Job] {
		return fmt.Errorf("job %d isn't between two steps", c.Job)
	}
	s.failSetup(j, c.Error, at)
	return s.settle(j)
}
