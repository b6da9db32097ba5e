package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// plenty is how many bytes make waiting for more pointless.
const plenty = 1 << 20

// lingerLook is how often a poll that lingers looks whether there is plenty by now, or the run has ended.
const lingerLook = time.Millisecond

// poll answers as soon as there is something to say; see Client.Poll.
func (a *agent) poll(ctx context.Context, r PollRequest) (PollReply, error) {
	if err := r.Run.Valid(); err != nil {
		return PollReply{}, &Error{Kind: KindBadRequest, Msg: err.Error()}
	}
	if r.OutOff < 0 || r.ErrOff < 0 || r.MarksOff < 0 {
		return PollReply{}, errorf(KindBadRequest, "poll %s: negative offset", r.Run.Name())
	}
	if r.Max <= 0 || r.Max > MaxPoll {
		r.Max = MaxPoll
	}
	if r.Linger == 0 {
		r.Linger = DefaultLinger
	}
	f := follower{agent: a, dir: runDir(a.root, r.Run), request: r}
	defer f.close()
	return f.follow(ctx)
}

// follower is one waiting poll.
type follower struct {
	*agent
	dir     string
	request PollRequest

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
	for {
		v, err := look(f.dir, f.bootID)
		if err != nil {
			return PollReply{}, fmt.Errorf("look at run %s: %w", r.Run.Name(), err)
		}
		sizes, err := f.sizes(v.exit)
		if err != nil {
			return PollReply{}, err
		}
		waiting := sizes.beyond(r)
		if v.state == Vanished || v.state == Ambiguous {
			sweep(r.Run) // what it left behind must not run on unsupervised
		}
		if timeUp || waiting >= plenty || waiting >= int64(r.Max) || v.state.Final() || v.state == None || v.ending != r.Ending && v.ending != NoCause {
			return f.reply(v, sizes)
		}
		if waiting > 0 && linger == nil {
			if r.Linger < 0 {
				return f.reply(v, sizes)
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
		case <-over:
			timeUp = true
		case <-linger:
			timeUp = true
		case <-ctx.Done():
			return PollReply{}, context.Cause(ctx)
		}
	}
}

// subscribe begins to watch what can be watched in the run's present state. again: something new is watched.
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

// sizes are the lengths of a run's files at one moment. They are read after the exit record was looked at, so
// that those of an ended run are final.
type sizes struct{ out, err, marks int64 }

func (f *follower) sizes(e *Exit) (s sizes, err error) {
	if e != nil {
		return sizes{e.OutLen, e.ErrLen, e.MarksLen}, nil
	}
	for name, size := range map[string]*int64{fileOut: &s.out, fileErr: &s.err, fileMarks: &s.marks} {
		fi, err := os.Stat(filepath.Join(f.dir, name))
		if err := unlessMissing(err); err != nil {
			return s, err
		}
		if fi != nil {
			*size = fi.Size()
		}
	}
	return s, nil
}

// beyond is how many bytes lie past the request's offsets.
func (s sizes) beyond(r PollRequest) int64 {
	return max(0, s.out-r.OutOff) + max(0, s.err-r.ErrOff) + max(0, s.marks-r.MarksOff)
}

// reply hands out what there is.
func (f *follower) reply(v view, s sizes) (PollReply, error) {
	r := f.request
	p := PollReply{State: v.state, StartedAt: v.started.At, Ending: v.ending, MarksOff: r.MarksOff, OutDropped: v.drops[0], ErrDropped: v.drops[1]}
	if v.exit != nil {
		p.StartedAt, p.OutDropped, p.ErrDropped = v.exit.StartedAt, v.exit.OutDropped, v.exit.ErrDropped
		if r.OutOff > v.exit.OutLen || r.ErrOff > v.exit.ErrLen || r.MarksOff > v.exit.MarksLen {
			return p, errorf(KindBadRequest, "poll %s: an offset is beyond the end", r.Run.Name())
		}
	}
	// If both streams have much, each gets half.
	nOut, nErr := max(0, s.out-r.OutOff), max(0, s.err-r.ErrOff)
	half := int64(r.Max) / 2
	nErr = min(nErr, max(half, int64(r.Max)-nOut))
	nOut = min(nOut, int64(r.Max)-nErr)
	var err error
	if p.Out, err = f.read(fileOut, r.OutOff, nOut); err != nil {
		return p, err
	}
	if p.Err, err = f.read(fileErr, r.ErrOff, nErr); err != nil {
		return p, err
	}
	lines, err := f.read(fileMarks, r.MarksOff, min(max(0, s.marks-r.MarksOff), 4*MaxMarkLine))
	if err != nil {
		return p, err
	}
	var used int64
	p.Marks, used = parseMarks(lines)
	p.MarksOff += used
	if v.exit != nil && r.OutOff+int64(len(p.Out)) == v.exit.OutLen && r.ErrOff+int64(len(p.Err)) == v.exit.ErrLen && p.MarksOff == v.exit.MarksLen {
		p.Exit = v.exit
	}
	return p, nil
}

// read reads n bytes of a run's file, or fewer if it got shorter, which only a hand from outside can do.
func (f *follower) read(name string, off, n int64) ([]byte, error) {
	if n <= 0 {
		return nil, nil
	}
	file, err := os.Open(filepath.Join(f.dir, name))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	p := f.long.get(int(n))
	got, err := file.ReadAt(p, off)
	if err != nil && err != io.EOF {
		return nil, err
	}
	return p[:got], nil
}
