package sched

import (
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"jobserver/sched/statepb"
)

// TestHighestID: whichever kind of record or change alone can be read, the ids in it are not given
// out again.
func TestHighestID(t *testing.T) {
	t.Parallel()
	marshal := func(m proto.Message) []byte {
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	h := newHistory()
	for i := range uint64(blockJobs) {
		if _, _, err := h.put(&statepb.Job{Id: i + 1, Status: Done}); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct {
		m    proto.Message
		want uint64
	}{
		"the state": {&statepb.Record{State: &statepb.State{NextId: 8, Changes: 900}}, 7},
		"an index": {&statepb.Record{Index: &statepb.Index{First: 65536,
			Status: make([]byte, 10)}}, 65545},
		"a block": {&statepb.Record{Block: &statepb.Block{Data: h.blocks[0]}},
			blockJobs},
		"no block": {
			&statepb.Record{Block: &statepb.Block{Data: []byte("something else")}}, 0,
		},
		"a matrix": {&statepb.Record{Matrix: &statepb.Matrix{Id: 4, FirstJob: 5,
			Cells: 10, Seed: 1 << 60}}, 14},
		"a matrix that grew": {&statepb.Record{Matrix: &statepb.Matrix{Id: 4, FirstJob: 5,
			Cells: 13, More: []*statepb.Range{{FirstJob: 70, Cells: 3}}}}, 72},
		"growth": {&Change{MatrixGrown: &statepb.MatrixGrown{Matrix: 4,
			Added: &statepb.Range{FirstJob: 70, Cells: 3}}}, 72},
		"a tag with jobs": {&statepb.Record{Tag: &statepb.Tag{Id: 4, Jobs: []uint64{5, 17}}},
			17},
		"an obligation": {
			&statepb.Record{Obligation: &statepb.Obligation{Run: &statepb.RunRef{Job: 9}}}, 9,
		},
		"a reservation": {&Change{IdsReserved: &statepb.IdsReserved{Next: 1001}}, 1000},
		"an empty one":  {&Change{IdsReserved: &statepb.IdsReserved{}}, 0},
		"a dispatch":    {&Change{Dispatched: &statepb.Dispatched{Job: 6}}, 6},
		"an end":        {&Change{Ended: &statepb.Ended{Run: &statepb.RunRef{Job: 6}}}, 6},
		"a request": {&Change{RequestDone: &statepb.RequestDone{Id: "r",
			Ids: []uint64{3, 12}}}, 12},
	} {
		if got := HighestID(marshal(test.m)); got != test.want {
			t.Errorf("%s: %d, want %d", name, got, test.want)
		}
	}
	const id = 123_456
	for _, m := range []proto.Message{new(statepb.Record), new(Change)} {
		eachNumber(m.ProtoReflect().
			Descriptor(), func(path string, set func(protoreflect.Message, uint64)) {
			one := m.ProtoReflect().New()
			set(one, id)
			if got := HighestID(marshal(one.Interface())); got < id-1 {
				t.Errorf("%s of %s is %d, and the highest id is %d", path, m.ProtoReflect().
					Descriptor().Name(), id, got)
			}
		})
	}
}

// eachNumber visits every field below a message that may be an id, with a function that sets it and
// nothing else.
func eachNumber(
	d protoreflect.MessageDescriptor,
	visit func(path string, set func(protoreflect.Message, uint64)),
) {
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		put := func(m protoreflect.Message, v protoreflect.Value) {
			if f.IsList() {
				m.Mutable(f).List().Append(v)
			} else {
				m.Set(f, v)
			}
		}
		switch {
		case f.Message() == d: // in itself it has the same fields again
		case f.Kind() == protoreflect.MessageKind:
			eachNumber(f.Message(), func(path string, set func(protoreflect.Message, uint64)) {
				visit(string(f.Name())+"."+path, func(m protoreflect.Message, n uint64) {
					v := m.NewField(f)
					if f.IsList() {
						v = v.List().NewElement()
					}
					set(v.Message(), n)
					put(m, v)
				})
			})
		case f.Kind() == protoreflect.Uint64Kind && f.Name() != "seed" && f.Name() != "changes":
			visit(string(f.Name()), func(m protoreflect.Message, n uint64) {
				put(m, protoreflect.ValueOfUint64(n))
			})
		}
	}
}
