package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"time"

	"jobserver/live"
)

const (
	// quiet is after what time without news a stream says that it is still there.
	quiet = 25 * time.Second
	// sendTime is how long a browser may take to take what is sent: one that hangs holds nothing
	// longer.
	sendTime = 20 * time.Second
)

// stream sends the state, and then each change with what it is about, as text/event-stream.
func (s *server) stream(w http.ResponseWriter, r *http.Request) error {
	q := queryOf(r)
	version := uint64(q.number("v", 0, math.MaxInt64))
	if q.err != nil {
		return q.err
	}
	w.Header().Set("Content-Type", "text/event-stream")
	out := http.NewResponseController(w)
	send := func(format string, args ...any) error {
		if err := out.SetWriteDeadline(
			s.Now().Add(sendTime),
		); err != nil &&
			!errors.Is(err, http.ErrNotSupported) {
			return err
		}
		if _, err := fmt.Fprintf(w, format, args...); err != nil {
			return err
		}
		return out.Flush()
	}
	if err := send(": \n\n"); err != nil {
		return nil // nobody is there to be told
	}
	for {
		ctx, cancel := context.WithTimeout(r.Context(), quiet)
		now, changed, err := s.Follower.Next(ctx, version)
		cancel()
		switch {
		case r.Context().Err() != nil:
			return nil
		case err != nil:
			if send(": \n\n") != nil {
				return nil
			}
			continue
		}
		version = now.Version
		text, err := json.Marshal(struct {
			State   state       `json:"state"`
			Changed live.Digest `json:"changed"`
		}{s.stateOf(now), changed})
		if err != nil {
			return err
		}
		if send("data: %s\n\n", text) != nil {
			return nil
		}
	}
}
