package api

// AddStagesArgs submits matrices of which some wait for others before them, or what is missing of
// those that are there; all or none. What Rerun names runs again as it is asked for now, and all
// that comes after it. With DryRun nothing changes and the reply says what would be submitted.
type AddStagesArgs struct {
	Mutation
	Stages []StageSpec
	Rerun  string
	DryRun bool
}

// StageSpec is one of the matrices.
type StageSpec struct {
	Matrix MatrixSpec // it may have no variables
	Stage  string     // its name among the others
	After  []int      // the places of those that it waits for, all before its own
	Join   bool       // for the whole of each, instead of cell by cell
}

// AddStagesReply says what was made of each.
type AddStagesReply struct {
	Stages   []AddMatrixReply
	Warnings []string
	Repeated bool // as in BulkReply
}
