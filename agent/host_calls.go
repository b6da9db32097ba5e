package agent

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"strings"
	"unsafe"
)

// Ping asks for a sign of life.
func (c *Client) Ping(ctx context.Context) error {
	_, err := c.call(ctx, methodPing, func(*coder) {}, nil)
	return err
}

// Facts asks for the machine's facts as they are now.
func (c *Client) Facts(ctx context.Context) (Facts, error) {
	var f Facts
	err := c.ask(ctx, methodFacts, func(*coder) {}, f.fields)
	return f, err
}

// TakeOver makes this connection the one that may start the runs below a server's and a machine's
// id. A start that comes over one that had them before is refused, and ends that connection. It is
// to be called before List, so that what List doesn't name can't come any more. After an error the
// connection starts nothing.
func (c *Client) TakeOver(ctx context.Context, server, machine string) error {
	r := takeOverRequest{Server: server, Machine: machine}
	return c.ask(ctx, methodTakeOver, r.fields, nil)
}

// TakeBack is TakeOver of a machine on which there are runs. Where nobody has ever taken it over,
// its directory isn't the one in which they are: that of the login isn't mounted, or somebody has
// removed all of it. Then the error is ErrNoRoot, and nothing was made. An agent from before there
// was that takes the machine over all the same.
func (c *Client) TakeBack(ctx context.Context, server, machine string) error {
	r := takeOverRequest{Server: server, Machine: machine, Back: true}
	return c.ask(ctx, methodTakeOver, r.fields, nil)
}

// Leave lets go of a machine that this connection has taken over: nothing of it is wanted any more.
// An agent from before there was that keeps a small file for it.
func (c *Client) Leave(ctx context.Context, server, machine string) error {
	r := takeOverRequest{Server: server, Machine: machine, Leave: true}
	return c.ask(ctx, methodTakeOver, r.fields, nil)
}

// ask is a call with one reply.
func (c *Client) ask(ctx context.Context, method byte, request, reply func(*coder)) error {
	p, err := c.call(ctx, method, request, nil)
	if err != nil || reply == nil {
		return err
	}
	return decode(p, reply)
}

// A batch of starts is cut into messages of about this many bytes and at most so many runs.
const (
	startBytes = 256 << 10
	startRuns  = 256
)

// Start starts runs and returns when each has started or failed to: one result a Spec, in their
// order. It may be repeated: a run whose token has been seen is not started again, and its result
// is what became of it. An error means that nothing is known about the runs without a result.
func (c *Client) Start(ctx context.Context, specs []Spec) ([]StartResult, error) {
	return c.send(ctx, methodStart, specs)
}

// Prepare makes all ready for runs that are started later; see Client.Start, whose results these
// are. Agents that know nothing of it answer with ErrBadRequest: on their machines what keeps a run
// from starting is found when it starts.
func (c *Client) Prepare(ctx context.Context, specs []Spec) ([]StartResult, error) {
	return c.send(ctx, methodPrepare, specs)
}

// send calls a method with specs, in messages that aren't too long.
func (c *Client) send(ctx context.Context, method byte, specs []Spec) ([]StartResult, error) {
	results := make([]StartResult, 0, len(specs))
	for len(specs) > 0 {
		n, size := 0, 0
		for n < len(specs) && n < startRuns && (n == 0 || size < startBytes) {
			size += specs[n].size()
			n++
		}
		request, reply := startRequest{Specs: specs[:n]}, startReply{}
		if err := c.ask(ctx, method, request.fields, reply.fields); err != nil {
			return results, err
		}
		if len(reply.Results) != n {
			return results, errorf(KindProtocol, "%d results came for %d starts",
				len(reply.Results), n)
		}
		results, specs = append(results, reply.Results...), specs[n:]
	}
	return results, nil
}

// size is about what the Spec takes on the wire.
func (s *Spec) size() int {
	n := 100 + len(s.Command) + len(s.Stdin)
	for _, a := range s.Argv {
		n += len(a)
	}
	for _, p := range s.Env {
		n += len(p.Name) + len(p.Value)
	}
	return n
}

// Poll waits for news of a run: it returns as soon as there are bytes or marks past the request's
// offsets, another Ending, or a state that is Final, or when Wait is over. So a short run costs one
// Start and one Poll. Before it returns it hands what the run has written to output, each stream in
// order and without a gap after the request's offset: also when it returns an error in the end, so
// the caller counts. A request of Weave hands out that, too. p is only valid during the call; an
// error of output ends the Poll and is returned by it. Without output the bytes are dropped. When
// very many runs are followed, Wait may be cut short. One that isn't answered when it is over is
// ErrStalled. Of a run that has ended, an offset past all that it has written is ErrBeyondEnd.
func (c *Client) Poll(
	ctx context.Context, r PollRequest, output func(s Stream, p []byte) error,
) (PollReply, error) {
	var bytes int64
	take := func(s Stream, p []byte) error {
		bytes += int64(len(p))
		if output == nil || len(p) == 0 {
			return nil
		}
		return output(s, p)
	}
	leave, crowded, err := c.place(ctx, methodPoll)
	if err != nil {
		return PollReply{}, err
	}
	defer leave()
	if crowded {
		r.Wait = min(r.Wait, crowdedWait)
	}
	asked := Patient(ctx, max(r.Wait, 0)+limitOf(ctx, methodPoll).silence)
	p, err := c.call(asked, methodPoll, r.fields, func(p []byte) error {
		if len(p) == 0 || Stream(p[0]) >= streams {
			return errorf(KindProtocol, "poll: a part of no stream")
		}
		return take(Stream(p[0]), p[1:])
	})
	if err != nil {
		return PollReply{}, err
	}
	var reply PollReply
	if err := decode(p, reply.fields); err != nil {
		return PollReply{}, err
	}
	// First, so that whoever reads what is kept of all this meets no bytes without their order,
	// but for those that came in parts.
	if output != nil && len(reply.weave) > 0 {
		if err := output(Weave, reply.weave); err != nil {
			return PollReply{}, err
		}
	}
	for s, p := range reply.short {
		if err := take(Stream(s), p); err != nil {
			return PollReply{}, err
		}
	}
	reply.short, reply.weave, reply.Bytes = [streams][]byte{}, nil, bytes
	return reply, nil
}

// Output brings a piece of what a run has written, or the part of it that is there, and says how
// long the stream is by then. Unlike a poll it waits for nothing, so that pieces may be asked for
// over several connections at once. p is only valid during the call; an error of take ends the call
// and is returned by it. Agents that know nothing of it answer with ErrBadRequest.
func (c *Client) Output(
	ctx context.Context, r OutputRequest, take func(p []byte) error,
) (size int64, err error) {
	left := r.Until - r.Off
	p, err := c.call(ctx, methodOutput, r.fields, func(p []byte) error {
		if left -= int64(len(p)); left < 0 {
			return errorf(KindProtocol, "output: more bytes came than were asked for")
		}
		return take(p)
	})
	if err != nil {
		return 0, err
	}
	var reply outputReply
	if err := decode(p, reply.fields); err != nil {
		return 0, err
	}
	return min(max(reply.Size, 0), 1<<60), nil
}

// Control hands an instruction to a run's supervisor. That it was taken shows in Poll's Ending. A
// run that has ended already is no error; one that is not there is ErrNoRun.
func (c *Client) Control(ctx context.Context, run RunID, k Control) error {
	r := controlRequest{Run: run, Control: k}
	return c.ask(ctx, methodControl, r.fields, nil)
}

// Steer is Control for pauses and signals. An agent or a supervisor of a version that knows nothing
// of them is ErrOlder.
func (c *Client) Steer(ctx context.Context, run RunID, k Control) error {
	r := controlRequest{Run: run, Control: k}
	err := c.ask(ctx, methodSteer, r.fields, nil)
	if errors.Is(err, &Error{Kind: KindBadRequest}) {
		return &Error{Kind: KindOlder, Msg: "the agent is of an older version, and knows neither " +
			"pauses nor signals", Err: err}
	}
	return err
}

// Forget removes the directories of runs, scratch included. Runs that are not there are no error.
// One that still runs is left alone (ErrRunning), unless force is set: then it is killed first.
func (c *Client) Forget(ctx context.Context, runs []RunID, force bool) error {
	const most = 1024
	var errs []error
	for len(runs) > 0 {
		n := min(len(runs), most)
		r := runsRequest{Runs: runs[:n], Force: force}
		if err := c.ask(ctx, methodForget, r.fields, nil); err != nil {
			errs = append(errs, err)
		}
		runs = runs[n:]
	}
	return errors.Join(errs...)
}

// Kill ends a run at once, its supervisor too if that doesn't answer, and returns when nothing of
// it is left.
func (c *Client) Kill(ctx context.Context, run RunID) error {
	r := runsRequest{Runs: []RunID{run}}
	return c.ask(ctx, methodKill, r.fields, nil)
}

// A list of more runs, or of more bytes, is ErrProtocol: a machine shall not fill the host's
// memory. So many runs have some 30 MB.
const (
	maxListed    = 100_000
	maxListBytes = 32 << 20
)

// List names the runs below a server's and a machine's id; an empty id stands for all.
func (c *Client) List(ctx context.Context, server, machine string) ([]RunInfo, error) {
	var all []RunInfo
	bytes := 0
	request := listRequest{Server: server, Machine: machine}
	_, err := c.call(ctx, methodList, request.fields, func(p []byte) error {
		if bytes += len(p); bytes > maxListBytes {
			return errorf(KindProtocol, "the list of runs has more than %d bytes", maxListBytes)
		}
		var part runInfos
		if err := decode(p, part.fields); err != nil {
			return err
		}
		if len(all)+len(part.Runs) > maxListed {
			return errorf(KindProtocol, "the list has more than %d runs", maxListed)
		}
		for _, r := range part.Runs {
			if err := request.check(&r.Run); err != nil {
				return err
			}
			all = append(all, r)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// check refuses what was not asked for, or names no run.
func (r *listRequest) check(id *RunID) error {
	err := id.Valid()
	if err == nil &&
		(r.Server != "" && id.Server != r.Server || r.Machine != "" && id.Machine != r.Machine) {
		err = fmt.Errorf("run id: it is of %.100q and %.100q", id.Server, id.Machine)
	}
	if err != nil {
		return &Error{Kind: KindProtocol, Msg: "the list of runs", Err: err}
	}
	if r.Server != "" { // one string for all of them
		id.Server = r.Server
	}
	if r.Machine != "" {
		id.Machine = r.Machine
	}
	return nil
}

// requestBytes is about how many bytes of paths go into one request of a Manifest or a Fetch.
const requestBytes = 1 << 20

// Manifest finds out what the paths of RESULTS lines stand for.
func (c *Client) Manifest(ctx context.Context, r ManifestRequest) (Manifest, error) {
	if r.MaxFiles <= 0 {
		r.MaxFiles = DefaultMaxFiles
	}
	all := manifestReader{request: r}
	for rest := r.Paths; ; {
		n, size := 0, 0
		for n < len(rest) && n < maxList && size < requestBytes {
			size += 10 + len(rest[n])
			n++
		}
		r.Paths, rest = rest[:n], rest[n:]
		if len(rest) > 0 && all.named == nil {
			all.named = map[string]string{}
			r.MaxBytes = 0 // what is named in two of the requests counts once, which only we know
		}
		all.begin(n)
		if _, err := c.call(Patient(ctx, r.Patience), methodManifest, r.fields,
			all.part); err != nil {
			return Manifest{}, err
		}
		r.CodeOf = RunID{}
		if len(rest) == 0 {
			all.join()
			return all.Manifest, nil
		}
	}
}

// Limits of a manifest that no request sets: a machine shall not fill the host's memory. What is
// counted is what the host holds of it. A caller that holds several manifests has limits of its
// own, see Reserve.
const (
	maxManifestBytes = 64 << 20
	maxReason        = 500 // bytes of why something can't be copied
	perText          = 64  // what short texts take beside their bytes, in a list that grows
)

// TooManyNames is the error of a job whose results have names of more than so many bytes.
func TooManyNames(limit int) error {
	return errorf(KindLimit,
		"manifest: the names of the results have more than %d MiB: let the job pack them",
		limit>>20)
}

// manifestReader puts a manifest together from the answers to several requests. An agent sees to it
// within one that no two results have the same name, and keeps the limits; across them we do.
type manifestReader struct {
	Manifest
	request ManifestRequest // all of it
	// the names so far, and their sources; nil with a single request
	named          map[string]string
	within         string // what lies below here was left out, with the directory itself
	held           int    // bytes that all of it takes
	paths          int    // of the current request
	found, missing int    // in the answer to it
	// entries as they came: one list that grew would be there twice, and leave much behind
	pieces  [][]Entry
	entries int // in all of them
}

// begin is called before each request.
func (m *manifestReader) begin(paths int) {
	m.paths, m.found, m.missing, m.within = paths, 0, 0, ""
}

func (m *manifestReader) part(p []byte) error {
	var part Manifest
	if err := decode(p, part.fields); err != nil {
		return err
	}
	m.found += len(part.Entries) + len(part.Errors)
	m.missing += len(part.Missing)
	if m.found > m.request.MaxFiles || m.missing > m.paths {
		return errorf(KindProtocol, "the manifest is longer than was asked for")
	}
	size := 0 // that is kept
	for i := range part.Entries {
		e := &part.Entries[i]
		if err := e.check(); err != nil {
			return err
		}
		e.share()
		size += int(unsafe.Sizeof(*e)) + len(e.Source) + len(e.Name) + len(e.Target)
	}
	for _, p := range part.Missing {
		size += int(unsafe.Sizeof(p)) + len(p) + perText
	}
	for i := range part.Errors {
		e := &part.Errors[i]
		if len(e.Reason) > maxReason { // what stays shall not keep the rest in memory
			e.Reason = strings.Clone(e.Reason[:maxReason]) + "…"
		}
		size += int(unsafe.Sizeof(*e)) + len(e.Path) + len(e.Reason) + perText
	}
	// What is dropped counts as well: nobody shall send without an end.
	size = max(size, len(p))
	if m.held += size; m.held > maxManifestBytes {
		return TooManyNames(maxManifestBytes)
	}
	if m.request.Reserve != nil {
		if err := m.request.Reserve(size); err != nil {
			return err
		}
	}
	kept := part.Entries[:0]
	for _, e := range part.Entries {
		if m.entry(e) {
			kept = append(kept, e)
		}
	}
	m.pieces = append(m.pieces, kept)
	m.entries += len(kept)
	if part.Code.Looked {
		m.Code = part.Code
		m.Code.Changed = m.Code.Changed[:min(len(m.Code.Changed), maxReason)]
	}
	m.Missing = append(m.Missing, part.Missing...)
	m.Errors = append(m.Errors, part.Errors...)
	if m.entries+len(m.Errors) > m.request.MaxFiles {
		return errorf(KindLimit, "manifest: more than %d results", m.request.MaxFiles)
	}
	if m.request.MaxBytes > 0 && m.Bytes > m.request.MaxBytes {
		return errorf(KindLimit, "manifest: the results have more than %d bytes",
			m.request.MaxBytes)
	}
	return nil
}

// join makes one list of the pieces.
func (m *manifestReader) join() {
	if m.entries > 0 {
		m.Entries = make([]Entry, 0, m.entries)
	}
	for i, piece := range m.pieces {
		m.Entries = append(m.Entries, piece...)
		m.pieces[i] = nil
	}
}

// entry counts an entry, and tells whether it is kept: not when its name is taken.
func (m *manifestReader) entry(e Entry) bool {
	if m.within != "" && strings.HasPrefix(e.Name, m.within) {
		return false
	}
	if other, taken := m.named[e.Name]; taken {
		if other == e.Source {
			return false // named twice
		}
		if e.Kind == Dir {
			m.within = e.Name + "/"
		}
		m.Errors = append(m.Errors,
			PathError{Path: e.Source,
				Reason: fmt.Sprintf("another result, %s, has the same name", other)})
		return false
	}
	if m.named != nil {
		m.named[e.Name] = e.Source
	}
	if e.Kind == File {
		m.Bytes += min(e.Size, math.MaxInt64-m.Bytes)
	}
	return true
}

// Fetch brings the contents of files, in order. A file that changed since the manifest, or can't be
// read, is said by its Fetched and doesn't end the Fetch; an error of sink, of ctx or of the
// connection does.
func (c *Client) Fetch(ctx context.Context, r FetchRequest, sink Sink) error {
	for first := 0; first < len(r.Files); {
		n, size := 0, 0
		for first+n < len(r.Files) && n < maxList && size < requestBytes {
			size += 30 + len(r.Files[first+n].Source)
			n++
		}
		in := &fetchReader{sink: sink, first: first, files: n, crc: crc32.New(castagnoli())}
		part := FetchRequest{Files: r.Files[first : first+n], holes: true}
		ctx := Patient(ctx, r.Patience)
		if _, err := c.call(ctx, methodFetch, part.fields, in.frame); err != nil {
			return err
		}
		if in.file != n {
			return errorf(KindProtocol, "%d files came of %d", in.file, n)
		}
		first += n
	}
	return nil
}
