package service

import (
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"jobserver/api"
)

// TestEveryCallIsRegistered holds the table of calls to the
// exported methods of service, which are nothing but calls.
func TestEveryCallIsRegistered(t *testing.T) {
	var registered, exported []string
	for _, m := range (&service{}).methods() {
		registered = append(registered, m.Name)
	}
	for m := range reflect.TypeFor[*service]().Methods() {
		name := m.Name
		if name == "ChangeJobs" {
			name = api.ChangeJobs
		}
		exported = append(exported, name)
	}
	slices.Sort(exported)
	slices.Sort(registered)
	if diff := cmp.Diff(exported, registered); diff != "" {
		t.Errorf("(-exported +registered):\n%s", diff)
	}
}
