package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// clients are the systems that only the client is for.
var clients = []string{"darwin/amd64", "darwin/arm64"}

// release is one version on its way into a directory.
type release struct {
	version string
	commit  string
	time    time.Time // of all files
	dist    string
	made    []string // names of what is in dist
}

// makeRelease makes the archives and packages of the targets, and what describes them.
func makeRelease(ctx context.Context, dist string, targets []string) error {
	r, err := newRelease(ctx, dist)
	if err != nil {
		return err
	}
	if err := makeAgents(ctx, "slim"); err != nil {
		return err
	}
	for _, target := range targets {
		if err := r.target(ctx, target); err != nil {
			return fmt.Errorf("%s: %w", target, err)
		}
	}
	return r.checksums()
}

// newRelease finds out what is released: the commit that is checked out.
func newRelease(ctx context.Context, dist string) (*release, error) {
	r := &release{dist: dist}
	var err error
	if r.commit, err = git(ctx, "rev-parse", "HEAD"); err != nil {
		return nil, err
	}
	if dirty, err := git(ctx, "status", "--porcelain"); err != nil || dirty != "" {
		return nil, fmt.Errorf(
			"commit or remove these first, or nobody could make the same again: %s %w",
			dirty,
			err,
		)
	}
	epoch := os.Getenv("SOURCE_DATE_EPOCH")
	if epoch == "" {
		if epoch, err = git(ctx, "log", "-1", "--format=%ct"); err != nil {
			return nil, err
		}
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	r.time = time.Unix(seconds, 0).UTC()
	if r.version, err = findVersion(ctx); err != nil {
		return nil, err
	}
	return r, os.MkdirAll(dist, 0o755)
}

// findVersion is the tag of the commit, or what comes after the newest version of the changelog.
func findVersion(ctx context.Context) (string, error) {
	if tag, err := git(
		ctx,
		"describe",
		"--exact-match",
		"--match",
		"v[0-9]*",
		"--tags",
	); err == nil {
		return strings.TrimPrefix(tag, "v"), nil
	}
	changes, err := os.ReadFile("CHANGELOG.md")
	if err != nil {
		return "", err
	}
	m := regexp.MustCompile(`(?m)^## (\d+)\.(\d+)\.\d+`).FindSubmatch(changes)
	if m == nil {
		return "", fmt.Errorf("CHANGELOG.md has no version")
	}
	minor, err := strconv.Atoi(string(m[2]))
	if err != nil {
		return "", err
	}
	count, err := git(ctx, "rev-list", "--count", "HEAD")
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s.%d.0-dev.%s", m[1], minor+1, count), nil
}

// target makes the archive of one system and processor, and its packages.
func (r *release) target(ctx context.Context, target string) error {
	work, err := os.MkdirTemp("", "jobserver-release-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	goos, goarch, _ := strings.Cut(target, "/")
	client := slices.Contains(clients, target)
	program := filepath.Join(work, "jobserver")
	tags := "-tags=slim"
	if client {
		tags = "-tags="
	}
	if err := goBuild(ctx, target, program, "jobserver", tags, r.versionFlag()); err != nil {
		return err
	}
	files, err := contents(program, client)
	if err != nil {
		return err
	}
	name := "jobserver-" + r.version + "-" + goos + "-" + goarch
	if client {
		name = "jobserver-client-" + r.version + "-" + goos + "-" + goarch
	}
	archive, err := tarball(name, files, r.time)
	if err != nil {
		return err
	}
	if err := r.write(name+".tar.gz", archive); err != nil {
		return err
	}
	bill, err := billOfMaterials(program, name, r)
	if err != nil {
		return err
	}
	if err := r.write(name+".cdx.json", bill); err != nil || client {
		return err
	}
	return r.packages(ctx, goarch, work, files)
}

// versionFlag tells the program its version.
func (r *release) versionFlag() string {
	return "-ldflags=-s -w -buildid= -X jobserver/version.number=" + r.version +
		" -X jobserver/version.commit=" + r.commit + " -X jobserver/version.date=" +
		r.time.Format(time.RFC3339)
}

func (r *release) write(name string, content []byte) error {
	r.made = append(r.made, name)
	return os.WriteFile(filepath.Join(r.dist, name), content, 0o644)
}

// checksums writes SHA256SUMS, as `sha256sum -c` reads it.
func (r *release) checksums() error {
	slices.Sort(r.made)
	var sums bytes.Buffer
	for _, name := range r.made {
		content, err := os.ReadFile(filepath.Join(r.dist, name))
		if err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(content), name)
	}
	return os.WriteFile(filepath.Join(r.dist, "SHA256SUMS"), sums.Bytes(), 0o644)
}

func git(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, "git", args...).Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %w", strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}
