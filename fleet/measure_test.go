package fleet

import (
	"testing"
	"time"

	"jobserver/sched"
)

func TestMeasure(t *testing.T) {
	h := newHost(t, nil, func(opt *Options) { opt.MeasureEvery = 2 * time.Millisecond })
	h.connected("local:a")
	seen := 0
	got := await(h, func(o sched.Measured) bool { seen++; return seen == 3 })
	if got.Addr != "local:a" || got.Vitals.FreeBytes <= 0 || got.Vitals.Latency <= 0 || got.Vitals.ClockOffset.Abs() > time.Minute {
		t.Errorf("measured %+v", got)
	}
}
