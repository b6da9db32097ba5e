package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// toCommand runs a command line for each group, with the message as JSON on its standard input. A
// run that fails is logged and not repeated: nobody knows what it has done.
func (n *Notifier) toCommand(
	ctx context.Context, line string, groups []*group,
) (refused, rest []*group, _ error) {
	for i, g := range groups {
		body, err := json.Marshal(g.message(n.opt.Host))
		if err == nil {
			err = n.runCommand(ctx, line, append(body, '\n'))
		}
		if err != nil {
			return split(groups[i:], 1, &postError{permanent: true, err: err})
		}
	}
	return nil, nil, nil
}

// runCommand runs one command line in a process group of its own, which is killed when the time is
// up.
func (n *Notifier) runCommand(ctx context.Context, line string, input []byte) error {
	ctx, cancel := context.WithTimeoutCause(ctx, n.opt.CommandTimeout,
		fmt.Errorf("it was killed, as it had not ended after %s", n.opt.CommandTimeout))
	defer cancel()
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", line)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second // for children that left the group and hold the pipes
	cmd.Stdin = bytes.NewReader(input)
	var said tail
	cmd.Stdout, cmd.Stderr = &said, &said
	err := cmd.Run()
	if err == nil || errors.Is(err, exec.ErrWaitDelay) && ctx.Err() == nil {
		return nil
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if text := n.end(&said); text != "" {
		return fmt.Errorf("run %q: %w: %s", line, err, text)
	}
	return fmt.Errorf("run %q: %w", line, err)
}

// end is the last of what a command said, without secrets.
func (n *Notifier) end(said *tail) string {
	text := said.String()
	if len(text) == saidBytes {
		text = "…" + text
	}
	t := n.current()
	text = t.hidden.Redact(strings.TrimSpace(text))
	if cut := len(text) - 300; cut > 0 {
		text = "…" + strings.TrimSpace(strings.ToValidUTF8(text[cut:], ""))
	}
	return text
}

// tail keeps the last bytes that are written to it.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if n := len(t.b) - saidBytes; n > 0 {
		t.b = append(t.b[:0], t.b[n:]...)
	}
	return len(p), nil
}

func (t *tail) String() string { return string(t.b) }
