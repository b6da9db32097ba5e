package fleet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"compress/gzip"

	"jobserver/agent"
	"jobserver/sched"
	"jobserver/sched/statepb"
)

// Inputs are files and directories of this host that a run is given. On its way to its start, a run
// that has some
//
//   - has them read: what they are is reported, and the run rests until sched has noted it and asks
//     for the start again;
//   - waits for those to be sent that its machine doesn't have as they were read;
//   - has the directory made in which it finds them.
//
// Each of these steps may be taken again, on this link or on the next. Nothing is kept of an input
// on this host: what is sent is read anew, and is sent only if it is still what was noted.

// prepare is the task of a run that has inputs, up to the point from which it is like any other.
func (m *machine) prepare(ctx context.Context, l *link, r *run) {
	err := m.prepared(ctx, l, r)
	var tree *agent.TreeError
	switch {
	case err == nil:
	case ctx.Err() != nil || unanswered(l, err):
		m.releaseAll([]*run{r})
	case errors.As(err, &tree):
		m.finish(r, verdict{notStarted: inputWhy(tree), hold: true})
	case errors.Is(err, agent.ErrBadRequest):
		m.finish(r, verdict{notStarted: "its machine has an agent that knows of no inputs, of an " +
			"older version: " + err.Error()})
	default:
		m.finish(r,
			verdict{notStarted: fmt.Sprintf("its inputs could not be put on the machine: %v",
				err)})
	}
}

// inputWhy says why a job can't have an input.
func inputWhy(err *agent.TreeError) string { return "its input " + plain(err.Error()) }

func (m *machine) prepared(ctx context.Context, l *link, r *run) error {
	inputs := r.spec.Inputs
	if slices.ContainsFunc(inputs, func(in *statepb.Input) bool { return in.Hash == "" }) {
		read, err := m.f.inputs.readAll(ctx, m, inputs)
		if err != nil {
			return err
		}
		m.do(func() {
			r.resting = true
			if r.cancel || r.dropped {
				m.unrest(r)
			}
		})
		if !r.silent.Load() {
			m.f.report(sched.InputsRead{Ref: r.ref, Inputs: read})
		}
		return nil
	}
	var links []agent.Pair
	for _, in := range inputs {
		if r.ref.Driver { // it runs on this host
			links = append(links, agent.Pair{Name: in.Name, Value: in.Path})
			continue
		}
		dir, changed, err := l.client.FindInput(ctx, in.Hash)
		switch {
		case err != nil:
			return err
		case dir == "":
			if changed != "" {
				m.log.Warn("a job has written into an input; the next get another copy", "path",
					plain(in.Path), "file", plain(changed))
			}
			m.do(func() {
				m.lacks(content{hash: in.Hash, input: true}, in, []*run{r})
			})
			return nil
		}
		links = append(links, agent.Pair{Name: in.Name, Value: agent.InputPath(dir, !in.Dir)})
	}
	var file string
	var list []byte
	if r.spec.After && m.f.opt.AfterList != nil {
		var err error
		if list, err = m.f.opt.AfterList(ctx, r.ref.Job); err != nil {
			return err
		}
		file = sched.AfterList
	}
	dir, err := l.client.LayInputs(ctx, r.id, links, file, list)
	if err != nil {
		return err
	}
	m.do(func() {
		r.inputs = dir
		m.toStart = append(m.toStart, r)
	})
	return nil
}

// hasInputs says that a run is to be given any.
func (r *run) hasInputs() bool { return r.spec.After || len(r.spec.Inputs) > 0 }

// unrest takes a run back that waits until it is noted what was read for it.
func (m *machine) unrest(r *run) bool {
	if !r.resting {
		return false
	}
	r.resting = false
	m.release(r)
	return true
}

// sendInput puts an input on the machine.
func (m *machine) sendInput(l *link, in *statepb.Input) error {
	began := m.f.opt.Now()
	err := m.put(l, in)
	if err != nil {
		return err
	}
	m.log.Info("sent an input", "path", plain(in.Path), "hash", short(in.Hash), "bytes", in.Bytes,
		"took", m.f.opt.Now().Sub(began).Round(time.Millisecond))
	return nil
}

func (m *machine) put(l *link, in *statepb.Input) error {
	if sched.IsLocal(m.addr) {
		err := l.client.CloneInput(l.ctx, in.Hash, randomToken(), in.Path)
		if err == nil || linkBroke(l) {
			return err
		}
		// What it was that went wrong is seen here: the agent reads the same files.
		if _, own := pack(l.ctx, in, io.Discard); own != nil {
			return own
		}
		return err
	}
	out, pipe := io.Pipe()
	packed := make(chan error, 1)
	l.spawn(func() {
		zip, _ := gzip.NewWriterLevel(pipe, gzip.BestSpeed) // a level that there is
		_, err := pack(l.ctx, in, zip)
		if err == nil {
			err = zip.Close()
		}
		pipe.CloseWithError(err)
		packed <- err
	})
	_, err := l.client.PutInput(l.ctx, in.Hash, randomToken(), out)
	out.CloseWithError(errors.New("nobody takes it any more"))
	// An error of ours has reached the call as that of its reader.
	if own, tree := <-packed, (*agent.TreeError)(nil); errors.As(own, &tree) {
		return own
	}
	return err
}

// pack packs an input, if it is still what was read for a run.
func pack(ctx context.Context, in *statepb.Input, w io.Writer) (*agent.Tree, error) {
	tree, err := agent.ReadTree(ctx, in.Path)
	if err != nil {
		return nil, err
	}
	hash, err := tree.Pack(ctx, w)
	if err == nil && hash != in.Hash {
		err = &agent.TreeError{Path: in.Path, Why: "has changed since it was read"}
	}
	return tree, err
}

// inputReader reads inputs, each once for all who want it at the same time, and remembers what it
// has read as long as the file system says that nothing was written there.
type inputReader struct {
	places *places

	mu      sync.Mutex
	known   map[string]knownInput   // by path
	reading map[string]*inputFlight // by path
}

// knownInput has what was found at a path.
type knownInput struct {
	statepb *statepb.Input // without name
	stamp   [32]byte
}

// inputFlight is a reading that is under way.
type inputFlight struct {
	done chan struct{}
	in   *statepb.Input
	err  error
}

// Limits of the reader.
const (
	readsAtOnce = 2      // so many readings keep a disk busy
	maxKnown    = 10_000 // inputs that are remembered
	// settleTime is how long ago something must have been written before its time tells it from
	// what is written next: file systems count in steps of up to 2 s.
	settleTime = 2 * time.Second
)

func newInputReader() *inputReader {
	return &inputReader{places: newPlaces(readsAtOnce), known: map[string]knownInput{},
		reading: map[string]*inputFlight{}}
}

// readAll gives the inputs with their hashes.
func (x *inputReader) readAll(
	ctx context.Context, m *machine, inputs []*statepb.Input,
) ([]*statepb.Input, error) {
	var read []*statepb.Input
	for _, in := range inputs {
		found, err := x.read(ctx, m, in.Path)
		if err != nil {
			return nil, err
		}
		read = append(read, &statepb.Input{Name: in.Name, Path: in.Path, Hash: found.Hash,
			Bytes: found.Bytes, Files: found.Files, Dir: found.Dir})
	}
	return read, nil
}

// read reads what is at a path, or waits for who does.
func (x *inputReader) read(ctx context.Context, m *machine, path string) (*statepb.Input, error) {
	x.mu.Lock()
	flight := x.reading[path]
	if flight == nil {
		flight = &inputFlight{done: make(chan struct{})}
		x.reading[path] = flight
		m.f.tasks.Go(func() {
			flight.in, flight.err = x.find(m, path)
			x.mu.Lock()
			delete(x.reading, path)
			x.mu.Unlock()
			close(flight.done)
		})
	}
	x.mu.Unlock()
	select {
	case <-flight.done:
		return flight.in, flight.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// find reads what is at a path, unless it is known.
func (x *inputReader) find(m *machine, path string) (*statepb.Input, error) {
	ctx := m.ctx
	if err := x.places.take(ctx, m); err != nil {
		return nil, err
	}
	defer x.places.leave(m)
	began := m.f.opt.Now()
	tree, err := agent.ReadTree(ctx, path)
	if err != nil {
		return nil, err
	}
	stamp, newest := tree.Stamp()
	x.mu.Lock()
	known, ok := x.known[path]
	x.mu.Unlock()
	if ok && known.stamp == stamp {
		return known.statepb, nil
	}
	hash, err := tree.Hash(ctx)
	if err != nil {
		return nil, err
	}
	in := &statepb.Input{Hash: hash, Bytes: tree.Bytes, Files: int32(tree.Files), Dir: !tree.Single}
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.known, path)
	if newest.Before(began.Add(-settleTime)) {
		if len(x.known) >= maxKnown {
			clear(x.known)
		}
		x.known[path] = knownInput{in, stamp}
	}
	return in, nil
}
