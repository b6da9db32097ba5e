package service

import (
	"fmt"
	"testing"

	"jobserver/api"
	"jobserver/sched"
)

// TestLongChangesOfAMatrix: what is done with very many cells goes on in pieces, and the answer
// counts them as if it were done at once; so does a trial of it.
func TestLongChangesOfAMatrix(t *testing.T) {
	t.Parallel()
	const cells = 2500
	d := newDesk(t)
	d.matrix(cells, 0)
	for i, test := range []struct {
		op      string
		changed int
		made    int
	}{
		{api.MatrixCancel, cells, 0},
		{api.MatrixCancel, 0, 0},                // those that run are being canceled
		{api.MatrixRerun, cells - 2, cells - 2}, // those that run aren't canceled yet
		{api.MatrixForget, 2*cells - 2, 0},      // also those that were restarted
	} {
		var trial, reply api.ChangeMatrixReply
		args := api.ChangeMatrixArgs{Matrix: "m", Op: test.op, DryRun: true}
		check(t, d.ChangeMatrix(&args, &trial))
		args.DryRun, args.RequestID = false, fmt.Sprint("request ", i)
		check(t, d.ChangeMatrix(&args, &reply))
		if trial.Changed != test.changed || reply.Changed != test.changed ||
			len(reply.JIDs) != test.made {
			t.Errorf("%s: %d changed in a trial, %d then, %d made, not %d and %d", test.op,
				trial.Changed, reply.Changed, len(reply.JIDs), test.changed, test.made)
		}
	}
	check(t, d.read(func(st *sched.State) error {
		counts := st.Counts()
		if n := counts.Total(); n != 2 { // they run still
			t.Errorf("%d jobs are left", n)
		}
		return nil
	}))
}
