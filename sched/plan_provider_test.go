package sched

import (
	"slices"
	"strings"
	"testing"
	"time"

	"jobserver/sched/statepb"
)

// TestSplitProvider: what is a partition's address.
func TestSplitProvider(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string][2]string{
		"slurm:gpu":                    {"", "gpu"},
		"slurm:me@login1/gpu":          {"me@login1", "gpu"},
		"slurm:me@[::1]:2222/gpu-long": {"me@[::1]:2222", "gpu-long"},
		"slurm:login:22/2080":          {"login:22", "2080"},
		"slurm:":                       {},
		"slurm:/gpu":                   {},
		"slurm:login/":                 {},
		"slurm:a b":                    {},
		"slurm:local/gpu":              {},
		"slurm:local:x/gpu":            {},
		"slurm:slurm:a/gpu":            {},
		"slurm:-x/gpu":                 {},
		"slurm:login/-p":               {},
		"slurm:login/a,b":              {},
		"slurm:a/b/gpu":                {},
		"gpu":                          {},
		"local":                        {},
	} {
		login, partition, err := SplitProvider(addr)
		if bad := want[1] == ""; bad != (err != nil) || login != want[0] || partition != want[1] {
			t.Errorf("%s: %q, %q, %v", addr, login, partition, err)
		}
		if e, ok := err.(*Error); err != nil && (!ok || e.Next == "") {
			t.Errorf("%s: %v has no hint", addr, err)
		}
	}
}

// TestPlanProvider: what is refused, and what stays as it is.
func TestPlanProvider(t *testing.T) {
	t.Parallel()
	hours := func(n float64) *time.Duration {
		return ptr(time.Duration(n * float64(time.Hour)))
	}
	for name, one := range map[string]struct {
		spec ProviderSpec
		want string // of the error
		hint string
	}{
		"no time": {ProviderSpec{}, "--time is missing", "--time 4h"},
		"short":   {ProviderSpec{Time: ptr(time.Minute)}, "2m at least", "twice"},
		"no minutes": {ProviderSpec{Time: ptr(90*time.Minute + 1)}, "whole minutes",
			"--time 1h31m"},
		"long":          {ProviderSpec{Time: hours(24 * 366)}, "a year", ""},
		"no slots":      {ProviderSpec{Time: hours(1), Slots: ptr(0)}, "0 slots", "1 and"},
		"no max":        {ProviderSpec{Time: hours(1), Max: ptr(0)}, "--max 0", ""},
		"no backlog":    {ProviderSpec{Time: hours(1), Backlog: ptr(0)}, "--backlog 0", ""},
		"negative idle": {ProviderSpec{Time: hours(1), Idle: hours(-1)}, "--idle", ""},
		"negative jobs": {ProviderSpec{Time: hours(1), Jobs: ptr(-1)}, "--jobs", ""},
		"slots for none": {ProviderSpec{Time: hours(1), Slots: ptr(4), Jobs: ptr(2)},
			"for 2 jobs", "--slots 2"},
		"name": {ProviderSpec{Time: hours(1), Args: []string{"--job-name=x"}},
			"--sbatch=--job-name=x", "comment"},
		"array": {ProviderSpec{Time: hours(1), Args: []string{"--array=1-9"}},
			"--sbatch=--array", "--max"},
		"short for time": {ProviderSpec{Time: hours(1), Args: []string{"--ti=9"}},
			"--sbatch=--ti=9", "--time"},
		"no option": {ProviderSpec{Time: hours(1), Args: []string{"gpu:1"}},
			"isn't an option", "--NAME=VALUE"},
		"nodes": {ProviderSpec{Time: hours(1), Slots: ptr(2),
			Args: []string{"--nodes=2"}}, "one job at a time", "SLURM_JOB_NODELIST"},
	} {
		s := newWorld()
		one.spec.Addr, one.spec.Class = gpus, "x"
		_, err := s.s.PlanProvider(one.spec, s.now)
		e, ok := err.(*Error)
		if !ok || !strings.Contains(e.Msg, one.want) || !strings.Contains(e.Next, one.hint) {
			t.Errorf("%s: %v, %v", name, err, e)
		}
	}
	c := newPartition(t, ProviderSpec{Slots: ptr(2), Args: []string{"--account=ml"}})
	must(t, c.do(c.s.PlanProvider(ProviderSpec{Addr: gpus, Class: "x", Max: ptr(7)}, c.now)))
	p := c.s.providers[gpus]
	if p.Max != 7 || p.Slots != 2 || p.Time != int64(4*time.Hour) ||
		!slices.Equal(p.Args, []string{"--account=ml"}) {
		t.Errorf("%v", p.Provider)
	}
	must(t, c.do(c.s.PlanProvider(ProviderSpec{Addr: gpus, Class: "x", Args: []string{""}}, c.now)))
	if p := c.s.providers[gpus]; len(p.Args) > 0 {
		t.Errorf("%v", p.Provider)
	}
	if _, err := c.s.PlanProvider(ProviderSpec{Addr: gpus, Class: "y"}, c.now); err == nil {
		t.Error("it is in two classes")
	}
	for what, plan := range map[string]func() error{
		"add": func() error {
			_, err := c.s.PlanMachines([]MachineSpec{{Addr: gpus, Class: "x"}},
				c.now)
			return err
		},
		"setup": func() error {
			_, err := c.s.PlanSetup(SetupSpec{Addrs: []string{gpus}, Steps: []string{"a"}}, c.now)
			return err
		},
		"mv": func() error { _, err := c.s.RefuseProviders([]string{gpus}, "mv"); return err },
		"pilot": func() error {
			c.jobs(1, JobSpec{})
			_, err := c.s.PlanMove([]string{c.runs(c.asked()[0])}, "y", c.now)
			return err
		},
	} {
		if e, ok := plan().(*Error); !ok || e.Next == "" {
			t.Errorf("%s isn't refused with a hint: %v", what, e)
		}
	}
}

// TestOffer: what allocations have follows from their arguments.
func TestOffer(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"":                                "cores=1 mem=0",
		"--mem=64G":                       "cores=1 mem=64G",
		"--mem=500":                       "cores=1 mem=500M",
		"--mem-per-cpu=2G -c4":            "cores=4 mem=8G",
		"--exclusive":                     "",
		"--mem=0":                         "",
		"--exclusive --gres=gpu:2":        "gpu=0,1",
		"--gres=gpu:a100:2,shard:4":       "cores=1 gpu=0,1 mem=0",
		"--gres=gpu":                      "cores=1 gpu=0 mem=0",
		"--gpus=h100:3":                   "cores=1 gpu=0,1,2 mem=0",
		"-G2 -n3":                         "cores=3 gpu=0,1 mem=0",
		"--ntasks=2 --cpus-per-task=4":    "cores=8 mem=0",
		"--nodes=2 --exclude=a[1-3],b":    "cores=1 mem=0",
		"--constraint=a --account=ml -xn": "cores=1 mem=0",
	} {
		o := offerOf(strings.Fields(args), 1)
		_, has := o.request(nil)
		var got []string
		for _, r := range has {
			got = append(got, r.Name+"="+ResourceText(r))
		}
		if text := strings.Join(got, " "); text != want {
			t.Errorf("%s: %s, want %s", args, text, want)
		}
	}
	o := offerOf([]string{"--nodes=2", "--exclude=b", "-Aml"}, 1)
	args, _ := o.request(&statepb.Needs{})
	if o.nodes != 2 || o.exclude != "b" || !slices.Equal(args, []string{"-Aml"}) {
		t.Errorf("%+v, %v", o, args)
	}
}
