package agent

import (
	"bufio"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"jobserver/failpoint"
)

// Main is `jobserver agent [--root DIR] [--dir DIR] [--boot-id-file FILE] [--silence DURATION]`: it
// serves one connection on standard input and output, and returns when its input ends, or the host
// has said nothing for long.
func Main(args []string) int {
	inheritNothing()
	// The machine is there for experiments: what we do must not be felt.
	runtime.GOMAXPROCS(min(4, runtime.NumCPU()))
	debug.SetMemoryLimit(256 << 20)
	flags := flag.NewFlagSet("jobserver agent", flag.ContinueOnError)
	root := flags.String("root", "",
		"keep runs in `DIR` (default: the first that is local, writable and executable of"+
			" $XDG_STATE_HOME/jobserver, ~/.local/state/jobserver, /var/tmp/jobserver-UID)")
	dir := flags.String("dir", "", "begin runs in `DIR` (default: the home directory)")
	bootIDFile := flags.String("boot-id-file",
		failpoint.File("boot-id", "/proc/sys/kernel/random/boot_id"),
		"read the boot id from `FILE`")
	silence := flags.Duration("silence", failpoint.Duration("silence", defaultSilence),
		"end when the host has said nothing for `DURATION`")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	// If our output is a pipe, a longer one costs fewer turns between its ends.
	_, _ = unix.FcntlInt(1, unix.F_SETPIPE_SZ, 1<<20)
	in := patient(0)
	out := os.NewFile(1, "") // as it is, or patient too if both are one socket
	start := func(w *frameWriter) (*agent, error) { return newAgent(w, *root, *dir, *bootIDFile) }
	if err := serve(in, out, start, *silence); err != nil {
		fmt.Fprintf(os.Stderr, "jobserver agent: %v\n", err)
		return 1
	}
	return 0
}

// agent serves one connection.
type agent struct {
	root, bootID, login string
	watch               *watcher
	pool                *pool
	silence             time.Duration
	life                context.Context // ends with the connection
	gpus                func() []GPU    // found once
	unlimited           func() string   // why runs' memory can't be limited; tried once
	keeper              *kept           // of the allocation whose step we are; nil: we are none

	out   *frameWriter
	work  sync.WaitGroup // calls under way, and the children that wait for their end
	mu    sync.Mutex
	calls map[uint32]*serving
	taken *takeover         // nil if the host didn't take the machine over
	begun map[string]*begun // by file
}

// serving is a call under way, on the agent's side.
type serving struct {
	id     uint32
	method byte
	window int // bytes of parts that the host has room for at the most
	out    *frameWriter
	cancel context.CancelFunc

	mu      sync.Mutex
	credit  int  // bytes of parts that the host has room for
	waiting bool // for more of it
	more    chan struct{}
}

// defaultSilence is after which time a host that says nothing is gone. It looks at the machine's
// vital signs each minute, and closes a second connection that it doesn't use.
const defaultSilence = 10 * time.Minute

// errSilent: the host may have lost its power, or a firewall may have forgotten the connection;
// then sshd would keep it, and us, for hours: by itself it hears of that only when it sends
// something.
var errSilent = &Error{Kind: KindClosed,
	Msg: "the host said nothing for so long that the agent took it for gone"}

// patient is one of our standard streams, with deadlines if it is a pipe or a socket. They have
// their price: waiting for the other side takes more turns.
func patient(fd int) *os.File {
	_ = unix.SetNonblock(fd, true) // what can't be so blocks
	return os.NewFile(uintptr(fd), "")
}

func serve(
	in, out *os.File, start func(*frameWriter) (*agent, error), silence time.Duration,
) error {
	// Both are closed: they may be one socket.
	w := &frameWriter{w: out, pipe: out, end: func() { in.Close(); out.Close() }}
	a, err := start(w)
	if err != nil {
		fail := makeFrame(typeFail, 0, encode(asError(err).fields))
		_ = w.write(append(magic[:len(magic):len(magic)], fail...)) // if the host still listens
		return err
	}
	a.silence = silence
	defer a.watch.close()
	defer a.closeBegun()
	ctx, cancel := context.WithCancel(context.Background())
	defer a.work.Wait()
	defer cancel()
	a.life = ctx
	a.work.Go(func() { reapChildren(ctx) })
	defer a.pool.close()
	h := hello{MinVersion: minVersion, MaxVersion: maxVersion, Facts: a.facts()}
	if err := w.write(append(magic[:len(magic):len(magic)],
		makeFrame(typeHello, 0, encode(h.fields))...)); err != nil {
		return err
	}
	r := bufio.NewReaderSize(in, 64<<10)
	for first := true; ; first = false {
		err := a.hear(in, r)
		var f frame
		if err == nil {
			f, err = readFrame(r, maxFrame, freshBuffer)
		}
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = a.handle(ctx, f, first)
		}
		if err != nil {
			// if the host still listens
			_ = w.write(makeFrame(typeFail, 0, encode(asError(err).fields)))
			return err
		}
	}
}

func newAgent(out *frameWriter, root, dir, bootIDFile string) (*agent, error) {
	bootID, err := readFile(bootIDFile, 1024)
	if err != nil {
		return nil, err
	}
	login, err := loginDir(dir)
	if err != nil {
		return nil, err
	}
	if root == "" {
		root, err = chooseRoot()
	} else if root, err = filepath.Abs(root); err == nil {
		err = os.MkdirAll(runsDir(root), 0o700)
	}
	if err != nil {
		return nil, err
	}
	keeper, err := findKeeper()
	if err != nil {
		return nil, err
	}
	return &agent{
		root: root, bootID: strings.TrimSpace(string(bootID)), login: login, keeper: keeper,
		gpus: sync.OnceValue(func() []GPU { return keeper.devices() }),

		unlimited: sync.OnceValue(whyUnlimited),

		watch: newWatcher(), pool: newPool(keeper.starter()), out: out,
		calls: map[uint32]*serving{},
	}, nil
}

// loginDir is where runs begin: in dir, or else at home, wherever the files of the login shell have
// gone since. Where there is no home, as for users whose directory isn't mounted, it is where sshd
// put us.
func loginDir(dir string) (string, error) {
	if dir != "" {
		return filepath.Abs(dir)
	}
	if u, err := user.Current(); err == nil && filepath.IsAbs(u.HomeDir) &&
		unix.Access(u.HomeDir, unix.X_OK) == nil {
		return u.HomeDir, nil
	}
	return os.Getwd()
}

// hear waits for the host's next word, or gives errSilent.
func (a *agent) hear(in *os.File, r *bufio.Reader) error {
	for {
		_ = in.SetReadDeadline(time.Now().Add(a.silence)) // an input without deadlines is a file
		_, err := r.Peek(1)
		switch {
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return nil // reading the frame gives any other error
		case !a.working():
			return errSilent
		}
	}
}

// working tells whether the host waits for something that we do, and not only for news, nor we for
// the host: then it need not say anything.
func (a *agent) working() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range a.calls {
		if s.method != methodPoll && !s.starved() {
			return true
		}
	}
	return false
}

// starved tells whether the call can't go on before the host says something.
func (s *serving) starved() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waiting
}

// frameWriter lets one goroutine at a time write.
type frameWriter struct {
	mu sync.Mutex
	w  io.Writer
	// pipe gives the pipe that w writes to, nil where it isn't one.
	pipe *os.File
	end  func() // ends the connection
}

func (w *frameWriter) write(buf []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, err := w.w.Write(buf)
	return err
}

// handle takes one frame of the host's. An error is one of the connection.
func (a *agent) handle(ctx context.Context, f frame, first bool) error {
	switch {
	case first && f.kind == typeHello:
		if len(f.payload) != 1 || f.payload[0] < minVersion || f.payload[0] > maxVersion {
			return errorf(KindVersion, "the host picked version %d of the protocol, we speak %d "+
				"to %d", f.payload, minVersion, maxVersion)
		}
	case f.kind == typeCall && len(f.payload) > 0:
		return a.begin(ctx, f)
	case f.kind == typeCancel:
		if s := a.serving(f.id); s != nil {
			s.cancel()
		}
	case f.kind == typeCredit && len(f.payload) == 4:
		if s := a.serving(f.id); s != nil {
			s.grant(binary.BigEndian.Uint32(f.payload))
		}
	default:
		return errorf(KindProtocol, "the host sent a frame of type %d and length %d", f.kind,
			len(f.payload))
	}
	return nil
}

func (a *agent) serving(id uint32) *serving {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.calls[id]
}

// begin starts a call's goroutine.
func (a *agent) begin(ctx context.Context, f frame) error {
	ctx, cancel := context.WithCancel(ctx)
	s := &serving{id: f.id, method: f.payload[0], window: window(f.payload[0]), out: a.out,
		cancel: cancel, more: make(chan struct{}, 1)}
	s.credit = s.window
	a.mu.Lock()
	busy, twice := len(a.calls) >= maxCalls, a.calls[f.id] != nil
	if !busy && !twice {
		a.calls[f.id] = s
	}
	a.mu.Unlock()
	if twice {
		cancel()
		return errorf(KindProtocol, "the host used the id %d for two calls", f.id)
	}
	if busy {
		cancel()
		return a.out.write(makeFrame(typeFail, f.id,
			encode(errorf(KindBusy, "more than %d calls at once", maxCalls).fields)))
	}
	a.work.Go(func() {
		defer cancel()
		reply, err := a.call(ctx, s, f.payload[0], f.payload[1:])
		a.mu.Lock()
		delete(a.calls, f.id)
		a.mu.Unlock()
		switch {
		case errors.Is(err, errSuperseded):
			// about the connection
			_ = a.out.write(makeFrame(typeFail, 0, encode(errSuperseded.fields)))
			a.out.end()
			return
		case err != nil:
			reply = makeFrame(typeFail, f.id, encode(asError(err).fields))
		default:
			reply = seal(reply, typeDone, f.id)
		}
		// A host that doesn't read any more has closed our input too: that is where it is noticed.
		_ = a.out.write(reply)
	})
	return nil
}

// call carries a call out. The reply comes in a buffer of newFrame. A panic is this call's error,
// nothing more.
func (a *agent) call(
	ctx context.Context, s *serving, method byte, request []byte,
) (reply []byte, err error) {
	defer func() {
		if r := recover(); r != nil {
			fmt.Fprintf(os.Stderr, "jobserver agent: method %d: %v\n%s", method, r, debug.Stack())
			err = fmt.Errorf("method %d: %v", method, r)
		}
	}()
	switch method {
	case methodPing:
		return newFrame(0), nil
	case methodFacts:
		a.keepLink()
		f := a.facts()
		return replyTo(f.fields), nil
	case methodStart:
		return serveCall(request, (*startRequest).fields,
			func(r *startRequest) (func(*coder), error) {
				results, err := a.startAll(ctx, r.Specs)
				reply := startReply{Results: results}
				return reply.fields, cmp.Or(ctx.Err(), err)
			})
	case methodPrepare:
		return serveCall(request, (*startRequest).fields,
			func(r *startRequest) (func(*coder), error) {
				results, err := a.prepareAll(r.Specs)
				reply := startReply{Results: results}
				return reply.fields, err
			})
	case methodPoll:
		return serveCall(request, (*PollRequest).fields,
			func(r *PollRequest) (func(*coder), error) {
				reply, err := a.poll(ctx, *r, s)
				return reply.fields, err
			})
	case methodControl:
		return serveCall(request, (*controlRequest).fields,
			func(r *controlRequest) (func(*coder), error) {
				return nothing, a.control(r.Run, r.Control)
			})
	case methodSteer:
		return serveCall(request, (*controlRequest).fields,
			func(r *controlRequest) (func(*coder), error) {
				return nothing, a.steer(r.Run, r.Control)
			})
	case methodForget:
		return serveCall(request, (*runsRequest).fields,
			func(r *runsRequest) (func(*coder), error) {
				return nothing, a.forgetAll(ctx, r.Runs, r.Force)
			})
	case methodKill:
		return serveCall(request, (*runsRequest).fields,
			func(r *runsRequest) (func(*coder), error) {
				var errs []error
				for _, run := range r.Runs {
					errs = append(errs, a.kill(ctx, run))
				}
				return nothing, errors.Join(errs...)
			})
	case methodList:
		return serveCall(request, (*listRequest).fields,
			func(r *listRequest) (func(*coder), error) {
				return nothing, a.list(ctx, *r, s)
			})
	case methodManifest:
		return serveCall(request, (*ManifestRequest).fields,
			func(r *ManifestRequest) (func(*coder), error) {
				return nothing, a.manifest(ctx, *r, s)
			})
	case methodFetch:
		return serveCall(request, (*FetchRequest).fields,
			func(r *FetchRequest) (func(*coder), error) {
				return nothing, fetch(ctx, r, s)
			})
	case methodOutput:
		return serveCall(request, (*OutputRequest).fields,
			func(r *OutputRequest) (func(*coder), error) {
				reply, err := a.output(ctx, r, s)
				return reply.fields, err
			})
	case methodTakeOver:
		return serveCall(request, (*takeOverRequest).fields,
			func(r *takeOverRequest) (func(*coder), error) {
				return nothing, a.takeOver(*r)
			})
	case methodCode:
		return serveCall(request, (*codeRequest).fields,
			func(r *codeRequest) (func(*coder), error) {
				reply, err := a.code(r)
				return reply.fields, err
			})
	case methodInput:
		return serveCall(request, (*inputRequest).fields,
			func(r *inputRequest) (func(*coder), error) {
				reply, err := a.input(ctx, r)
				return reply.fields, err
			})
	case methodLay:
		return serveCall(request, (*layRequest).fields,
			func(r *layRequest) (func(*coder), error) {
				reply, err := a.lay(r)
				return reply.fields, err
			})
	}
	return nil, errorf(KindBadRequest, "no method %d", method)
}

func nothing(*coder) {}

func serveCall[R any](
	request []byte, fields func(*R, *coder), do func(*R) (func(*coder), error),
) ([]byte, error) {
	var r R
	if err := decode(request, func(c *coder) { fields(&r, c) }); err != nil {
		return nil, err
	}
	reply, err := do(&r)
	if err != nil {
		return nil, err
	}
	return replyTo(reply), nil
}

// replyTo encodes a reply behind room for a frame's head.
func replyTo(fields func(*coder)) []byte {
	return encode(func(c *coder) {
		c.buf = newFrame(256)
		fields(c)
	})
}

func (s *serving) grant(n uint32) {
	s.mu.Lock()
	s.credit = min(s.credit+int(n), s.window)
	s.mu.Unlock()
	select {
	case s.more <- struct{}{}:
	default:
	}
}

// part sends a piece of the reply, in a buffer of newFrame, as soon as the host has room for it.
// The buffer may be used again afterwards.
func (s *serving) part(ctx context.Context, buf []byte) error {
	if err := s.spend(ctx, len(buf)); err != nil {
		return err
	}
	return s.out.write(seal(buf, typePart, s.id))
}

// spend waits until the host has room for a part of n bytes, with its frame's head.
func (s *serving) spend(ctx context.Context, n int) error {
	for {
		s.mu.Lock()
		ok := s.credit >= n
		if ok {
			s.credit -= n
		}
		s.waiting = !ok
		s.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-s.more:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
