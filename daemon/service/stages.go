package service

import (
	"fmt"
	"time"

	"jobserver/api"
	"jobserver/sched"
)

// maxStages is how many stages one request may have.
const maxStages = 100

// AddStages submits matrices of which some wait for others, or says what would be submitted.
func (s *service) AddStages(args *api.AddStagesArgs, reply *api.AddStagesReply) error {
	if len(args.Stages) == 0 || len(args.Stages) > maxStages {
		return api.Errorf(api.Invalid, "%d stages are not possible; at most %d are",
			len(args.Stages), maxStages)
	}
	specs := make([]sched.StageSpec, len(args.Stages))
	for i := range args.Stages {
		one := &args.Stages[i]
		spec, err := matrixSpec(&one.Matrix)
		if err != nil {
			return err
		}
		if !args.DryRun {
			if err := s.hasCode(one.Matrix.Job.Code); err != nil {
				return err
			}
			if err := s.hasStdin(one.Matrix.Job.Stdin); err != nil {
				return err
			}
		}
		specs[i] = sched.StageSpec{MatrixSpec: spec, Stage: one.Stage, After: one.After,
			Join: one.Join}
	}
	plan := func(st *sched.State, _ time.Time) (sched.Plan, error) {
		plan, stages, err := st.PlanStages(specs, s.About.Driver != "", args.Rerun, sampleCells)
		reply.Stages = reply.Stages[:0]
		for i := range stages {
			reply.Stages = append(reply.Stages, stageReply(&stages[i]))
		}
		reply.Warnings = plan.Warnings
		return plan, err
	}
	if args.DryRun {
		return s.read(func(st *sched.State) error {
			_, err := plan(st, time.Now())
			return err
		})
	}
	done, err := s.do(args.RequestID, true, fmt.Sprintf("submit %d stages", len(specs)), plan)
	if err != nil {
		return err
	}
	if reply.Warnings = done.Warnings; !done.repeated {
		return nil
	}
	reply.Repeated, reply.Stages = true, nil
	for i := 0; i+2 < len(done.IDs); i += 3 {
		reply.Stages = append(reply.Stages, api.AddMatrixReply{ID: done.IDs[i],
			FirstJID: done.IDs[i+1], Cells: int(done.IDs[i+2]), Repeated: true})
	}
	return nil
}

func stageReply(p *sched.StagePlan) api.AddMatrixReply {
	reply := api.AddMatrixReply{ID: p.Matrix, FirstJID: p.FirstJob, Cells: p.Cells,
		Sample: p.Sample}
	if p.Growth != nil {
		reply.Growth = growthOf(*p.Growth)
	}
	return reply
}
