package wire

import (
	"context"
	"errors"

	"jobserver/api"
	"jobserver/sched"
)

// kinds are the kinds that the scheduler's refusals have on the socket. Any other is a fault of
// ours.
var kinds = map[sched.Kind]api.Kind{
	sched.Invalid:  api.Invalid,
	sched.NotFound: api.NotFound,
	sched.NoMatch:  api.NoMatch,
	sched.Conflict: api.Conflict,
	sched.Full:     api.Full,
	sched.Confirm:  api.Confirm,
	sched.Unknown:  api.OutcomeUnknown,
	sched.Stopping: api.Unavailable,
}

// Error gives the scheduler's errors the form that crosses the socket. What is neither a refusal
// nor the end of somebody's patience is a fault of ours, and says so.
func Error(err error) error {
	var refusal *sched.Error
	var own *api.Error
	switch {
	case err == nil, errors.As(err, &own), errors.Is(err, context.Canceled),
		errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, sched.ErrClosed):
		return api.Errorf(api.Unavailable, "%w", err)
	case !errors.As(err, &refusal):
		return api.Bugf("%w", err)
	}
	kind, ok := kinds[refusal.Kind]
	if !ok {
		return api.Bugf("%w", err)
	}
	return api.Wrap(kind, err)
}
