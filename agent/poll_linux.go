package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"time"
)

const (
	// plenty is how many bytes make waiting for more pointless.
	plenty = 1 << 20
	// shortOutput is how many bytes of a stream may come in the reply; more of them go before it,
	// in parts.
	shortOutput = 16 << 10
	// sendTime is how long a poll sends without a reply, as long as there is plenty to send: marks,
	// an ending and the exit record come with that.
	sendTime = time.Second
)

// stillLook is how often a poll that hears nothing looks all the same: when a directory above the
// run's is moved away, nothing tells.
const stillLook = 30 * time.Second

// lingerLook is how often a poll that lingers looks whether there is plenty by now, or the run has
// ended.
const lingerLook = time.Millisecond

// poll answers as soon as there is something to say; see Client.Poll. Output goes through s.
func (a *agent) poll(ctx context.Context, r PollRequest, s *serving) (PollReply, error) {
	if err := r.Run.Valid(); err != nil {
		return PollReply{}, &Error{Kind: KindBadRequest, Msg: err.Error()}
	}
	if r.OutOff < 0 || r.ErrOff < 0 || r.MarksOff < 0 || r.WeaveOff < 0 {
		return PollReply{}, errorf(KindBadRequest, "poll %s: negative offset", r.Run.Name())
	}
	if r.Linger == 0 {
		r.Linger = DefaultLinger
	}
	f := follower{agent: a, dir: runDir(a.root, r.Run), request: r, serving: s}
	defer f.close()
	return f.follow(ctx)
}

// follower is one waiting poll.
type follower struct {
	*agent
	dir     string
	request PollRequest // its offsets go forward with what was sent
	serving *serving
	quiet   bool      // output doesn't matter, and isn't sent
	known   process   // the supervisor, should the directory be removed
	sending time.Time // since when parts are sent; zero if none was
	sent    int64     // bytes in parts

	news  *subscription
	death *obituary
	// pulse replaces death where the kernel has no pidfd: the lock is looked at every second.
	pulse *time.Ticker
}

func (f *follower) close() {
	if f.news != nil {
		f.news.close()
	}
	if f.death != nil {
		f.death.close()
	}
	if f.pulse != nil {
		f.pulse.Stop()
	}
}

func (f *follower) follow(ctx context.Context) (PollReply, error) {
	r := f.request
	var over, linger <-chan time.Time
	if r.Wait > 0 {
		t := time.NewTimer(r.Wait)
		defer t.Stop()
		over = t.C
	}
	timeUp := r.Wait <= 0
	still := time.NewTicker(stillLook)
	defer still.Stop()
	for {
		v, err := look(f.dir, f.bootID)
		if err != nil {
			return PollReply{}, fmt.Errorf("look at run %s: %w", r.Run.Name(), err)
		}
		sizes, err := f.sizes(v.exit)
		if err != nil {
			return PollReply{}, err
		}
		output, marks := sizes.beyond(f.request)
		if f.quiet {
			output, marks = 0, 0
		}
		waiting := output + marks
		if v.state == Vanished || v.state == Ambiguous || v.state == None {
			if v.state == None {
				// All of the runs' directory may be away, as a login's is that isn't mounted:
				// then it may come back, and they live. Another connection sees to that.
				if err := f.holds(); errors.Is(err, errSuperseded) {
					return PollReply{}, err
				}
			}
			// What it left behind must not run on unsupervised, nor beside another attempt.
			if v.launching.PID == 0 {
				v.launching = f.known
			}
			if err := f.sweep(r.Run, v); err != nil {
				return PollReply{}, err
			}
		}
		f.known = v.launching
		timeUp = timeUp || !f.sending.IsZero() && (output < plenty || f.sentEnough()) ||
			r.Most > 0 && f.sent >= r.Most
		if output >= plenty && !timeUp {
			if err := f.send(ctx, sizes); err != nil {
				return PollReply{}, err
			}
			continue
		}
		if timeUp || waiting >= plenty || v.state.Final() || v.state == None ||
			v.ending != r.Ending && v.ending != NoCause && !f.quiet ||
			v.pause.Changes > r.Pauses && !f.quiet {
			return f.reply(ctx, v, sizes)
		}
		if waiting > 0 && linger == nil {
			if r.Linger < 0 {
				return f.reply(ctx, v, sizes)
			}
			t := time.NewTimer(r.Linger)
			defer t.Stop()
			linger = t.C
		}
		if again, err := f.subscribe(v); err != nil {
			return PollReply{}, err
		} else if again {
			continue // what happened before we watched
		}
		// Once there are bytes, more of them are not news for a while:
		// a busy command must not wake us with every write.
		news := f.news.C
		var soon <-chan time.Time
		if linger != nil {
			news, soon = nil, time.After(lingerLook)
		}
		select {
		case <-news:
		case <-soon:
		case <-f.dead():
			f.death.close()
			f.death = nil
			if err := f.afterDeath(ctx); err != nil {
				return PollReply{}, err
			}
		case <-f.pulseC():
		case <-still.C:
		case <-over:
			timeUp = true
		case <-linger:
			timeUp = true
		case <-ctx.Done():
			return PollReply{}, context.Cause(ctx)
		}
	}
}

// subscribe begins to watch what can be watched in the run's present state. again: something new is
// watched.
func (f *follower) subscribe(v view) (again bool, err error) {
	if f.news == nil {
		f.news, err = f.watch.add(f.dir)
		if errors.Is(err, fs.ErrNotExist) {
			return true, nil // forgotten meanwhile
		}
		return true, err
	}
	if f.death == nil && f.pulse == nil && v.launching.PID != 0 {
		f.death, err = watchDeath(v.launching)
		if errors.Is(err, errNoPidfd) {
			f.pulse = time.NewTicker(time.Second)
			return true, nil
		}
		return true, err
	}
	return false, nil
}

func (f *follower) dead() <-chan struct{} {
	if f.death == nil {
		return nil
	}
	return f.death.C
}

func (f *follower) pulseC() <-chan time.Time {
	if f.pulse == nil {
		return nil
	}
	return f.pulse.C
}

// afterDeath waits until the lock of a supervisor that has just died
// is free: a fork that was under way may hold it for another moment.
func (f *follower) afterDeath(ctx context.Context) error {
	for {
		v, err := look(f.dir, f.bootID)
		if err != nil || v.state != Running && v.state != Launching {
			return err
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// unlessMissing drops the error that says that a file isn't there.
func unlessMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// sizes are the lengths of a run's files at one moment. They are read after the exit record was
// looked at, so that those of an ended run are final.
type sizes struct {
	streams [streams]int64
	marks   int64
}

// streamFiles are the files that the streams are in.
var streamFiles = [streams]string{Stdout: fileOut, Stderr: fileErr}

// sizes looks at the files. Of an ended run they have what its record says, or less: nothing is
// synced, so after a power cut the record may be there and the last of the output not. The host
// finds that out by the lengths in the record.
func (f *follower) sizes(e *Exit) (s sizes, err error) {
	for name, size := range map[string]*int64{fileOut: &s.streams[Stdout],
		fileErr: &s.streams[Stderr], fileMarks: &s.marks} {
		fi, err := os.Stat(filepath.Join(f.dir, name))
		if err := unlessMissing(err); err != nil {
			return s, err
		}
		if fi != nil {
			*size = fi.Size()
		}
	}
	if e != nil {
		s.streams[Stdout], s.streams[Stderr] = min(s.streams[Stdout], e.OutLen),
			min(s.streams[Stderr], e.ErrLen)
		s.marks = min(s.marks, e.MarksLen)
	}
	return s, nil
}

// offset is where the next bytes of a stream are.
func (r *PollRequest) offset(s Stream) *int64 {
	if s == Stderr {
		return &r.ErrOff
	}
	return &r.OutOff
}

// beyond is how many bytes lie past the request's offsets.
func (s sizes) beyond(r PollRequest) (output, marks int64) {
	for i, size := range s.streams {
		output += max(0, size-*r.offset(Stream(i)))
	}
	return output, max(0, s.marks-r.MarksOff)
}

// sendOnce is how much of a stream is sent before the other one has its turn.
const sendOnce = 4 << 20

// sentEnough tells whether it is time for a reply.
func (f *follower) sentEnough() bool { return time.Since(f.sending) > sendTime }

// send sends some of what lies past the offsets of both streams.
func (f *follower) send(ctx context.Context, s sizes) error {
	for i, size := range s.streams {
		n := min(size-*f.request.offset(Stream(i)), sendOnce, f.most())
		if n > 0 {
			if err := f.sendStream(ctx, Stream(i), n); err != nil {
				return err
			}
		}
	}
	return nil
}

// most is how many bytes more may be sent before a reply.
func (f *follower) most() int64 {
	if f.request.Most <= 0 {
		return math.MaxInt64
	}
	return max(f.request.Most-f.sent, 0)
}

// sendStream sends the next bytes of a stream, n or as many as there is time for, and moves its
// offset. The parts are frames whose payload is the stream's number, one byte, and the bytes.
func (f *follower) sendStream(ctx context.Context, s Stream, n int64) error {
	if f.sending.IsZero() {
		f.sending = time.Now()
	}
	off := f.request.offset(s)
	file, err := openPlain(filepath.Join(f.dir, streamFiles[s]), os.O_RDONLY)
	if err != nil {
		return err
	}
	defer file.Close()
	head := append(newFrame(1), byte(s))
	for end := *off + n; *off < end; {
		piece := pieceOf(*off, end)
		if err := f.serving.filePart(ctx, head, file, *off, int(piece)); err != nil {
			return fmt.Errorf("send the file %s of run %s: %w", streamFiles[s],
				f.request.Run.Name(), err)
		}
		*off += piece
		f.sent += piece
		if f.sentEnough() {
			break
		}
	}
	return nil
}

// pieceOf is how much of a file is sent at once: up to a multiple of a page, as the host copies
// from there on to even addresses.
func pieceOf(off, end int64) int64 { return min(end-off, dataSize-off%pageSize) }

// reply hands out what there is.
func (f *follower) reply(ctx context.Context, v view, s sizes) (PollReply, error) {
	p := PollReply{State: v.state, StartedAt: v.started.At, Ending: v.ending,
		OutDropped: v.drops[Stdout], ErrDropped: v.drops[Stderr], Pause: v.pause, Sizes: s.streams}
	if v.exit != nil {
		p.StartedAt, p.OutDropped, p.ErrDropped = v.exit.StartedAt, v.exit.OutDropped,
			v.exit.ErrDropped
		if r := f.request; r.OutOff > v.exit.OutLen || r.ErrOff > v.exit.ErrLen ||
			r.MarksOff > v.exit.MarksLen {
			return p, errorf(KindBeyondEnd, "poll %s: an offset is beyond the end", r.Run.Name())
		}
	}
	if f.quiet {
		return p, nil
	}
	for i, size := range s.streams {
		off := f.request.offset(Stream(i))
		rest := size - *off
		var err error
		if rest > shortOutput {
			err = f.sendStream(ctx, Stream(i), min(rest, sendOnce, f.most()))
		} else {
			p.short[i], err = f.read(streamFiles[i], *off, rest)
			*off += int64(len(p.short[i]))
		}
		if err != nil {
			return p, err
		}
	}
	lines, err := f.read(fileMarks, f.request.MarksOff,
		min(max(0, s.marks-f.request.MarksOff), 4*MaxMarkLine))
	if err != nil {
		return p, err
	}
	var used int64
	p.Marks, used = parseMarks(lines)
	p.MarksOff = f.request.MarksOff + used
	whole, err := f.readWeave(&p)
	if err != nil {
		return p, err
	}
	if f.request.MarksOff = p.MarksOff; v.exit != nil && whole {
		// Half a line is the last there is of the marks.
		if output, marks := s.beyond(f.request); output == 0 && (marks == 0 || used == 0) {
			p.Exit = v.exit
		}
	}
	return p, nil
}

// shortWeave is how much of the order of the streams comes with a reply, in bytes.
const shortWeave = 64 << 10

// readWeave puts the order of the streams into a reply, and says whether that is all of it.
func (f *follower) readWeave(p *PollReply) (whole bool, err error) {
	off := f.request.WeaveOff
	if !f.request.Weave || off >= maxWeave {
		return true, nil
	}
	p.weave, err = f.read(fileWeave, off, min(shortWeave, maxWeave-off))
	return len(p.weave) < shortWeave, unlessMissing(err)
}

// read reads n bytes of a run's file, or fewer if it got shorter, which only a hand from outside
// can do.
func (f *follower) read(name string, off, n int64) ([]byte, error) {
	if n <= 0 {
		return nil, nil
	}
	file, err := openPlain(filepath.Join(f.dir, name), os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	p := make([]byte, n)
	got, err := file.ReadAt(p, off)
	if err != nil && err != io.EOF {
		return nil, err
	}
	return p[:got], nil
}
