package slurm_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"jobserver/slurm/slurmtest"
)

// TestChaos kills and stops whatever carries jobs, at random, as long as there are any. Every job
// is run once, its log is whole, and no allocation is left in the end.
//
// It is one of the long tests: a controller that is killed may forget what it was told in its last
// seconds, and then jobs begin again, which in a short run would be most of it.
func TestChaos(t *testing.T) {
	if !long() {
		return
	}
	seed, err := strconv.ParseUint(os.Getenv("TORTURE_SEED"), 10, 64)
	if err != nil {
		seed = rand.Uint64()
	}
	t.Logf("TORTURE_SEED=%d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	const n, pause = 500, 3 * time.Second
	p := newPool(t, tracked(t))
	p.j("machine", "add", "slurm:test", "c", "--time", "1h", "--max", "3", "--slots", "3", "--idle",
		"2s")
	p.j("matrix", "add", "c", "echo {i} >>"+p.tell+"; seq 500; sleep 0.{i}; echo over {i}", "",
		"i=100.."+strconv.Itoa(99+n))
	victims := map[string]func(){}
	for _, v := range p.victims() {
		victims[v.who] = v.kill
	}
	for name, process := range map[string]*slurmtest.Process{
		"slurmctld": p.Controller, "slurmd": p.Nodes[0],
	} {
		victims[name+" stands still"] = func() {
			if err := process.Stop(); err != nil {
				t.Error(err)
			}
			wait(t, time.Duration(random.Int64N(int64(3*time.Second))))
			if err := process.Continue(); err != nil {
				t.Error(err)
			}
		}
	}
	names := slices.Sorted(maps.Keys(victims))
	for len(p.lines()) < n {
		wait(t, time.Duration(random.Int64N(int64(pause))))
		name := names[random.IntN(len(names))]
		t.Logf("%d have begun: %s", len(p.lines()), name)
		victims[name]()
	}
	p.j("wait", "%1")
	var want []string
	for i := 100; i < 100+n; i++ {
		want = append(want, strconv.Itoa(i))
		if log, whole := p.log(fmt.Sprintf("%%1,i=%d", i)),
			numbers(500)+fmt.Sprintf("over %d\n", i); log != whole {
			t.Errorf("the log of cell %d has %d bytes, not %d", i, len(log), len(whole))
		}
	}
	p.told(want...)
	p.empty()
	p.until("no pilot is left", func() bool { return len(p.pilots()) == 0 })
}

// wait lets some time pass in which things happen.
func wait(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
		t.Fatal(errors.New("the test is over"))
	}
}

// numbers gives what `seq N` prints.
func numbers(n int) string {
	var b []byte
	for i := range n {
		b = append(strconv.AppendInt(b, int64(i+1), 10), '\n')
	}
	return string(b)
}
