package wire

import (
	"context"
	"errors"

	"jobserver/api"
	"jobserver/sched"
)

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
	kind := api.Internal
	switch refusal.Kind {
	case sched.Invalid:
		kind = api.Invalid
	case sched.NotFound:
		kind = api.NotFound
	case sched.NoMatch:
		kind = api.NoMatch
	case sched.Conflict:
		kind = api.Conflict
	case sched.Full:
		kind = api.Full
	case sched.Confirm:
		kind = api.Confirm
	case sched.Unknown:
		kind = api.OutcomeUnknown
	case sched.Stopping:
		kind = api.Unavailable
	case sched.Internal:
		return api.Bugf("%w", err)
	}
	return api.Wrap(kind, err)
}
