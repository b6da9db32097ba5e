package sched

import (
	"strings"
	"testing"

	"jobserver/sched/statepb"
	"jobserver/tests/budget"
)

func TestParseNeeds(t *testing.T) {
	tests := []struct{ text, want string }{ // an error begins with a dash
		{"", ""},
		{"gpu=2,mem=32G,license=1", "gpu=2,license=1,mem=32G"},
		{"gpu", "gpu=1"},
		{" gpu=1 , mem=512M ", "gpu=1,mem=512M"},
		{"mem=1.5G", "mem=1536M"},
		{"mem=32GB", "mem=32G"},
		{"mem=32GiB", "mem=32G"},
		{"mem=32g", "mem=32G"},
		{"scratch=1T", "scratch=1T"},
		{"gpu=0", ""},
		{"mem=100000000", "mem=95.4M"},
		{"mem=32", "-less than a megabyte"},
		{"mem=32X", "-is no amount"},
		{"gpu=2G", "-without a unit"},
		{"gpu=1.5", "-only whole numbers"},
		{"gpu=-1", "-negative"},
		{"gpu=1e30", "-too much"},
		{"gpu=0x2", "-no amount"},
		{"gpu=nan", "-no amount"},
		{"gpu=inf", "-no amount"},
		{"gpu=", "-no amount"},
		{"=2", "-name of a resource is missing"},
		{"GPU=2", "-can't be a resource"},
		{"slots=2", "-another meaning"},
		{"gpu=1,gpu=2", "-given twice"},
		{"gpu=1,,mem=1G", "-name of a resource is missing"},
		{"gpu=1,", "-name of a resource is missing"},
		{",gpu=1", "-name of a resource is missing"},
		{"mem", "-how much memory"},
		{"gpu:2", "-can't be a resource"},
		{"gpu=1;mem=1G", "-no amount"},
	}
	for _, tt := range tests {
		needs, err := ParseNeeds(tt.text)
		got := AmountsText(needs)
		if err != nil {
			got = "-" + err.Error()
			if err.(*Error).Next == "" && !strings.Contains(got, "meaning") &&
				!strings.Contains(got, "whole") &&
				!strings.Contains(got, "too much") {
				t.Errorf("%q: no hint with %v", tt.text, err)
			}
		}
		if want, refused := strings.CutPrefix(
			tt.want,
			"-",
		); got != tt.want &&
			!(refused && strings.HasPrefix(got, "-") && strings.Contains(got, want)) {
			t.Errorf("%q gives %q, want %q", tt.text, got, tt.want)
		}
	}
}

func TestParseResource(t *testing.T) {
	tests := []struct{ name, value, want string }{
		{"gpu", "0,1,2,3", "0,1,2,3"},
		{"gpu", "4", "0,1,2,3"},
		{"gpu", "0", "0"},
		{"gpu", "3-3", "3"},
		{"gpu", "0-1,6-7", "0,1,6,7"},
		{"gpu", "auto", "auto"},
		{"fpga", "0,2", "0,2"},
		{"license", "4", "4"},
		{"mem", "256G", "256G"},
		{"scratch", "1T", "1T"},
		{"gpu", "0,0", "-twice"},
		{"gpu", "2-1", "-neither"},
		{"gpu", "0-100000", "-neither"},
		{"gpu", "a,b", "-neither"},
		{"gpu", "", "-neither"},
		{"mem", "auto", "-only GPUs"},
		{"mem", "256Q", "-no amount"},
		{"Mem", "256G", "-can't be"},
	}
	for _, tt := range tests {
		r, err := ParseResource(tt.name, tt.value)
		got := ""
		if err != nil {
			got = "-" + err.Error()
		} else {
			got = ResourceText(r)
		}
		if want, refused := strings.CutPrefix(
			tt.want,
			"-",
		); got != tt.want &&
			!(refused && strings.HasPrefix(got, "-") && strings.Contains(got, want)) {
			t.Errorf("%s=%s gives %q, want %q", tt.name, tt.value, got, tt.want)
		}
	}
}

func FuzzParseNeeds(f *testing.F) {
	for _, seed := range []string{"gpu=2,mem=32G", "mem=1.5T", "gpu", "=", "mem=9e99"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		defer budget.Hold(t, 1<<20+64*len(text))()
		needs, err := ParseNeeds(text)
		if err != nil {
			return
		}
		for _, a := range needs {
			if a.Amount <= 0 || a.Amount >= maxAmount || checkResource(a.Name) != nil {
				t.Errorf("%q gives %v", text, a)
			}
		}
		_, _ = ParseResource("gpu", text)
	})
}

// TestDevices: a device keeps its index whatever comes and goes, and one that vanished gets no job.
func TestDevices(t *testing.T) {
	m := &machine{
		Machine: &statepb.Machine{
			Addr:      "a",
			BootId:    "1",
			Resources: []*statepb.Resource{{Name: "gpu", Auto: true}},
		},
	}
	see := func(want string, ids ...string) {
		t.Helper()
		var devices []*statepb.Item
		for _, id := range ids {
			devices = append(devices, &statepb.Item{Id: id})
		}
		m.seeDevices(devices)
		if got := ResourceText(m.resource("gpu")); got != want {
			t.Errorf("after %v it has %s, want %s", ids, got, want)
		}
	}
	see("auto")
	see("0,1", "A", "B")
	see("1", "B")
	see("1,2", "B", "C")
	see("0,1,2", "C", "B", "A")
	m.equip([]*statepb.Resource{{Name: "gpu", Auto: true}, {Name: "tpu", Amount: 1}})
	see("0,1,2", "C", "B", "A")
}
