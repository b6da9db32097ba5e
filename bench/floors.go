package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"jobserver/ssh"
)

// A floor is what ours can't go below as long as it is made of what it is made of: the same work
// with all else left out, measured in the same turns. Where a target isn't reached, it tells how
// much of that is ours.

// buildHelper builds a program of the bench's own, as "floor", with the flags of a release.
func (w *world) buildHelper(ctx context.Context, program string) (string, error) {
	name, room := w.path(program), "jobserver/bench/"+program
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", name,
		room)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", room, err, out)
	}
	return name, nil
}

// connectAll connects to machines as the daemon does, and runs `true` on each by a session of sshd:
// no agent, no supervisor, no record.
func connectAll(ctx context.Context, dialer *ssh.Dialer, machines []string) (time.Duration, error) {
	return timed(func() error {
		var all errgroup.Group
		for _, addr := range machines {
			all.Go(func() error {
				conn, err := dialer.Dial(ctx, addr)
				if err != nil {
					return err
				}
				defer conn.Close()
				stream, err := conn.Exec(ctx, "true")
				if err != nil {
					return err
				}
				return stream.Wait()
			})
		}
		return all.Wait()
	})
}

// readTo reads what a command prints, n bytes, through our transport, and gives it to sink; then
// finish has its turn.
func (w *world) readTo(
	ctx context.Context, command string, n int64, sink io.Writer, finish func() error,
) (time.Duration, error) {
	conn, err := ssh.NewDialer(ssh.Options{ConfigFile: w.user.ConfigFile}).Dial(ctx, "m1")
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	return timed(func() error {
		stream, err := conn.Exec(ctx, command)
		if err != nil {
			return err
		}
		got, err := io.CopyBuffer(struct{ io.Writer }{sink}, stream, make([]byte, 256<<10))
		if err == nil && got != n {
			err = fmt.Errorf("%d bytes came of %d", got, n)
		}
		if err != nil {
			return err
		}
		return errors.Join(stream.Wait(), finish())
	})
}

// keptResult is what line 10 can't do without: the bytes of a file, hashed and on the disk.
func (w *world) keptResult(
	ctx context.Context, from string,
) func(dest string) (time.Duration, string, error) {
	return w.kept(ctx, func(string) string {
		return "cat " + from
	}, func(f *os.File) (io.Writer, func() error) {
		return io.MultiWriter(sha256.New(), f), f.Sync
	})
}

// keptLog is what line 12 can't do without: what a command prints, in a file on its machine and in
// one on this host.
func (w *world) keptLog(
	ctx context.Context, from string,
) func(dest string) (time.Duration, string, error) {
	return w.kept(ctx, func(dest string) string {
		return fmt.Sprintf("cat %s | tee %s", from, filepath.Join(dest, "machine"))
	},
		func(f *os.File) (io.Writer, func() error) { return f, func() error { return nil } })
}

// kept reads what a command prints through our transport, into a file: through what sink gives,
// until that is finished.
func (w *world) kept(
	ctx context.Context, command func(dest string) string,
	sink func(*os.File) (io.Writer, func() error),
) func(dest string) (time.Duration, string, error) {
	return func(dest string) (took time.Duration, to string, err error) {
		to = filepath.Join(dest, "kept")
		f, err := os.Create(to)
		if err != nil {
			return 0, "", err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		writer, finish := sink(f)
		took, err = w.readTo(ctx, command(dest), gib, writer, finish)
		return took, to, err
	}
}

// floorNote says what is left when all else is left out, and how that compares.
func floorNote(what string, floor samples, ratio float64) string {
	return fmt.Sprintf("%s: %s, %.2f×", what, show(floor.median()), ratio)
}

// over divides the medians.
func (s samples) over(t samples) float64 { return float64(s.median()) / float64(t.median()) }
