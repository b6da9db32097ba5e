package sched

import (
	"fmt"
	"math"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"jobserver/sched/statepb"
)

// SetSpec says what to change of jobs, or of a matrix. What is nil stays.
type SetSpec struct {
	Class       *string
	Cmd         *string
	CpPath      *string
	Priority    *int
	Timeout     *time.Duration
	MaxFailures *int
	StartAfter  *time.Time // zero: at once
	Slots       *int
	Exclusive   *bool
	Needs       *string
	After       *AfterSpec // of nothing: it waits for nothing any more
	Env         map[string]string
	AtMost      *int // of a matrix
	Next        bool // before all others that wait in its class

	found bool // what After names; after is that
	after *statepb.After
}

// ofJobs refuses what can only be changed of a matrix.
func (spec *SetSpec) ofJobs() error {
	if spec.AtMost != nil {
		return errorf(Invalid, "--at-most is of a matrix, not of jobs").
			hint("`jobserver matrix set ID --at-most N`")
	}
	return nil
}

// set plans the change of one job, which waits or is held; of one that runs its priority, timeout
// and retries can be changed.
func (p *planner) set(id uint64, spec *SetSpec) error {
	j := p.s.Job(id)
	if err := spec.fits(j); err != nil {
		return err
	}
	c, err := p.changes(j, *spec)
	if err != nil {
		return err
	}
	p.add(&Change{JobSet: &statepb.JobSet{Job: id, Changes: c}})
	return nil
}

// settings is the record of what is to change of very many jobs. What other jobs it names, and what
// comes before those that wait now, is found out once.
func (p *planner) settings(b *Operation) (*statepb.JobSettings, error) {
	spec := &b.Set
	rec := &statepb.JobSettings{Class: spec.Class, CpPath: spec.CpPath, Exclusive: spec.Exclusive,
		Needs: spec.Needs, Priority: int32Of(spec.Priority), Slots: int32Of(spec.Slots),
		MaxFailures: int32Of(spec.MaxFailures), Next: spec.Next}
	if spec.Cmd != nil {
		rec.Cmd = []byte(*spec.Cmd)
	}
	if spec.Timeout != nil {
		rec.Timeout = proto.Int64(int64(*spec.Timeout))
	}
	if spec.StartAfter != nil {
		rec.StartAfter = proto.Int64(nanos(*spec.StartAfter))
	}
	for _, name := range sorted(spec.Env) {
		rec.Env = append(rec.Env, &statepb.Var{Name: name, Value: []byte(spec.Env[name])})
	}
	if spec.Next {
		rec.First = p.s.firsts(b.Jobs)
	}
	var err error
	if spec.After != nil {
		rec.SetAfter = true
		rec.After, err = p.after(spec.After)
	}
	return rec, err
}

// setOf is what a record of settings says.
func setOf(rec *statepb.JobSettings) SetSpec {
	spec := SetSpec{Class: rec.Class, CpPath: rec.CpPath, Exclusive: rec.Exclusive,
		Needs: rec.Needs, Priority: intOf(rec.Priority), Slots: intOf(rec.Slots),
		MaxFailures: intOf(rec.MaxFailures), Next: rec.Next, found: rec.SetAfter,
		after: rec.After}
	if rec.Cmd != nil {
		cmd := string(rec.Cmd)
		spec.Cmd = &cmd
	}
	if rec.Timeout != nil {
		timeout := time.Duration(*rec.Timeout)
		spec.Timeout = &timeout
	}
	if rec.StartAfter != nil {
		at := Time(*rec.StartAfter)
		spec.StartAfter = &at
	}
	for _, v := range rec.Env {
		if spec.Env == nil {
			spec.Env = map[string]string{}
		}
		spec.Env[v.Name] = string(v.Value)
	}
	return spec
}

// int32Of keeps a number that is out of range out of range: its check comes later.
func int32Of(n *int) *int32 {
	if n == nil {
		return nil
	}
	return proto.Int32(int32(min(max(*n, math.MinInt32), math.MaxInt32)))
}

func intOf(n *int32) *int {
	if n == nil {
		return nil
	}
	wide := int(*n)
	return &wide
}

// fits refuses what can't be changed of a job as it is.
func (spec *SetSpec) fits(j *statepb.Job) error {
	late := spec.Class != nil || spec.Cmd != nil || spec.CpPath != nil || spec.StartAfter != nil ||
		spec.Slots != nil ||
		spec.Exclusive != nil || spec.Needs != nil ||
		spec.After != nil ||
		len(spec.Env) > 0 ||
		spec.Next
	switch {
	case Final(j.Status):
		return errorf(
			Conflict,
			"job %d is %s: there is nothing to change",
			j.Id,
			StatusName(j.Status),
		).
			hint("`jobserver job clone %d` submits it again", j.Id)
	case j.Setup != nil:
		return errorf(Conflict, "job %d sets a machine up, and can't be changed", j.Id)
	case j.Status == Copying:
		return errorf(Conflict, "job %d has ended, and copies its results", j.Id)
	case j.Status == Running && late:
		return errorf(
			Conflict,
			"job %d runs: only its priority, timeout and retries can be changed",
			j.Id,
		).
			hint("`jobserver job restart %d` runs it again; then it can be changed while it waits",
				j.Id)
	case j.Matrix != 0 && (spec.Cmd != nil || spec.CpPath != nil || len(spec.Env) > 0):
		return errorf(
			Conflict,
			"job %d is a cell of matrix %d: its command, environment and results stay as the "+
				"others'",
			j.Id,
			j.Matrix,
		).
			hint("cells that ran something else could not be compared")
	}
	return nil
}

// changes checks what is to change of a job.
func (p *planner) changes(j *statepb.Job, spec SetSpec) (*statepb.Changes, error) {
	c := &statepb.Changes{}
	job := JobSpec{
		Class: j.Class, Cmd: string(j.Cmd), CpPath: j.CpPath, MaxFailures: int(j.MaxFailures),
		Timeout: time.Duration(j.Timeout), Priority: int(j.Priority), Env: spec.Env,
		Machines: int(j.Needs.GetMachines()), Each: j.Needs.GetEach(), With: withTexts(j.Needs),
	}
	if spec.Class != nil {
		job.Class, c.Class = *spec.Class, spec.Class
	}
	if spec.Cmd != nil {
		job.Cmd, c.Cmd = *spec.Cmd, []byte(*spec.Cmd)
	}
	if spec.CpPath != nil {
		job.CpPath, c.CpPath = *spec.CpPath, spec.CpPath
	}
	if spec.Next {
		first := max(int(p.firsts[job.Class]), job.Priority) // never further back
		spec.Priority = &first
	}
	if spec.Priority != nil {
		job.Priority, c.Priority = *spec.Priority, proto.Int32(
			int32(min(max(*spec.Priority, -maxPriority-1), maxPriority+1)),
		)
	}
	if spec.Timeout != nil {
		job.Timeout, c.Timeout = *spec.Timeout, proto.Int64(int64(*spec.Timeout))
	}
	if spec.MaxFailures != nil {
		job.MaxFailures, c.MaxFailures = *spec.MaxFailures, proto.Int32(
			int32(min(max(*spec.MaxFailures, -2), 1_000_001)),
		)
	}
	if spec.StartAfter != nil {
		c.StartAfter = proto.Int64(nanos(*spec.StartAfter))
	}
	if err := p.changedNeeds(j, &spec, c); err != nil {
		return nil, err
	}
	if err := p.s.canEver(job.Class, cmpNeeds(c, j.Needs)); err != nil {
		return nil, err
	}
	if spec.After != nil || spec.found {
		if c.After = spec.after; !spec.found {
			var err error
			if c.After, err = p.after(spec.After); err != nil {
				return nil, err
			}
		}
		c.SetAfter = true
		if err := p.s.noCircle(j.Id, c.After); err != nil {
			return nil, err
		}
	}
	if spec.Cmd == nil && spec.CpPath == nil { // they were checked, and what they name may be gone
		job.Cmd, job.CpPath = "true", ""
	}
	if job.waits = j.After; c.SetAfter {
		job.waits = c.After
	}
	if spec.Class == nil { // whoever put it there was told
		p.asked = j.Class
	}
	made, err := p.job(&job, nil, j.Driver)
	if err != nil {
		return nil, err
	}
	c.Env = made.Env
	if spec.Cmd != nil || spec.CpPath != nil {
		c.Vars = made.Vars
	}
	return c, nil
}

func cmpNeeds(c *statepb.Changes, otherwise *statepb.Needs) *statepb.Needs {
	if c.SetNeeds {
		return c.Needs
	}
	return otherwise
}

// changedNeeds merges what is to change of a job's needs into what they are.
func (p *planner) changedNeeds(j *statepb.Job, spec *SetSpec, c *statepb.Changes) error {
	if spec.Slots == nil && spec.Exclusive == nil && spec.Needs == nil {
		return nil
	}
	slots, exclusive, needs := int(
		j.Needs.GetSlots(),
	), j.Needs.GetExclusive(), AmountsText(
		j.Needs.GetAmounts(),
	)
	if spec.Slots != nil {
		slots, exclusive = *spec.Slots, false
	}
	if spec.Exclusive != nil {
		if exclusive = *spec.Exclusive; exclusive && spec.Slots == nil {
			slots = 0
		}
	}
	if spec.Needs != nil {
		needs = *spec.Needs
	}
	var err error
	c.Needs, err = needsOf(slots, exclusive, j.Needs.GetPin(), needs)
	c.Needs = asGang(c.Needs, j.Needs)
	c.SetNeeds = true
	return err
}

// firsts are, of each class, a priority before that of all jobs that wait, but for these: moved
// again, they stay where they are.
func (s *State) firsts(ids []uint64) map[string]int32 {
	moved := make([]bool, s.nextID)
	for _, id := range ids {
		if id < s.nextID {
			moved[id] = true
		}
	}
	firsts := make(map[string]int32, len(s.classes))
	for name, c := range s.classes {
		top := int32(0)
		for _, sh := range c.line {
			for _, it := range sh.queue {
				if it.priority >= top && !moved[it.id] {
					top = it.priority + 1
				}
			}
		}
		firsts[name] = min(top, maxPriority)
	}
	return firsts
}

// maxPriority is the highest, and the lowest below zero.
const maxPriority = 1_000_000

// noCircle refuses a job to wait for what waits for it.
func (s *State) noCircle(id uint64, a *statepb.After) error {
	behind := s.WithDependents([]uint64{id})
	for _, t := range a.GetTerms() {
		for _, span := range t.Jobs {
			for _, other := range behind {
				if root := s.rootOf(other); root >= span.First && root <= span.Last {
					return circle(id, other)
				}
			}
		}
		for _, other := range behind {
			if m := s.MatrixOf(other); m != 0 && slices.Contains(t.Matrices, m) {
				return circle(id, other)
			}
		}
	}
	return nil
}

func circle(id, other uint64) error {
	if id == other {
		return errorf(Invalid, "job %d can't wait for itself", id)
	}
	return errorf(Invalid, "job %d can't wait for job %d, which waits for it", id, other).
		hint("`jobserver job unhold %d` lets that one run without", other)
}

// PlanMatrixSet changes what all jobs of a matrix have in common, as far as cells stay comparable.
func (s *State) PlanMatrixSet(id uint64, spec SetSpec) (Plan, error) {
	m := s.matrices[id]
	if spec.Class != nil || spec.Cmd != nil || spec.CpPath != nil || spec.After != nil ||
		len(spec.Env) > 0 ||
		spec.StartAfter != nil ||
		spec.Next {
		return Plan{}, errorf(
			Invalid,
			"of a matrix, priority, timeout, retries, needs and --at-most can be changed",
		).
			hint("cells that ran something else could not be compared; submit another matrix")
	}
	p := s.planner()
	c, err := p.changes(m.Template, spec)
	if err != nil {
		return Plan{}, err
	}
	c.Env = nil
	if spec.AtMost != nil {
		if *spec.AtMost < 0 {
			return Plan{}, errorf(
				Invalid,
				"--at-most %d is negative",
				*spec.AtMost,
			).hint("0 takes the limit away")
		}
		c.AtMost = proto.Int32(int32(min(*spec.AtMost, MaxCells)))
	}
	p.add(&Change{MatrixSet: &statepb.MatrixSet{Matrix: id, Changes: c}})
	return p.Plan, nil
}

// alter gives a job other settings.
func alter(j *statepb.Job, c *statepb.Changes) {
	if c.Class != nil {
		j.Class = *c.Class
	}
	if c.Cmd != nil {
		j.Cmd = c.Cmd
	}
	if c.CpPath != nil {
		j.CpPath = *c.CpPath
	}
	if c.Cmd != nil || c.CpPath != nil {
		j.Vars = c.Vars
	}
	if c.Priority != nil {
		j.Priority = *c.Priority
	}
	if c.Timeout != nil {
		j.Timeout = *c.Timeout
	}
	if c.MaxFailures != nil {
		j.MaxFailures = *c.MaxFailures
	}
	if c.StartAfter != nil {
		j.StartAfter = *c.StartAfter
	}
	if c.SetNeeds {
		j.Needs = c.Needs
	}
	for _, v := range c.Env {
		j.Env = slices.DeleteFunc(
			slices.Clone(j.Env),
			func(o *statepb.Var) bool { return o.Name == v.Name },
		)
		j.Env = append(j.Env, v)
	}
}

func (s *State) applyJobSet(c *statepb.JobSet) error {
	return s.change(c.Job, func(j *job) error {
		changes := proto.CloneOf(c.Changes)
		alter(j.Job, changes)
		s.places.add(changes.GetCpPath())
		if changes.StartAfter != nil {
			j.released = false
		}
		if changes.SetAfter {
			s.leaveGate(j)
			j.After = changes.After
			s.joinGate(j)
			s.retell(j.Id)
		}
		if changes.Timeout != nil {
			s.retimed(j)
		}
		return nil
	})
}

func (s *State) applyMatrixSet(c *statepb.MatrixSet) error {
	m := s.matrices[c.Matrix]
	if m == nil {
		return fmt.Errorf("no matrix %d", c.Matrix)
	}
	template := proto.CloneOf(m.Template)
	alter(template, proto.CloneOf(c.Changes))
	m.Template = template
	if c.Changes.AtMost != nil {
		m.AtMost = *c.Changes.AtMost
	}
	s.dequeueMatrix(m)
	s.queueMatrix(m)
	for _, id := range s.liveOf(m) {
		j := s.live[id]
		if j.Status == Copying || j.Setup != nil {
			continue
		}
		changes := proto.CloneOf(c.Changes)
		if j.Status == Running {
			changes.SetNeeds = false
		}
		if err := s.applyJobSet(&statepb.JobSet{Job: id, Changes: changes}); err != nil {
			return err
		}
	}
	s.refile()
	return nil
}
