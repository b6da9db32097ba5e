package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// machines are the kinds of machines that a release has agents for.
var machines = []string{"linux/amd64", "linux/arm64", "linux/riscv64"}

// makeAgents builds the slim agents and writes them, compressed, into a directory: package slim's
// own, or a test's.
func makeAgents(ctx context.Context, dir string) error {
	work, err := os.MkdirTemp("", "jobserver-agents-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	for _, target := range machines {
		name := "jobserver-" + strings.ReplaceAll(target, "/", "-")
		program := filepath.Join(work, name)
		if err := goBuild(ctx, target, program, "jobserver/slim/program", short...); err != nil {
			return err
		}
		content, err := os.ReadFile(program)
		if err != nil {
			return err
		}
		packed, err := compress(content)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name+".gz"), packed, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// short makes the agent's way to a machine shorter by 7 %: functions are called, not copied into
// their callers, but for those of package runtime. What moves many bytes is the kernel's, or
// written for the processor.
var short = []string{
	"-gcflags=all=-l", "-gcflags=runtime/...=",
}

// compress packs as tightly as gzip can, without name and time: the same content gives the same
// bytes.
func compress(content []byte) ([]byte, error) {
	var packed bytes.Buffer
	z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := z.Write(content); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return packed.Bytes(), nil
}

// goBuild builds a program for a target so that nothing but source, flags and Go's version is in
// it: no path, no time, no build id, no setting of the environment.
func goBuild(ctx context.Context, target, output, program string, flags ...string) error {
	goos, goarch, _ := strings.Cut(target, "/")
	args := append(
		[]string{"build", "-trimpath", "-ldflags=-s -w -buildid=", "-o", output},
		flags...)
	cmd := exec.CommandContext(ctx, "go", append(args, program)...)
	cmd.Env = append(
		os.Environ(),
		"GOOS="+goos,
		"GOARCH="+goarch,
		"CGO_ENABLED=0",
		"GOFLAGS=-buildvcs=false",
		"GOAMD64=v1",
		"GOARM64=v8.0",
		"GORISCV64=rva20u64",
		"GOEXPERIMENT=",
		"GOFIPS140=off",
	)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build %s for %s: %w", program, target, err)
	}
	return nil
}
