package api

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestFieldsWithoutValue: they are absent in JSON, and so are never null.
func TestFieldsWithoutValue(t *testing.T) {
	for _, value := range []any{
		Job{}, Attempt{}, Machine{}, MachineCheck{}, Matrix{}, TimeLeft{}, Growth{}, Counts{},
		Tag{}, Variable{}, Event{}, ChangedJob{},
		WhyReply{}, WhyManyReply{}, FailureGroup{}, FailureCount{},
	} {
		text, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "null") {
			t.Errorf("%T without values is %s", value, text)
		}
	}
	text, err := json.Marshal(MachineCheck{Machine: Machine{Addr: "gpu1"}, Error: "no such host"})
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"addr":"gpu1","ok":false,"error":"no such host"}`; string(text) != want {
		t.Errorf("a check of a machine that isn't in the pool is %s, want %s", text, want)
	}
}
