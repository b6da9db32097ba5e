package sched

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"jobserver/sched/statepb"
	"jobserver/suggest"
)

// Stages are matrices that are submitted together, each of which may wait for those before it: cell
// by cell for one, or for all of several as a whole. They are planned as one request, all or none.

// StageSpec is one of them.
type StageSpec struct {
	MatrixSpec
	Stage string // its name among the others
	After []int  // the places of those that it waits for, before its own
	Join  bool   // for the whole of each, instead of cell by cell
}

// StagePlan tells what becomes of a stage.
type StagePlan struct {
	Matrix   uint64
	FirstJob uint64
	Cells    int      // that run now
	Sample   []string // the commands of the first of them
	Growth   *Growth  // it was there; nil: it wasn't
}

// PlanStages submits stages, or what is missing of those that are there. What rerun names runs
// again as it is asked for now, and all that comes after it; "" is none. IDs are the matrix, the
// first new job, and how many run, of each.
func (s *State) PlanStages(
	specs []StageSpec, driver bool, rerun string, sampled int,
) (Plan, []StagePlan, error) {
	p := s.planner()
	p.planned = map[uint64]*statepb.Matrix{}
	again := make([]bool, len(specs))
	plans := make([]StagePlan, len(specs))
	tags := map[string]uint64{}
	if err := checkStages(specs, rerun); err != nil {
		return Plan{}, nil, err
	}
	for i, spec := range specs {
		spec.bare = true
		spec.Job.stage = p.stage(&spec, plans)
		if own := &spec.Job.After; own.Unmet == "cancel" && own.nothing() {
			// It holds for the stages that are waited for; one that waits for nothing may have it
			// from what stands beside all of them.
			own.Unmet = ""
			if spec.Job.stage != nil {
				spec.Job.stage.Cancel = true
			}
		}
		again[i] = rerun != "" && (spec.Stage == rerun ||
			slices.ContainsFunc(spec.After, func(k int) bool { return again[k] }))
		m, out, err := p.oneStage(spec.MatrixSpec, driver, sampled, again[i], tags)
		if err != nil {
			return Plan{}, nil, p.inStage(&spec, driver, err)
		}
		p.planned[m.Id], plans[i] = m, out
		p.IDs = append(p.IDs, out.Matrix, out.FirstJob, uint64(out.Cells))
		if g := out.Growth; g != nil && spec.Join && g.Done > 0 && !again[i] &&
			slices.ContainsFunc(spec.After, func(k int) bool { return plans[k].Cells > 0 }) {
			p.warn("the stage %s is done, with what there was before: --rerun %s runs it again",
				spec.Stage, spec.Stage)
		}
	}
	return p.Plan, plans, nil
}

// checkStages refuses what no client of ours sends.
func checkStages(specs []StageSpec, rerun string) error {
	var names []string
	for i, spec := range specs {
		if spec.Name == "" || slices.Contains(names, spec.Stage) {
			return errorf(Invalid, "the stage %q has no name of its own", spec.Stage)
		}
		names = append(names, spec.Stage)
		if slices.ContainsFunc(spec.After, func(k int) bool { return k < 0 || k >= i }) ||
			!spec.Join && len(spec.After) > 1 {
			return errorf(Invalid, "the stage %s waits for what isn't before it", spec.Stage)
		}
	}
	if rerun == "" || slices.Contains(names, rerun) {
		return nil
	}
	e := errorf(Invalid, "there is no stage %q to run again", rerun)
	if near := suggest.Closest(rerun, names); near != "" {
		return e.hint("did you mean %s?", near)
	}
	return e.hint("the stages are %s", strings.Join(names, ", "))
}

// inStage says of which stage an error is, and whether it would be none if the stage ran again.
func (p *planner) inStage(spec *StageSpec, driver bool, err error) error {
	own, ok := err.(*Error)
	if !ok {
		return err
	}
	if own.Kind == Conflict && p.s.named[spec.Name] != 0 {
		once := p.s.planner()
		once.planned = p.planned
		if _, _, failed := once.again(spec.MatrixSpec, driver, 0, true); failed == nil {
			own.Next = fmt.Sprintf("--rerun %s runs it as it is now, and what comes after it, "+
				"again",
				spec.Stage)
		}
	}
	return &Error{Kind: own.Kind, Msg: fmt.Sprintf("stage %s: %s", spec.Stage, own.Msg),
		Next: own.Next}
}

// stage gives what a stage waits for, nil for nothing.
func (p *planner) stage(spec *StageSpec, plans []StagePlan) *statepb.After {
	switch {
	case len(spec.After) == 0:
		return nil
	case !spec.Join:
		return &statepb.After{Cells: plans[spec.After[0]].Matrix}
	}
	t := &statepb.Term{}
	for _, k := range spec.After {
		t.Matrices = append(t.Matrices, plans[k].Matrix)
	}
	slices.Sort(t.Matrices)
	words := make([]string, len(t.Matrices))
	for i, id := range t.Matrices {
		words[i] = fmt.Sprintf("%%%d", id)
	}
	t.Text = strings.Join(words, " ")
	return &statepb.After{Terms: []*statepb.Term{t}}
}

// waitsFor says that what a job waits for has all that is wanted in it.
func waitsFor(a, want *statepb.After) bool {
	return (want.GetCells() == 0 || a.GetCells() == want.GetCells()) &&
		!slices.ContainsFunc(want.GetTerms(), func(t *statepb.Term) bool {
			return !slices.ContainsFunc(a.GetTerms(), func(is *statepb.Term) bool {
				return is.When == t.When && (is.Text == t.Text || sameJobs(is, t))
			})
		})
}

// sameJobs says that two terms stand for the same jobs. What was written may stand for others by
// now: `last`, or a tag.
func sameJobs(a, b *statepb.Term) bool {
	return slices.Equal(a.Matrices, b.Matrices) &&
		slices.EqualFunc(a.Jobs, b.Jobs, func(x, y *statepb.Span) bool {
			return x.First == y.First && x.Last == y.Last
		})
}

// behind adds the stages that a job waits for to what else it waits for.
func behind(a, stage *statepb.After) *statepb.After {
	if a == nil || stage == nil {
		if a == nil {
			return stage
		}
		return a
	}
	both := proto.CloneOf(a)
	both.Terms = append(both.Terms, stage.Terms...)
	if stage.Cells != 0 {
		both.Cells = stage.Cells
	}
	return both
}

// oneStage plans a stage, and gives its record as it will be.
func (p *planner) oneStage(
	spec MatrixSpec, driver bool, sampled int, all bool, tags map[string]uint64,
) (*statepb.Matrix, StagePlan, error) {
	if p.s.named[spec.Name] == 0 {
		m, err := p.newMatrix(spec, driver, tags)
		if err != nil {
			return nil, StagePlan{}, err
		}
		return m, StagePlan{Matrix: m.Id, FirstJob: m.FirstJob, Cells: int(m.Cells),
			Sample: sample(m, sampled)}, nil
	}
	m, g, err := p.again(spec, driver, sampled, all)
	if err != nil {
		return nil, StagePlan{}, err
	}
	return m, StagePlan{Matrix: g.Matrix, FirstJob: g.FirstJob, Cells: g.New + g.Again,
		Sample: g.Sample, Growth: &g}, nil
}
