package wire

import (
	"context"
	"errors"

	"jobserver/api"
	"jobserver/sched"
)

// kindOf is the kind that a refusal of the scheduler has on the socket. Any other is a fault of
// ours.
func kindOf(kind sched.Kind) (of api.Kind, ok bool) {
	switch kind {
	case sched.Invalid:
		return api.Invalid, true
	case sched.NotFound:
		return api.NotFound, true
	case sched.NoMatch:
		return api.NoMatch, true
	case sched.Conflict:
		return api.Conflict, true
	case sched.Full:
		return api.Full, true
	case sched.Confirm:
		return api.Confirm, true
	case sched.Unknown:
		return api.OutcomeUnknown, true
	case sched.Stopping:
		return api.Unavailable, true
	}
	return of, false
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
	kind, ok := kindOf(refusal.Kind)
	if !ok {
		return api.Bugf("%w", err)
	}
	return api.Wrap(kind, err)
}
