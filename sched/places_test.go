package sched

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"jobserver/sched/statepb"
)

// TestPlaces: where results go is known when the jobs are gone, after a restart, and of states that
// an older version has written as far as they tell.
func TestPlaces(t *testing.T) {
	w := newWorld()
	check(t, w.pool("x", 1, "a"))
	submit := func(path string) uint64 {
		ids, err := w.submit(JobSpec{Class: "x", Cmd: "true", CpPath: path})
		check(t, err)
		return ids[0]
	}
	first := submit("/p/res")
	submit("/p/res")
	submit("/p/resemble")
	submit("/elsewhere")
	submit("")
	check(t, w.do(w.s.PlanMatrix(MatrixSpec{
		Job:  JobSpec{Class: "x", Cmd: "run {I}", CpPath: "/p/{I}/out"},
		Axes: []*statepb.Axis{{Name: "I", Values: []string{"1", "2"}}}}, false)))
	path := "/p/set"
	plan, err := w.s.PlanSet([]uint64{first + 1}, SetSpec{CpPath: &path})
	check(t, w.do(plan, err))
	w.operate(t, OpForget, first)

	want := []string{"/p/res", "/p/resemble", "/p/{I}/out", "/p/set"}
	if diff := cmp.Diff(want, w.s.Places("/p")); diff != "" {
		t.Errorf("below /p (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want[:1], w.s.Places("/p/res")); diff != "" {
		t.Errorf("below /p/res (-want +got):\n%s", diff)
	}
	if got := w.s.Places("/"); len(got) != 5 {
		t.Errorf("in all %q", got)
	}

	old := NewRestorer()
	records, err := frozen(w.s)
	check(t, err)
	for _, b := range records {
		rec := new(statepb.Record)
		check(t, proto.Unmarshal(b, rec))
		if rec.Places == nil {
			check(t, old.Record(b))
		}
	}
	s, err := old.State()
	check(t, err)
	if diff := cmp.Diff([]string{"/p/{I}/out", "/p/res", "/p/set", "/p/resemble"},
		s.Places("/p")); diff != "" {
		t.Errorf("of a state without them (-want +got):\n%s", diff)
	}
}

// TestManyPlaces: of very many the newest are known.
func TestManyPlaces(t *testing.T) {
	var p places
	for i := range maxPlaces + 2 {
		p.add(fmt.Sprintf("/%d", i))
		p.add("/1")
	}
	if len(p.paths) != maxPlaces || p.paths[0] != "/3" || p.paths[maxPlaces-1] != "/1" ||
		len(p.known) != maxPlaces {
		t.Errorf("%d are known, the oldest %s", len(p.paths), p.paths[0])
	}
}
