package sched

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"jobserver/sched/statepb"
	"jobserver/suggest"
)

// A plan turns a request into the changes that do it, or says why it can't be done. It reads the
// state and changes nothing. Its changes are applied together or not at all.

// JobSpec is a job to submit, or what the cells of a matrix have in common.
type JobSpec struct {
	Class       string
	Cmd         string
	CpPath      string // absolute, or ""
	Dir         string // where the client stands
	Repeat      int    // 0 is 1
	MaxFailures int    // retries; -1 without limit
	Timeout     time.Duration
	Tag         string // id or name; a name that isn't there is made
	Notify      bool
	Hold        bool
	Priority    int
	Env         map[string]string // values are templates
	SecretEnv   map[string]string // by name; "" : the variable of that name
	Flat        bool
	MaxLog      int64
	Code        *statepb.Code // nil: none
	Slots       int           // of its machine; 0 is 1
	Exclusive   bool          // all slots of its machine
	Needs       string        // resources, as ParseNeeds reads them
	Machines    int           // of its class; 0 is 1
	Each        bool          // it runs on each of them
	With        []string      // NAME=CLASS or NAME=CLASS*N: machines of other classes
	After       AfterSpec     // what it waits for
	StartAfter  time.Time     // it isn't dispatched before; zero: at once
	RetryOn     []string      // which failures are tried again, as exit=75; none: all
	NoRetryOn   []string      // which aren't
	// of its tag, or of its matrix, so many hold slots at a time; 0: as it is
	AtMost int
	// MaxFails jobs of its tag that have failed for good hold what waits of it, or with CancelRest
	// cancel that; 0: as it is
	MaxFails   int
	CancelRest bool
	Inputs     []InputSpec
	Pin        bool   // it gets cores of its own
	Cwd        string // where it begins on its machine, a template; "" : the login directory
	Stdin      string // SHA-256 of its standard input; "" : none
	StdinName  string
	Label      string

	waits *statepb.After // what it waits for already, when it is changed
	stage *statepb.After // the stages that it waits for
}

// Plan has what a request comes to: changes that are not made yet.
type Plan struct {
	Changes  []*Change
	IDs      []uint64 // what was made, as the caller of this request expects it
	Warnings []string
	Fates    []Fate // what became of each job of an operation on many
}

// Changed is how many jobs an operation changes.
func (p *Plan) Changed() (n int) {
	for i := range p.Fates {
		if p.Fates[i].Changed {
			n++
		}
	}
	return n
}

// planner collects the changes of one request, and the ids that they will take.
type planner struct {
	s    *State
	next uint64
	// matrices as they will be: those that the plan makes, or has grow
	planned map[uint64]*statepb.Matrix
	asked   string // the class of which warnClass has looked at the machines
	// with --next: of each class, the priority before all others that wait
	firsts map[string]int32
	quiet  bool // it warns of nothing: it goes on with what has been warned of
	Plan
}

func (s *State) planner() *planner { return &planner{s: s, next: s.nextID} }

// matrix is the record of a matrix as it will be, or nil.
func (p *planner) matrix(id uint64) *statepb.Matrix {
	if m := p.planned[id]; m != nil {
		return m
	}
	if m := p.s.matrices[id]; m != nil {
		return m.Matrix
	}
	return nil
}

func (p *planner) add(c *Change) { p.Changes = append(p.Changes, c) }

func (p *planner) id(n uint64) uint64 {
	first := p.next
	p.next += n
	return first
}

func (p *planner) warn(format string, args ...any) {
	if w := fmt.Sprintf(format, args...); !slices.Contains(p.Warnings, w) {
		p.Warnings = append(p.Warnings, w)
	}
}

// PlanJobs submits jobs, all or none. IDs are theirs, in order, repeats expanded.
func (s *State) PlanJobs(specs []JobSpec, driver bool) (Plan, error) {
	p := s.planner()
	err := p.submissions(specs, driver, func(rec *statepb.Job, repeat int) {
		for range repeat {
			p.submit(rec)
		}
	})
	if err != nil {
		return Plan{}, err
	}
	return p.Plan, nil
}

// PlanSubmission plans jobs for the loop: as PlanJobs, or, when one of them is to run very many
// times, so that they are made in pieces. Then the ids are those of the plan that Do gives.
func (s *State) PlanSubmission(specs []JobSpec, driver bool) (Plan, error) {
	if len(specs) != 1 || specs[0].Repeat < longOperation {
		return s.PlanJobs(specs, driver)
	}
	p := s.planner()
	err := p.submissions(specs, driver, func(rec *statepb.Job, repeat int) {
		p.add(&Change{OperationBegun: &statepb.OperationBegun{Operation: &statepb.Operation{
			Op: string(opSubmit), Submit: rec, Repeat: int32(repeat),
			Jobs: []*statepb.Range{{Cells: 1}}}}})
	})
	if err != nil {
		return Plan{}, err
	}
	return p.Plan, nil
}

// submit plans one more job like this record.
func (p *planner) submit(rec *statepb.Job) {
	one := shallow(rec)
	one.Id = p.id(1)
	p.IDs = append(p.IDs, one.Id)
	p.add(&Change{JobSubmitted: &statepb.JobSubmitted{Job: one}})
}

// submissions checks what is to be submitted, and gives each the record of a job and how many of it
// there are to be.
func (p *planner) submissions(
	specs []JobSpec, driver bool, each func(rec *statepb.Job, repeat int),
) error {
	total := 0
	for _, spec := range specs {
		if total += min(max(spec.Repeat, 1), MaxSubmit+1); total > MaxSubmit {
			break
		}
	}
	if total > MaxSubmit {
		return errorf(Invalid, "one request may submit at most %d jobs", MaxSubmit).
			hint("submit a matrix, or several requests")
	}
	tags := map[string]uint64{}
	size := 0
	for i := range specs {
		spec := &specs[i]
		if spec.Repeat < 0 {
			return errorf(Invalid, "a job can't run %d times", spec.Repeat)
		}
		if err := p.resolveTag(spec.Tag, tags); err != nil {
			return err
		}
		rec, err := p.job(spec, nil, driver)
		if err != nil {
			return err
		}
		rec.Tag = tags[spec.Tag]
		if err := p.limitTag(spec, rec.Tag); err != nil {
			return err
		}
		if size += proto.Size(rec) * max(spec.Repeat, 1); size > maxRequestBytes {
			// known before so many are made
			return tooMuch(size).hint("split it: submit fewer jobs at a time, put a long " +
				"command into a script, or submit a matrix")
		}
		each(rec, max(spec.Repeat, 1))
	}
	return nil
}

// shallow copies a record that was just made: what it refers to is shared and never altered.
func shallow(j *statepb.Job) *statepb.Job {
	return &statepb.Job{
		Class: j.Class, Cmd: j.Cmd, CpPath: j.CpPath, MaxFailures: j.MaxFailures,
		Timeout: j.Timeout, Tag: j.Tag,
		Matrix: j.Matrix, Cell: j.Cell, Priority: j.Priority, Notify: j.Notify, Flat: j.Flat,
		MaxLog: j.MaxLog,
		Vars:   j.Vars, Env: j.Env, Driver: j.Driver, Dir: j.Dir, Setup: j.Setup, Status: j.Status,
		RestartOf: j.RestartOf, Code: j.Code,
		Needs: j.Needs, After: j.After, StartAfter: j.StartAfter, RetryOn: j.RetryOn,
		NoRetryOn: j.NoRetryOn, Inputs: j.Inputs,
		Cwd: j.Cwd, Stdin: j.Stdin, StdinName: j.StdinName, Label: j.Label,
	}
}

// job checks what a job asks for and makes its record, without
// an id. The axes are those of its matrix: variables that it has anyway.
func (p *planner) job(spec *JobSpec, axes []*statepb.Axis, driver bool) (*statepb.Job, error) {
	if err := checkClass(spec.Class); err != nil {
		return nil, err
	}
	switch {
	case strings.TrimSpace(spec.Cmd) == "":
		return nil, errorf(Invalid, "the command is empty").
			hint("give the command as one word, in quotes")
	case len(spec.Cmd) > MaxCommand:
		return nil, errorf(Invalid, "the command has %d bytes; at most %d are possible",
			len(spec.Cmd), MaxCommand).hint(shorterHint)
	case len(spec.CpPath) > MaxPath:
		return nil, errorf(Invalid, "CP_PATH has %d bytes; at most %d are possible",
			len(spec.CpPath), MaxPath)
	case strings.IndexByte(spec.Cmd, 0) >= 0:
		return nil, errorf(Invalid, "the command has a zero byte in it")
	case spec.MaxFailures < -1:
		return nil, errorf(Invalid, "%d retries are not possible", spec.MaxFailures).
			hint("-1 means without limit")
	case spec.Timeout < 0:
		return nil, errorf(Invalid, "the timeout %s is negative", spec.Timeout)
	case spec.Priority < -1_000_000 || spec.Priority > 1_000_000:
		return nil, errorf(Invalid, "the priority %d is not between -1000000 and 1000000",
			spec.Priority)
	case spec.MaxFailures > 1_000_000:
		return nil, errorf(Invalid, "%d retries are too many", spec.MaxFailures).
			hint("-1 means without limit")
	case spec.MaxLog < 0:
		return nil, errorf(Invalid, "a log of %d bytes is not possible", spec.MaxLog)
	case !utf8.ValidString(spec.Dir):
		return nil, errorf(Invalid, "the directory %q is not valid UTF-8", spec.Dir)
	case spec.CpPath != "" && !startsAbsolute(spec.CpPath):
		return nil, errorf(Invalid, "CP_PATH %q is not absolute", spec.CpPath)
	case !utf8.ValidString(spec.CpPath):
		return nil, errorf(Invalid, "CP_PATH %q is not valid UTF-8", spec.CpPath)
	}
	if driver {
		if err := checkWords(spec.Cmd); err != nil {
			return nil, err
		}
	}
	p.warnClass(spec.Class)
	j := &statepb.Job{
		Class: spec.Class, Cmd: []byte(spec.Cmd), CpPath: spec.CpPath,
		MaxFailures: int32(spec.MaxFailures),
		Timeout:     int64(spec.Timeout), Priority: int32(spec.Priority), Notify: spec.Notify,
		Flat:   spec.Flat,
		MaxLog: spec.MaxLog, Code: spec.Code, Driver: driver, Dir: spec.Dir, Status: Waiting,
	}
	if spec.Hold {
		j.Status = Held
	}
	var err error
	if j.Needs, err = needsOf(spec.Slots, spec.Exclusive, spec.Pin, spec.Needs); err != nil {
		return nil, err
	}
	j.StartAfter = nanos(spec.StartAfter)
	if j.RetryOn, err = parseFailures(spec.RetryOn); err != nil {
		return nil, err
	}
	if j.NoRetryOn, err = parseFailures(spec.NoRetryOn); err != nil {
		return nil, err
	}
	if len(j.RetryOn)+len(j.NoRetryOn) > 0 && j.MaxFailures == 0 {
		return nil, errorf(Invalid,
			"the job is never tried again, so it makes no difference after which failures").
			hint("give it --max-failures N or --retry too")
	}
	if err := addGang(j, spec, axes); err != nil {
		return nil, err
	}
	if err := p.s.canEver(j.Class, j.Needs); err != nil {
		return nil, err
	}
	p.warnSlurm(j)
	if j.After, err = p.after(&spec.After); err != nil {
		return nil, err
	}
	if j.After == nil {
		j.After = spec.waits
	}
	j.After = behind(j.After, spec.stage)
	var own []string
	for _, a := range axes {
		own = append(own, a.Name)
	}
	if err := p.inputs(j, spec.Inputs, own); err != nil {
		return nil, err
	}
	if err := p.checkAfterNames(j); err != nil {
		return nil, err
	}
	if spec.After.Cells != "" && len(axes) == 0 {
		return nil, errorf(Invalid, "--after-cell is for matrices: a single job has no cell").
			hint("--after %%%d waits for all of that matrix", j.After.Cells)
	}
	if err := p.setEnv(j, spec, own); err != nil {
		return nil, err
	}
	if err := p.capture(j, spec.Cmd, "command", own, driver); err != nil {
		return nil, err
	}
	if err := p.capture(j, spec.CpPath, "CP_PATH", own, true); err != nil {
		return nil, err
	}
	if err := p.setPlace(j, spec, own); err != nil {
		return nil, err
	}
	if why := p.s.tooLong(longestCell(j, axes), nil); why != "" {
		return nil, errorf(Invalid, "%s", why).hint(shorterHint)
	}
	return j, nil
}

// startsAbsolute says that a path is absolute, whatever its variables are.
func startsAbsolute(path string) bool {
	text, _ := Expand(path, MaxPath, func(string) (string, bool) { return "x", true })
	return filepath.IsAbs(text)
}

// capture notes the values that the variables of a template have now, and refuses names that
// nothing defines.
func (p *planner) capture(
	j *statepb.Job, template, where string, own []string, noSecrets bool,
) error {
	known := append(slices.Clone(own), sorted(builtins)...)
	known = append(known, sorted(p.s.vars)...)
	for _, name := range Names(template) {
		v := p.s.vars[name]
		switch {
		case slices.Contains(own, name), builtins[name], needed(j, name):
		case v != nil && v.Secret && noSecrets:
			// also where the command has it: there it comes from the environment
			return errorf(Invalid, "{%s} is a secret, and can't stand in the %s: others could "+
				"read it there", name, where).
				hint("let the job read $JOBSERVER_%s from its environment", name)
		case slices.ContainsFunc(j.Vars, func(o *statepb.Var) bool { return o.Name == name }):
		case v != nil && v.Secret:
			j.Vars = append(j.Vars, &statepb.Var{Name: name, Secret: true})
			if where != inEnv && singleQuoted(template, name) {
				p.warn("{%s} stands between single quotes, where a shell leaves the text "+
					"${JOBSERVER_%s} as it is: use double quotes", name, name)
			}
		case v != nil:
			j.Vars = append(j.Vars, &statepb.Var{Name: name, Value: v.Value})
		case isUpper(name):
			e := errorf(Invalid, "nothing defines {%s} in the %s", name, where)
			if near := suggest.Closest(name, known); near != "" {
				return e.hint("did you mean {%s}? Known are %s. {{%s}} stands for the text itself",
					near, strings.Join(known, ", "), name)
			}
			return e.hint("known are %s; `jobserver var set %s VALUE` defines it; {{%s}} stands "+
				"for the text itself", strings.Join(known, ", "), name, name)
		default:
			if near := suggest.Closest(name, known); near != "" {
				p.warn("{%s} stays as it is: did you mean {%s}?", name, near)
			}
		}
	}
	return nil
}

// isWord says that a name is short text without blanks and control characters, and without those
// that mean something in selectors.
func isWord(name, meaning string) bool {
	return len(name) <= 200 && utf8.ValidString(name) &&
		!strings.ContainsFunc(name, func(r rune) bool {
			return r <= ' ' || r == 0x7f || strings.ContainsRune(meaning, r)
		})
}

// checkClass refuses what can't be a class.
func checkClass(name string) error {
	if name == "" {
		return errorf(Invalid, "the class is empty").
			hint("name the kind of machine, for example `default`")
	}
	if !isWord(name, "/:,=%@*?'\"\\") {
		return errorf(Invalid, "%q can't be a class: no blanks, slashes, colons, commas, quotes "+
			"or any of = %% @ * ? in it", name)
	}
	return nil
}

// warnClass warns whoever submits to a class, or moves jobs there, of what keeps them waiting.
func (p *planner) warnClass(class string) {
	if class != p.asked && !p.quiet {
		p.asked = class
		p.noticeClass(class)
		p.warnBlocked(class)
	}
}

// noticeClass warns of a class that has no machines, and none that is being set up for it. That is
// allowed, as machines may be added later.
func (p *planner) noticeClass(class string) {
	if c := p.s.classes[class]; c != nil && len(c.machines) > 0 ||
		len(p.s.providersOf(class)) > 0 {
		return
	}
	for _, j := range p.s.live {
		if j.Setup != nil && j.Setup.Class == class {
			return
		}
	}
	if near := suggest.Closest(class, p.s.Classes()); near != "" {
		p.warn("no machine is in class %q yet; did you mean %q?", class, near)
		return
	}
	p.warn("no machine is in class %q yet", class)
}

// resolveTag finds the id of a tag by id or name; a new name makes the tag.
func (p *planner) resolveTag(name string, made map[string]uint64) error {
	if name == "" || made[name] != 0 {
		return nil
	}
	if id, err := p.s.FindTag(name); err == nil {
		made[name] = id
		return nil
	}
	if err := checkTag(name); err != nil {
		return err
	}
	if _, err := strconv.ParseUint(name, 10, 64); err == nil {
		return errorf(NotFound, "no tag %s", name).
			hint("`jobserver tag ls` lists them; a new tag's name can't be a number")
	}
	id := p.id(1)
	made[name] = id
	p.add(&Change{TagMade: &statepb.TagMade{Tag: &statepb.Tag{Id: id, Name: name}}})
	return nil
}

// checkTag refuses what can't be a tag, or the name of a matrix.
func checkTag(name string) error {
	if !isWord(name, ":,%@") {
		return errorf(Invalid, "%q can't be a tag: no blanks, colons, commas, %% or @ in it", name)
	}
	return nil
}

// FindTag finds a tag by its id or name.
func (s *State) FindTag(name string) (uint64, error) {
	name = strings.TrimPrefix(name, "@")
	if id, ok := s.tagNames[name]; ok {
		return id, nil
	}
	if id, err := strconv.ParseUint(name, 10, 64); err == nil && s.tags[id] != nil {
		return id, nil
	}
	e := errorf(NotFound, "no tag %q", name)
	if near := suggest.Closest(name, sorted(s.tagNames)); near != "" {
		return 0, e.hint("did you mean %s?", near)
	}
	return 0, e.hint("`jobserver tag ls` lists them")
}

// PlanTag makes a tag; without a name, its id is its name.
func (s *State) PlanTag(name string) (Plan, error) {
	p := s.planner()
	id := p.id(1)
	if name == "" {
		name = strconv.FormatUint(id, 10)
	} else if _, err := strconv.ParseUint(name, 10, 64); err == nil {
		return Plan{}, errorf(Invalid, "a tag's name can't be a number: %s", name).
			hint("leave the name out, and the tag's id is its name")
	}
	if err := checkTag(name); err != nil {
		return Plan{}, err
	}
	if old, taken := s.tagNames[name]; taken {
		return Plan{}, errorf(Conflict, "there is a tag %q already, with id %d", name, old)
	}
	p.add(&Change{TagMade: &statepb.TagMade{Tag: &statepb.Tag{Id: id, Name: name}}})
	p.IDs = []uint64{id}
	return p.Plan, nil
}

// PlanVar sets or unsets a variable. SLACK_API and WEBHOOK are
// always secrets: whoever knows such an address can write there.
func (s *State) PlanVar(name, value string, secret, unset bool) (Plan, error) {
	if err := checkName(name); err != nil {
		return Plan{}, err
	}
	if unset && s.vars[name] == nil {
		e := errorf(NotFound, "no variable %s", name)
		if near := suggest.Closest(name, sorted(s.vars)); near != "" {
			return Plan{}, e.hint("did you mean %s?", near)
		}
		return Plan{}, e.hint("`jobserver var ls` lists them")
	}
	if strings.IndexByte(value, 0) >= 0 {
		return Plan{}, errorf(Invalid, "a variable's value can't have a zero byte in it")
	}
	if n := envLen(varPrefix+name, value); n > MaxCommand {
		return Plan{}, errorf(Invalid, "%s%s=VALUE has %d bytes; at most %d are possible in a "+
			"job's environment", varPrefix, name, n, MaxCommand).hint(shorterHint)
	}
	return Plan{Changes: []*Change{{VarSet: &statepb.VarSet{
		Name: name, Value: []byte(value), Secret: secret || name == "SLACK_API" ||
			name == "WEBHOOK", Unset: unset,
	}}}}, nil
}
