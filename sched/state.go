package sched

import (
	"fmt"
	"slices"
	"sort"

	"jobserver/sched/statepb"
)

// State is everything that the daemon knows. Its durable part is what the changes made of it; the
// volatile part is what the fleet last reported of each machine. It is not safe for use by several
// goroutines: Loop owns it.
type State struct {
	nextID  uint64
	changes uint64 // applied so far

	live     map[uint64]*job // every job that has a record and hasn't ended
	active   map[uint64]bool // of those, the ones that run or copy
	history  *history
	index    *index
	counts   Counts
	matrices map[uint64]*matrix
	order    []*matrix         // by first job
	homes    []*home           // by first id
	extra    map[uint64]cell   // jobs that run a cell again
	named    map[string]uint64 // matrix names, the newest of a name
	tags     map[uint64]*tag
	tagNames map[string]uint64
	vars     map[string]*statepb.Var
	machines map[string]*machine
	classes  map[string]*class
	owed     map[string]*statepb.Obligation // by token
	debts    debts                          // what follows from owed
	// what jobs, and runs that are still to be ended, have of resources
	held      ledger
	resources map[string]*statepb.Resource // of the pool
	pooled    map[*shape]bool              // those that need something of the pool
	gates     gates
	places    places
	limited   map[*shape]bool // those of which only so many may run
	spanning  map[*shape]bool // those that need machines of several classes
	reserved  *reservation    // what is kept for the first of these; nil: nothing
	timers    heapOf[*timer]  // of what isn't to start yet
	overdone  map[uint64]bool // matrices and tags of which too many jobs may have failed
	works     works
	requests  requests
	providers map[string]*provider
	// asked for, and not ended
	allocations map[uint64]*allocation
	fates       map[string]*fate    // by token: runs on pilots that were lost
	endedNow    *statepb.Allocation // that the newest change has ended
	staffAt     int64               // when staff has to look again though nothing changes; 0: never

	dirty     map[string]bool  // classes that Decide has to look at
	steps     map[uint64]bool  // setups that may go on with their next step
	copying   map[uint64]*job  // live jobs whose results are on their way
	empty     map[uint64]bool  // matrices without a job, to be forgotten
	accused   map[uint64]bool  // matrices of which something is to be decided: see accuse
	delayed   heapOf[*job]     // retries that wait for their time
	lingering map[uint64]*job  // that wait for something to end which may live still
	longs     []*long          // requests that are carried out in pieces, oldest first
	unreached map[string]int64 // machines that can't be reached, and since when
	avoiding  heapOf[*avoidance]
	config    Config
	effects   []effect // what the changes applied since the last turn ask of the fleet
	tidings   []tiding // of verdicts that the newest change brought along
	// jobs of which the newest change has ended what they had on a machine that it removed
	uprooted []uint64
	used     uint64 // counts dispatches, to spread them over machines
	pulse    uint64 // counts changes of how machines are connected
	watch    watch  // over the clock
	looked   int64  // the time that Decide was last asked about
	at       int64  // of the change that is being applied
	looks    uint64 // counts how often a machine was looked at for a job: what deciding costs
	nextEnd  int64  // no machine expires before, after looked; 0: none expires
}

// job is a live job: its record and where it stands in the queues.
type job struct {
	*statepb.Job
	item *item // in its class's queue, or nil
	gate *gate // what it waits for, or nil

	released bool  // the time has come from which it may start
	timed    int64 // that time, if there is a timer for it
	late     int   // position among the delayed, or -1
	due      bool  // its retry has waited long enough
}

// NewState is the state before the first change.
func NewState() *State {
	return &State{
		nextID: 1,
		live:   map[uint64]*job{}, active: map[uint64]bool{},
		history: newHistory(), index: newIndex(),
		matrices: map[uint64]*matrix{}, extra: map[uint64]cell{}, named: map[string]uint64{},
		tags: map[uint64]*tag{}, tagNames: map[string]uint64{}, vars: map[string]*statepb.Var{},
		machines: map[string]*machine{}, classes: map[string]*class{},
		owed: map[string]*statepb.Obligation{}, debts: newDebts(),
		held: ledger{}, resources: map[string]*statepb.Resource{}, pooled: map[*shape]bool{},
		gates: newGates(), limited: map[*shape]bool{}, spanning: map[*shape]bool{},
		overdone: map[uint64]bool{},
		works:    newWorks(), requests: newRequests(),
		dirty: map[string]bool{}, steps: map[uint64]bool{}, copying: map[uint64]*job{},
		empty: map[uint64]bool{}, accused: map[uint64]bool{}, lingering: map[uint64]*job{},
		unreached: map[string]int64{}, providers: map[string]*provider{},
		allocations: map[uint64]*allocation{}, fates: map[string]*fate{},
	}
}

// NextID is the id that the next job, matrix or tag gets.
func (s *State) NextID() uint64 { return s.nextID }

// Changes is how many changes were applied so far.
func (s *State) Changes() uint64 { return s.changes }

// JobCount is how many jobs there are.
func (s *State) JobCount() int { return s.counts.Total() }

// Counts counts all jobs.
func (s *State) Counts() Counts { return s.counts }

// Status is the status of a job, 0 when there is no such job.
func (s *State) Status(id uint64) Status { return s.index.status(id) }

// Job gives the record of a job, decoded from history when it has ended, or nil. It must not be
// changed, and is valid during the read only.
func (s *State) Job(id uint64) *statepb.Job {
	if s.index.status(id) == 0 {
		return nil
	}
	if j := s.live[id]; j != nil {
		return j.Job
	}
	if i, ok := s.history.at[id]; ok {
		return s.history.pending[i]
	}
	if place := s.index.place[id]; place != 0 {
		j, err := s.history.get(place)
		if err != nil {
			// A block was checked when it was read and made by this
			// process otherwise: only broken memory ends here.
			panic(fmt.Sprintf("job %d: %v", id, err))
		}
		return j
	}
	if c, ok := s.cellOf(id); ok {
		return c.matrix.job(c.cell)
	}
	return nil
}

// Matrix gives a matrix's record and counts, or nil.
func (s *State) Matrix(id uint64) (*statepb.Matrix, Counts) {
	m := s.matrices[id]
	if m == nil {
		return nil, Counts{}
	}
	return m.Matrix, m.counts
}

// MatrixNamed is the newest matrix of that name, 0 when there is none.
func (s *State) MatrixNamed(name string) uint64 { return s.named[name] }

// Matrices lists the ids of all matrices, ascending.
func (s *State) Matrices() []uint64 {
	ids := make([]uint64, len(s.order))
	for i, m := range s.order {
		ids[i] = m.Id
	}
	return ids
}

// MatrixOf is the id of the matrix whose cell the job runs, 0 for none.
func (s *State) MatrixOf(id uint64) uint64 {
	if c, ok := s.cellOf(id); ok {
		return c.matrix.Id
	}
	return 0
}

// Tag gives a tag's name and counts.
func (s *State) Tag(id uint64) (name string, counts Counts, ok bool) {
	t := s.tags[id]
	if t == nil {
		return "", Counts{}, false
	}
	return t.Name, t.counts, true
}

// Tags lists the ids of all tags, ascending.
func (s *State) Tags() []uint64 {
	ids := make([]uint64, 0, len(s.tags))
	for id := range s.tags {
		ids = append(ids, id)
	}
	sort.Slice(ids, func(i, k int) bool { return ids[i] < ids[k] })
	return ids
}

// Vars lists the variables by name.
func (s *State) Vars() []*statepb.Var {
	var vars []*statepb.Var
	for _, name := range sorted(s.vars) {
		vars = append(vars, s.vars[name])
	}
	return vars
}

// setMark is the one place where a job's status changes: index and every count follow.
func (s *State) setMark(id uint64, mark uint8, tagID uint64) {
	old := s.index.mark[id]
	if old == mark {
		return
	}
	s.index.mark[id] = mark
	s.setActive(id, Status(mark&0x0f))
	each := func(c *Counts) {
		if old != 0 {
			c.add(old, -1)
		}
		if mark != 0 {
			c.add(mark, 1)
		}
	}
	each(&s.counts)
	each(s.index.countsOf(id))
	if c, ok := s.cellOf(id); ok {
		if c.matrix.counting(c.cell) == id {
			each(&c.matrix.counts)
		}
		s.countJobs(c.matrix, old, mark)
		if c.matrix.MaxFails > 0 {
			s.overdone[c.matrix.Id] = true
		}
	}
	if t := s.tags[tagID]; t != nil {
		each(&t.counts)
		if t.MaxFails > 0 {
			s.overdone[tagID] = true
		}
	}
	s.noted(id)
}

// setActive notes whether a job runs or copies.
func (s *State) setActive(id uint64, status Status) {
	if status == Running || status == Copying {
		s.active[id] = true
	} else {
		delete(s.active, id)
	}
}

// reclass notes the class of a job, and moves it among the counts when that is another one.
func (s *State) reclass(id uint64, class string) {
	n := s.index.intern(class)
	mark := s.index.mark[id]
	if s.index.class[id] == n || mark == 0 {
		s.index.class[id] = n
		return
	}
	s.index.countsOf(id).add(mark, -1)
	s.index.class[id] = n
	s.index.countsOf(id).add(mark, 1)
}

// remark brings index and counts to what the record says.
func (s *State) remark(j *statepb.Job) {
	s.noteHeldBack(j)
	if l := s.live[j.Id]; l != nil {
		s.noteApart(l) // those who wait for it are told with its status
	}
	s.reclass(j.Id, j.Class)
	s.setMark(j.Id, uint8(j.Status)|uint8(j.Results)<<4, j.Tag)
	if n := len(j.Attempts); n > 0 {
		s.index.machine[j.Id] = s.index.intern(j.Attempts[n-1].Machine)
	}
}

// touch gives the live job, making the record of a waiting cell, or thawing an ended job.
func (s *State) touch(id uint64) (*job, error) {
	if j := s.live[id]; j != nil {
		return j, nil
	}
	if s.index.status(id) == 0 {
		return nil, fmt.Errorf("no job %d", id)
	}
	var j *job
	if rec, ok := s.history.take(id); ok {
		j = &job{Job: rec, late: -1}
	} else if place := s.index.place[id]; place != 0 {
		rec, err := s.history.get(place)
		if err != nil {
			return nil, err
		}
		s.history.drop(place)
		s.index.place[id] = 0
		j = &job{Job: rec, late: -1}
	} else {
		at, _ := s.cellOf(id)
		m, c := at.matrix, at.cell
		j = &job{Job: m.job(c), late: -1}
		m.Touched[c/8] |= 1 << (c % 8)
		m.untouched--
		s.queueMatrix(m)
		s.live[id] = j
		s.enqueue(j)
		return j, nil
	}
	s.live[id] = j
	return j, nil
}

// settle files a job after a change: an ended one goes to history, a waiting one into its queue.
func (s *State) settle(j *job) error {
	s.remark(j.Job)
	s.enqueue(j)
	s.noteCopying(j)
	if !Final(j.Status) {
		return nil
	}
	delete(s.live, j.Id)
	s.leaveGate(j)
	if j.Forget {
		return s.forget(j.Job)
	}
	return s.putAway(j.Job)
}

// putAway files the record of an ended job.
func (s *State) putAway(j *statepb.Job) error {
	full, place, err := s.history.put(j)
	if err != nil {
		return err
	}
	for _, f := range full {
		s.index.place[f.Id] = place
		place++
	}
	return nil
}

// noteCopying keeps the list of jobs whose results are on their way.
func (s *State) noteCopying(j *job) {
	if j.Status == Copying {
		s.copying[j.Id] = j
	} else if s.copying[j.Id] != nil {
		delete(s.copying, j.Id)
		for _, r := range ranksOf(last(j.Job)) {
			if m := s.machines[r.Machine]; m != nil {
				s.dirty[m.Class] = true // it may be waiting to go
			}
		}
	}
}

// Copies tells whether the results of a job are on their way.
func (s *State) Copies(job uint64) bool { return s.copying[job] != nil }

// copiesFrom lists the jobs whose results are still on a machine and on their way, ascending.
func (s *State) copiesFrom(addr string) []uint64 {
	var ids []uint64
	for id, j := range s.copying {
		if a := last(j.Job); slices.ContainsFunc(ranksOf(a), func(r *statepb.Attempt) bool {
			return r.Machine == addr && (r == a || copies(r.Copy))
		}) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// forget takes a job that is in no table any more out of index, counts and tag.
func (s *State) forget(j *statepb.Job) error {
	s.forgetting(j.Id)
	s.bequeath(j.Id, s.rootOf(j.Id))
	s.setMark(j.Id, 0, j.Tag)
	if c, ok := s.extra[j.Id]; ok {
		s.dropRestarted(j.Id, c)
		for _, t := range c.matrix.watchers { // an older job of the cell may count again
			s.regate(t.gate)
		}
	}
	s.forgetRoot(s.rootOf(j.Id))
	s.ask(func(f Fleet) { f.ForgetLogs(j.Id) })
	if t := s.tags[j.Tag]; t != nil {
		t.put(j.Id, false)
	}
	return nil
}

// Forgotten gives those of the jobs, at most MaxPage, that have run here and were forgotten, and of
// which no machine has anything left: nobody can ask for their logs any more. Ids that are another
// thing's, that come from a history which was lost, or that are still to come are not among them.
func (s *State) Forgotten(jobs []uint64) []uint64 {
	owed := map[uint64]bool{}
	for _, o := range s.owed {
		owed[o.Run.Job] = true
	}
	var forgotten []uint64
	for _, id := range jobs {
		if id < s.nextID && s.index.mark[id] == 0 && s.index.machine[id] != 0 && !owed[id] {
			forgotten = append(forgotten, id)
		}
	}
	return forgotten
}

// newID hands out count ids and gives the first.
func (s *State) newID(count uint64) uint64 {
	first := s.nextID
	s.nextID += count
	s.index.grow(s.nextID)
	return first
}

// insert and without keep ascending lists.
func insert(ids []uint64, id uint64) []uint64 {
	i := sort.Search(len(ids), func(i int) bool { return ids[i] >= id })
	if i < len(ids) && ids[i] == id {
		return ids
	}
	ids = append(ids, 0)
	copy(ids[i+1:], ids[i:])
	ids[i] = id
	return ids
}

func without(ids []uint64, id uint64) []uint64 {
	i := sort.Search(len(ids), func(i int) bool { return ids[i] >= id })
	if i == len(ids) || ids[i] != id {
		return ids
	}
	return append(ids[:i], ids[i+1:]...)
}

// last is the newest attempt, or nil.
func last(j *statepb.Job) *statepb.Attempt {
	if n := len(j.Attempts); n > 0 {
		return j.Attempts[n-1]
	}
	return nil
}

// ref names the run of a job's newest attempt and step.
func ref(j *statepb.Job) *statepb.RunRef {
	a := last(j)
	return runRef(j, a, a)
}

// runRef names the run of one of an attempt's ranks.
func runRef(j *statepb.Job, a, r *statepb.Attempt) *statepb.RunRef {
	return &statepb.RunRef{Machine: r.Machine, Job: j.Id, Attempt: a.Number, Step: a.Step,
		Token: r.Token, Driver: a.Driver, Rank: r.Rank}
}

// liveRun is the job whose run this is at present, or nil: an outcome of any other run is old news.
func (s *State) liveRun(r *statepb.RunRef) *job {
	j, _ := s.liveRank(r)
	return j
}

// liveRank gives that job, and the rank of its newest attempt whose run this is.
func (s *State) liveRank(r *statepb.RunRef) (*job, *statepb.Attempt) {
	j := s.live[r.GetJob()]
	if j == nil || j.Status != Running {
		return nil, nil
	}
	a := last(j.Job)
	if a == nil || a.Step != r.Step || r.Token == "" {
		return nil, nil
	}
	for _, one := range ranksOf(a) {
		if one.Cause == 0 && one.Token == r.Token {
			return j, one
		}
	}
	return nil, nil
}
