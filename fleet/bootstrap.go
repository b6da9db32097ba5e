package fleet

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"jobserver/agent"
	"jobserver/ssh"
)

// The commands that a machine's login shell is given. They are fixed, so that nothing ever needs
// quoting: what varies comes in-band, as lines of standard input. Within the single quotes stands
// nothing that any shell (sh, fish, csh) would look at: no single quote, no backslash, no
// exclamation mark, no newline; and since some csh take no word of more than 1,024 bytes, they are
// short. They need no more than a POSIX shell with cat, chmod, mkdir and mv; with gzip less is
// sent.
const (
	// launchCommand reads a content hash and the root chosen before (or empty lines), and becomes
	// the agent if a binary of that hash is in one of the candidate roots. A directory that isn't
	// ours is none: in /var/tmp, anybody might have made it. Otherwise it says what the machine is.
	launchCommand = `sh -c 'IFS= read -r h; IFS= read -r R; ` + rootCandidates +
		`for d in "$R" "$a" "$b" "$c"; do f=$d/bin/jobserver-$h; ` +
		`if [ "$d" ] && [ -x "$f" ] && [ -O "$d" ]; then ` +
		`if [ "$R" ]; then exec "$f" agent --root "$R"; fi; exec "$f" agent; fi; done; ` +
		`echo; echo jobserver-has $(uname -sm)'`

	// probeCommand reads the root chosen before (or an empty line) and a word of its own, and
	// tries where a binary can be put: a file of no known format is run by the shell itself,
	// unless the file system forbids it. (rm only tidies up.)
	probeCommand = `sh -c 'umask 077; IFS= read -r R; IFS= read -r w; ` + rootCandidates +
		`echo; for d in "$R" "$a" "$b" "$c"; do t=$d/bin/.try-$w; if [ -z "$d" ]; then continue; fi; ` +
		`if mkdir -p "$d/bin" && [ -O "$d" ] && echo : >"$t" && chmod 700 "$t"; then ` +
		`if "$t"; then echo jobserver-root ok "$d"; else echo jobserver-root noexec "$d"; fi; rm -f "$t"; ` +
		`else echo jobserver-root unwritable "$d"; fi; done; ` +
		`if command -v gzip >/dev/null; then echo jobserver-gzip; fi; echo jobserver-end'`

	rootCandidates = `u=$UID; if [ -z "$u" ]; then while read -r k v x; do if [ "$k" = Uid: ]; then u=$v; fi; ` +
		`done </proc/self/status; fi; a=; if [ "$XDG_STATE_HOME" ]; then a=$XDG_STATE_HOME/jobserver; fi; ` +
		`b=; if [ "$HOME" ]; then b=$HOME/.local/state/jobserver; fi; c=/var/tmp/jobserver-$u; `

	// uploadCommand reads a path, and then the file's content up to the end. A connection that is
	// cut ends the content too, hence the name is only given by the next command.
	uploadCommand = `sh -c 'umask 077; trap "" HUP PIPE; IFS= read -r t; if cat ` + andKeep

	// unpackCommand is uploadCommand for compressed content. gzip checks length and checksum.
	unpackCommand = `sh -c 'umask 077; trap "" HUP PIPE; IFS= read -r t; if gzip -dc ` + andKeep

	// andKeep keeps what came if somebody hears of it. What was cut is removed: over a link that
	// never lasts for an upload there is no agent who would do that.
	andKeep = `>"$t" && chmod 700 "$t" && echo && echo jobserver-got; then exit 0; fi; ` +
		`rm -f "$t"; exit 1'`

	// placeCommand reads a path and the name that it is moved to.
	placeCommand = `sh -c 'IFS= read -r t; IFS= read -r f; mv -f "$t" "$f" && echo && echo jobserver-placed'`
)

// answerTime is how long a login shell and its rc files may take until the agent answers, or a
// command of ours says nothing.
const answerTime = time.Minute

// installError says that a machine can't run the agent until somebody changes something there. What
// may pass by itself is none.
type installError struct {
	Reason, Advice string
}

func (e *installError) Error() string { return e.Reason }

// Final says so to ssh.IsFinal.
func (e *installError) Final() bool { return true }

// Hint is the user's next step.
func (e *installError) Hint() string { return e.Advice }

// installer puts the agent on a machine and starts it there.
type installer struct {
	conn   ssh.Conn
	builds *builds
	unique string // a part of temporary names, so that installations never share one

	patience time.Duration // instead of answerTime, for commands of ours
}

// start runs the agent on the connection: at once if it is there,
// else after it was sent. root is "" on the first connection ever.
func (in *installer) start(ctx context.Context, root string) (*agent.Client, error) {
	own, err := in.builds.own()
	if err != nil {
		return nil, err
	}
	client, said, err := in.launch(ctx, own.hash, root)
	if err == nil || !errors.Is(err, agent.ErrNoAgent) || ctx.Err() != nil {
		return client, err
	}
	uname, has := answer(said, "jobserver-has")
	if !has {
		// Something of that name is there but doesn't run: on a home that is shared with machines
		// of another kind, or after a disk went bad.
		_, said, _ = in.launch(ctx, "", "")
		if uname, has = answer(said, "jobserver-has"); !has {
			return nil, err
		}
	}
	goos, goarch, err := goTarget(uname)
	if err != nil {
		return nil, err
	}
	b, err := in.builds.get(goos, goarch)
	if err != nil {
		return nil, err
	}
	if b != own {
		if client, _, err = in.launch(ctx, b.hash, root); err == nil ||
			!errors.Is(err, agent.ErrNoAgent) {
			return client, err
		}
	}
	if err := in.install(ctx, b, root); err != nil {
		return nil, err
	}
	client, _, err = in.launch(ctx, b.hash, root)
	if errors.Is(err, agent.ErrNoAgent) {
		return nil, fmt.Errorf("the agent was put on the machine (%s/%s) but doesn't answer: %w; "+
			"run it there by hand: ROOT/bin/jobserver-%s… agent",
			goos, goarch, err, b.hash[:12])
	}
	return client, err
}

// launch tries to start the agent; said is what came instead.
func (in *installer) launch(
	ctx context.Context, hash, root string,
) (c *agent.Client, said string, err error) {
	limit := cmp.Or(in.patience, answerTime)
	ctx, cancel := context.WithTimeoutCause(ctx, limit,
		fmt.Errorf("the login gave no answer within %v", limit))
	defer cancel()
	s, err := in.conn.Exec(ctx, launchCommand)
	if err != nil {
		return nil, "", err
	}
	// sshd may take no input: closing the stream doesn't end a write then, the connection's end
	// does.
	stop := context.AfterFunc(ctx, func() { in.conn.Close() })
	_, err = io.WriteString(s, hash+"\n"+root+"\n")
	if !stop() && err != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		s.Close()
		return nil, "", err
	}
	heard := &eavesdropper{ReadWriteCloser: s}
	if c, err = agent.Connect(ctx, heard); err == nil {
		heard.enough.Store(true)
		return c, "", nil
	}
	if lost := in.conn.Err(); lost != nil {
		return nil, "", lost
	}
	if text := strings.TrimSpace(s.Stderr()); text != "" {
		err = fmt.Errorf("%w: %s", err, text)
	}
	return nil, heard.heard.String(), err
}

// eavesdropper keeps the beginning of what is read, for the case that it is no agent who speaks.
type eavesdropper struct {
	io.ReadWriteCloser
	heard  bytes.Buffer // the reader's
	deaf   bool         // the reader's
	enough atomic.Bool
}

func (e *eavesdropper) Read(p []byte) (int, error) {
	n, err := e.ReadWriteCloser.Read(p)
	switch {
	case e.deaf:
	case e.enough.Load():
		e.heard, e.deaf = bytes.Buffer{}, true
	default:
		e.heard.Write(p[:n])
		e.deaf = e.heard.Len() > 64<<10
	}
	return n, err
}

// answer finds the line that begins with word in what a script printed, and returns the rest of
// that line.
func answer(said, word string) (rest string, ok bool) {
	for line := range strings.Lines(said) {
		if rest, ok = strings.CutPrefix(strings.TrimRight(line, "\r\n"), word); ok {
			return strings.TrimSpace(rest), true
		}
	}
	return "", false
}

// install sends a binary to the first root that can hold it.
func (in *installer) install(ctx context.Context, b *build, root string) error {
	dir, unpacks, err := in.probe(ctx, root)
	if err != nil {
		return err
	}
	name := dir + "/bin/jobserver-" + b.hash
	temp := dir + "/bin/.new-" + in.unique
	if err := in.send(ctx, b, temp, unpacks); err != nil {
		return err
	}
	said, err := in.run(ctx, placeCommand, strings.NewReader(temp+"\n"+name+"\n"))
	if err != nil || !answered(said, "jobserver-placed") {
		return fmt.Errorf("rename the agent to %s: %w", name, in.reason(err))
	}
	return nil
}

// send writes a binary to a file of the machine: compressed if there is what unpacks it, and as it
// is if that has failed on a connection that lives. A gzip may be there and not work.
func (in *installer) send(ctx context.Context, b *build, path string, unpacks bool) error {
	if unpacks {
		if packed, err := b.gzip(); err == nil {
			input := io.MultiReader(strings.NewReader(path+"\n"), bytes.NewReader(packed))
			said, err := in.run(ctx, unpackCommand, input)
			if err == nil && answered(said, "jobserver-got") {
				return nil
			}
			if ctx.Err() != nil || in.conn.Err() != nil {
				return fmt.Errorf("send the agent (%d bytes compressed) to %s: %w", len(packed),
					path, in.reason(err))
			}
		}
	}
	content, err := b.content()
	if err != nil {
		return fmt.Errorf("read the agent: %w", err)
	}
	said, err := in.run(ctx, uploadCommand, io.MultiReader(strings.NewReader(path+"\n"), content))
	if err != nil || !answered(said, "jobserver-got") {
		return fmt.Errorf("send the agent (%d bytes) to %s: %w", b.size, path, in.reason(err))
	}
	return nil
}

// probe finds the first root where a program can be written and run, and whether the machine has
// gzip.
func (in *installer) probe(ctx context.Context, root string) (dir string, unpacks bool, err error) {
	said, err := in.run(ctx, probeCommand, strings.NewReader(root+"\n"+in.unique+"\n"))
	if err != nil {
		return "", false, fmt.Errorf("look for a place for the agent: %w", in.reason(err))
	}
	var tried []string
	noexec := 0
	for line := range strings.Lines(said) {
		rest, ok := strings.CutPrefix(strings.TrimRight(line, "\r\n"), "jobserver-root ")
		if !ok {
			continue
		}
		switch status, dir, _ := strings.Cut(rest, " "); status {
		case "ok":
			return dir, answered(said, "jobserver-gzip"), nil
		case "noexec":
			noexec++
			tried = append(tried, dir+" is mounted noexec")
		default:
			tried = append(tried, dir+" is not writable")
		}
	}
	reason, advice := "no place for the agent: "+strings.Join(tried, ", "),
		"set XDG_STATE_HOME on the machine to a local directory that allows programs"
	if noexec == 0 || noexec < len(tried) {
		// a disk may be full for a moment, or a home not mounted yet
		return "", false, errors.New(reason + "; if that doesn't change by itself, " + advice)
	}
	return "", false, &installError{Reason: reason, Advice: advice}
}

// inputWindow is how much input a machine takes ahead, in bytes: a channel's window. Nothing says
// when that has arrived.
const inputWindow = 2 << 20

// run runs a command to its end and returns what it printed. It is given up, and the connection
// with it, when the machine has taken none of the input for a while, or must have had all of it and
// doesn't come to its end: after a window's worth, three times as long, which are 12 KiB/s at the
// least.
func (in *installer) run(ctx context.Context, command string, input io.Reader) (string, error) {
	limit := cmp.Or(in.patience, answerTime)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(limit, func() {
		cancel(fmt.Errorf("nothing was heard from the machine for %v", limit))
	})
	defer silence.Stop()
	sent := 0
	said, err := in.converse(ctx, command, watched{input, func(n int) {
		sent += n
		silence.Reset(limit + 2*limit*time.Duration(min(sent, inputWindow))/inputWindow)
	}})
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return said, err
}

// watched is a Reader that says how much was read from it.
type watched struct {
	io.Reader
	read func(n int)
}

func (w watched) Read(p []byte) (int, error) {
	n, err := w.Reader.Read(p)
	w.read(n)
	return n, err
}

// converse is run without its limit.
func (in *installer) converse(
	ctx context.Context, command string, input io.Reader,
) (string, error) {
	s, err := in.conn.Exec(ctx, command)
	if err != nil {
		return "", err
	}
	defer s.Close()
	// Closing the stream isn't enough: sshd keeps it as long as it has input that the command
	// doesn't take.
	stop := context.AfterFunc(ctx, func() { in.conn.Close() })
	defer stop()
	// A command that ends before it has taken its input, on a full disk say, tells why itself.
	_, sendErr := io.Copy(s, input)
	if err := s.CloseWrite(); sendErr == nil {
		sendErr = err
	}
	said, err := io.ReadAll(io.LimitReader(s, 64<<10))
	if err != nil {
		return "", cmp.Or(sendErr, err)
	}
	if err := s.Wait(); err != nil {
		return string(said), err
	}
	return string(said), sendErr
}

func answered(said, word string) bool {
	_, ok := answer(said, word)
	return ok
}

// reason is why a command didn't confirm what it did.
func (in *installer) reason(err error) error {
	if lost := in.conn.Err(); lost != nil && !errors.Is(lost, ssh.ErrClosed) {
		return lost
	}
	if err == nil {
		return errors.New("the machine didn't confirm it")
	}
	return err
}
