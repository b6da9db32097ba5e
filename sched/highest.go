package sched

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"jobserver/sched/statepb"
)

// HighestID is the highest id that a record or a change of unknown standing uses, 0 for none: after
// a state could not be loaded, ids go on above it. Any record may be the only one that can still be
// read, so that all kinds count, and not only those that give out ids.
func HighestID(b []byte) uint64 {
	var highest uint64
	for _, m := range []proto.Message{new(statepb.Record), new(Change)} {
		if proto.Unmarshal(b, m) == nil {
			highest = max(highest, highestIn(m.ProtoReflect()))
		}
	}
	return highest
}

// noIDs are the numbers of records that are 64 bits wide and no ids. What isn't here counts as one:
// it is better that ids go on too high than that a new kind of record is forgotten.
var noIDs = map[protoreflect.FullName]bool{
	"jobserver.state.Matrix.seed":      true,
	"jobserver.state.State.changes":    true,
	"jobserver.state.State.next_id":    true, // see highestGiven, as of the next one
	"jobserver.state.IdsReserved.next": true,
}

// highestIn is the highest id in a message and all that it contains.
func highestIn(m protoreflect.Message) uint64 {
	highest := highestGiven(m.Interface())
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		one := func(v protoreflect.Value) {
			switch f.Kind() {
			case protoreflect.MessageKind:
				highest = max(highest, highestIn(v.Message()))
			case protoreflect.Uint64Kind:
				if !noIDs[f.FullName()] {
					highest = max(highest, v.Uint())
				}
			}
		}
		if !f.IsList() {
			one(v)
			return true
		}
		for i, list := 0, v.List(); i < list.Len(); i++ {
			one(list.Get(i))
		}
		return true
	})
	return highest
}

// highestGiven is the highest id of which a message says without naming it that it was given out, 0
// for none.
func highestGiven(m proto.Message) uint64 {
	end := func(next uint64) uint64 { return max(next, 1) - 1 }
	switch m := m.(type) {
	case *statepb.State:
		return end(m.NextId)
	case *statepb.IdsReserved:
		return end(m.Next)
	case *statepb.Matrix: // those of more are higher
		return end(m.FirstJob + uint64(m.Cells))
	case *statepb.Range:
		return end(m.FirstJob + uint64(m.Cells))
	case *statepb.Index:
		return end(m.First + uint64(len(m.Status)))
	case *statepb.Block:
		h := newHistory()
		h.blocks = [][]byte{m.Data}
		records, err := h.open(0)
		if err != nil {
			return 0 // its checksum was right, so it is no block of this version
		}
		var highest uint64
		for _, b := range records {
			if j := new(statepb.Job); proto.Unmarshal(b, j) == nil {
				highest = max(highest, highestIn(j.ProtoReflect()))
			}
		}
		return highest
	}
	return 0
}
