package statepb

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestDescriptorsAreBuiltWhenNeeded: whatever looks at a descriptor has them built, also what was
// merged from a branch that was generated otherwise.
func TestDescriptorsAreBuiltWhenNeeded(t *testing.T) {
	b, err := os.ReadFile("state.pb.go")
	if err != nil {
		t.Fatal(err)
	}
	looks := regexp.MustCompile(`(?m)^func [^\n]*(ProtoReflect|Descriptor|Type)\(\) ` +
		`protoreflect\.[^\n]* \{\n(.*)$`)
	all := looks.FindAllStringSubmatch(string(b), -1)
	if len(all) < 100 {
		t.Fatalf("only %d functions look at a descriptor", len(all))
	}
	for _, f := range all {
		if strings.TrimSpace(f[2]) != "file_state_proto_init()" {
			t.Errorf("go generate ./sched/statepb: this begins with %q:\n%s", f[2], f[0])
		}
	}
	if strings.Contains(string(b), "func init()") {
		t.Error("the descriptors are built at the start of each program")
	}
}
