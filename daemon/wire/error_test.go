package wire

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"

	"jobserver/api"
	"jobserver/sched"
)

// TestFaultsOfOurs: a refusal arrives as it is; an error that nobody foresaw says that it is a bug,
// and what to do.
func TestFaultsOfOurs(t *testing.T) {
	bug := api.Bugf("job 3 doesn't run")
	for _, test := range []struct {
		err, want error
	}{
		{nil, nil},
		{&sched.Error{Kind: sched.NotFound, Msg: "no job 3", Next: "look"},
			&api.Error{Kind: api.NotFound, Message: "no job 3", Hint: "look"}},
		{fmt.Errorf("job 3: %w", &sched.Error{Kind: sched.Full, Msg: "full"}),
			&api.Error{Kind: api.Full, Message: "job 3: full"}},
		{&sched.Error{Kind: sched.Stopping, Msg: "stopping"},
			&api.Error{Kind: api.Unavailable, Message: "stopping"}},
		{sched.ErrClosed, &api.Error{Kind: api.Unavailable, Message: "the daemon is stopping"}},
		{api.Errorf(api.Invalid, "one is wanted"), api.Errorf(api.Invalid, "one is wanted")},
		{&sched.Error{Kind: sched.Internal, Msg: "job 3 doesn't run"}, bug},
		{errors.New("job 3 doesn't run"), bug},
		{context.Canceled, context.Canceled},
	} {
		if got := Error(test.err); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%v becomes %#v, want %#v", test.err, got, test.want)
		}
	}
}
