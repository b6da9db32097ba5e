package service

import (
	"context"
	"math"
	"slices"
	"time"

	"jobserver/api"
	"jobserver/daemon/wire"
	"jobserver/sched"
)

// The calls of those who show the state while it changes (api/live.go).

// maxPause is how long Changes collects them at the most.
const maxPause = time.Second

// Changes says what has changed, as sets.
func (s *service) Changes(args *api.ChangesArgs, reply *api.ChangesReply) error {
	ctx, cancel := context.WithTimeout(s.ctx, min(max(args.Wait, 0), maxWait))
	defer cancel()
	pause := min(max(args.Pause, 0), maxPause)
	c, err := s.Loop.Events().Changes(ctx, args.Since, args.Pulse, pause)
	if err != nil {
		return wire.Error(err)
	}
	*reply = wire.Changes(&c)
	return nil
}

// classStatus says how each class is that has machines or unfinished jobs, by name.
func classStatus(st *sched.State, now time.Time) []api.ClassStatus {
	classes := map[string]*api.ClassStatus{}
	of := func(name string) *api.ClassStatus {
		if classes[name] == nil {
			classes[name] = &api.ClassStatus{Class: name}
		}
		return classes[name]
	}
	for name, counts := range st.CountsByClass() {
		if counts.Unfinished() > 0 {
			of(name)
		}
	}
	for _, addr := range st.Machines() {
		m, _ := st.Machine(addr)
		if m.Class == "" {
			continue
		}
		c := of(m.Class)
		c.Machines++
		switch {
		case m.Draining || m.Removing:
			c.Draining++
		case m.Link == sched.LinkConnected:
			c.Connected++
			c.Slots += int(m.Slots)
		}
	}
	for _, addr := range st.Providers() {
		p, _ := st.Provider(addr)
		c := of(p.Class)
		for i := range p.Allocations {
			if stage := p.Allocations[i].Stage(); stage == sched.StageSubmitted ||
				stage == sched.StagePending {
				c.Pending++
			}
		}
	}
	counts := st.CountsByClass()
	list := make([]api.ClassStatus, 0, len(classes))
	for name, c := range classes {
		c.Jobs = wire.Counts(counts[name])
		list = append(list, *c)
	}
	slices.SortFunc(list, func(a, b api.ClassStatus) int {
		if a.Class < b.Class {
			return -1
		}
		return 1
	})
	fillLeft(st, list, now)
	return list
}

// manyMatrices is how many unfinished ones are looked at for the time that is left.
const manyMatrices = 200

// fillLeft says how long the rest of each class takes, where all of it is of matrices that tell:
// one after the other, each on all slots. Their margins are independent.
func fillLeft(st *sched.State, classes []api.ClassStatus, now time.Time) {
	at, known, rest := map[string]int{}, map[string]bool{}, map[string]int{}
	for i := range classes {
		at[classes[i].Class], known[classes[i].Class] = i, true
		rest[classes[i].Class] = classes[i].Jobs.Waiting + classes[i].Jobs.Running
	}
	looked := 0
	for _, id := range slices.Backward(st.Matrices()) {
		m, counts := st.Matrix(id)
		open := counts.By[sched.Waiting] + counts.By[sched.Running]
		i, ok := at[m.Template.Class]
		if !ok || open == 0 || !known[m.Template.Class] {
			continue
		}
		if looked++; looked > manyMatrices {
			break
		}
		left := leftOf(st, id, now)
		if left == nil {
			known[m.Template.Class] = false
			continue
		}
		rest[m.Template.Class] -= open
		sum := classes[i].Left
		if sum == nil {
			sum = &api.TimeLeft{}
			classes[i].Left = sum
		}
		sum.Seconds += left.Seconds
		sum.Error = math.Hypot(sum.Error, left.Error)
	}
	for i := range classes {
		if c := &classes[i]; !known[c.Class] || rest[c.Class] > 0 {
			c.Left = nil
		}
	}
}

// lightMatrices lists all matrices without the values of their axes, or one.
func (s *service) lightMatrices(args *api.ListMatricesArgs, reply *api.ListMatricesReply) error {
	var ids []uint64
	err := s.read(func(st *sched.State) (err error) {
		ids, err = matrixIDs(st, args)
		return err
	})
	for page := range slices.Chunk(ids, manyMatrices) {
		if err != nil {
			return err
		}
		err = s.read(func(st *sched.State) error {
			now := s.Now()
			for _, id := range page {
				if m, _ := st.Matrix(id); m != nil {
					light := wire.LightMatrix(st, id, args.ID != 0 || args.Name != "")
					light.Left = leftOf(st, id, now)
					reply.Matrices = append(reply.Matrices, light)
				}
			}
			return nil
		})
	}
	return err
}

// mapPage is how many cells one reply of MatrixMap has without a measurement, and with one, whose
// values have to be looked up in records and files.
const (
	mapPage         = 1_000_000
	measurementPage = 20_000
)

// MatrixMap gives the cells of a matrix in as few bytes as will do.
func (s *service) MatrixMap(args *api.MatrixMapArgs, reply *api.MatrixMapReply) error {
	if args.Metric != "" {
		return s.measurementMap(args, reply)
	}
	from, most := max(args.From, 0), clamp(args.Max, mapPage)
	for {
		err := s.read(func(st *sched.State) error {
			id, err := st.FindMatrix(args.Matrix)
			if err != nil {
				return err
			}
			m, _ := st.Matrix(id)
			reply.ID, reply.Cells, reply.Cursor = id, int(m.Cells), st.Changes()
			if from < reply.Cells {
				n := min(sched.MaxMap, most-len(reply.Status))
				reply.Status = st.MatrixMap(id, cellNumber(from), n, reply.Status)
				reply.JID = st.CellJob(id, cellNumber(args.From))
			}
			return nil
		})
		from = max(args.From, 0) + len(reply.Status)
		switch {
		case err != nil || from >= reply.Cells:
			return err
		case len(reply.Status) >= most:
			reply.Next = from
			return nil
		}
	}
}

// measurementMap gives the values of a measurement with the statuses.
func (s *service) measurementMap(args *api.MatrixMapArgs, reply *api.MatrixMapReply) error {
	names := map[string]bool{}
	from := max(args.From, 0)
	for {
		var page api.MatrixCellsReply
		err := s.MatrixCells(
			&api.MatrixCellsArgs{Matrix: args.Matrix, From: from, Metrics: args.File},
			&page,
		)
		if err != nil {
			return err
		}
		reply.ID, reply.Cells = page.Matrix.ID, page.Matrix.Cells
		for i := range page.Cells {
			c := &page.Cells[i]
			value := math.NaN()
			for _, m := range c.Metrics {
				names[m.Name] = true
				if m.Name == args.Metric {
					value, reply.Unit = m.Value, m.Unit
				}
			}
			reply.Status = append(reply.Status, byte(slices.Index(api.MapStatuses[:], c.Status)))
			reply.Values = append(reply.Values, value)
		}
		if from = page.Next; from == 0 || len(reply.Status) >= measurementPage {
			reply.Next = from
			break
		}
	}
	for name := range names {
		reply.Names = append(reply.Names, name)
	}
	slices.Sort(reply.Names)
	return nil
}
