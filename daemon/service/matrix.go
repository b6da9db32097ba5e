package service

import (
	"fmt"
	"time"

	"jobserver/api"
	"jobserver/daemon/wire"
	"jobserver/sched"
)

// sampleCells is how many commands a dry run shows.
const sampleCells = 10

// ListMatrices lists all matrices, or one with its jobs: of a large one, those that come first.
func (s *service) ListMatrices(args *api.ListMatricesArgs, reply *api.ListMatricesReply) error {
	if args.Light {
		return s.lightMatrices(args, reply)
	}
	defer func() {
		for i := range reply.Matrices {
			s.locate(reply.Matrices[i].Jobs)
		}
	}()
	return s.read(func(st *sched.State) error {
		ids, err := matrixIDs(st, args)
		if err != nil {
			return err
		}
		for _, id := range ids {
			m := wire.Matrix(st, id)
			m.Left = leftOf(st, id, time.Now())
			reply.Matrices = append(reply.Matrices, m)
		}
		if args.ID == 0 && args.Name == "" {
			return nil
		}
		m := &reply.Matrices[0]
		for i, job := range st.Cells(m.ID) {
			if i == sched.MaxPage {
				break
			}
			m.Jobs = append(m.Jobs, wire.Job(st, s.About.LogDir, st.Job(job), true))
		}
		return nil
	})
}

// matrixIDs gives the matrices that are asked for: all, or one.
func matrixIDs(st *sched.State, args *api.ListMatricesArgs) ([]uint64, error) {
	name := args.Name
	switch {
	case args.ID == 0 && name == "":
		return st.Matrices(), nil
	case name == "":
		name = fmt.Sprint(args.ID)
	}
	id, err := st.FindMatrix(name)
	return []uint64{id}, err
}

// ChangeMatrix does something to a whole matrix.
func (s *service) ChangeMatrix(args *api.ChangeMatrixArgs, reply *api.ChangeMatrixReply) error {
	plan := func(st *sched.State, _ time.Time) (sched.Plan, error) {
		id, err := st.FindMatrix(args.Matrix)
		if err != nil {
			return sched.Plan{}, err
		}
		reply.Matrix = wire.Matrix(st, id)
		switch args.Op {
		case api.MatrixHold, api.MatrixUnhold:
			reply.Changed = reply.Matrix.Counts.Waiting
			if args.Op == api.MatrixUnhold {
				reply.Changed = reply.Matrix.Counts.Held
			}
			return st.PlanMatrixHeld(id, args.Op == api.MatrixHold), nil
		case api.MatrixSet:
			reply.Changed = 1
			return st.PlanMatrixSet(id, setSpec(&args.Set))
		}
		operation, err := matrixOperation(st, id, args)
		if err != nil {
			return sched.Plan{}, err
		}
		if args.DryRun {
			p, err := st.PlanAtOnce(operation)
			reply.Changed = p.Changed()
			return p, err
		}
		return st.PlanOperation(operation)
	}
	if args.DryRun {
		return s.read(func(st *sched.State) error {
			_, err := plan(st, time.Now())
			return err
		})
	}
	done, err := s.do(args.RequestID, args.Op == api.MatrixRerun,
		fmt.Sprintf("%s matrix %s", args.Op, args.Matrix), plan)
	reply.Changed += done.Changed()
	if reply.JIDs, reply.Repeated = done.IDs, done.repeated; err != nil || !done.repeated {
		return err
	}
	return s.read(func(st *sched.State) error {
		if id, err := st.FindMatrix(args.Matrix); err == nil { // else that is what was done
			reply.Matrix = wire.Matrix(st, id)
		}
		return nil
	})
}

// matrixOperation says what to do with the jobs of a matrix.
func matrixOperation(
	st *sched.State, id uint64, args *api.ChangeMatrixArgs,
) (sched.Operation, error) {
	switch args.Op {
	case api.MatrixCancel:
		return st.CancelMatrix(id), nil
	case api.MatrixRerun:
		return rerun(st, id, args)
	case api.MatrixForget:
		return st.ForgetMatrix(id), nil
	}
	return sched.Operation{}, api.Errorf(api.Invalid, "%q is no operation on matrices", args.Op)
}
