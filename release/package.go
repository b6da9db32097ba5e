package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// nfpm makes packages of a description; it is pinned here, as nothing else needs the hundred
// modules behind it.
const nfpm = "github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.43.0"

// packages makes the .deb and the .rpm of a processor.
func (r *release) packages(ctx context.Context, goarch, work string, files []file) error {
	description := map[string]any{
		"name":           "jobserver",
		"arch":           goarch,
		"platform":       "linux",
		"version":        r.version,
		"version_schema": "semver",
		"section":        "science",
		"priority":       "optional",
		"maintainer":     "jobserver",
		"description": "Runs experiments on a pool of machines\n" +
			"A daemon that schedules jobs over machines that speak SSH, its client,\n" +
			"and the agent that it puts on them: one static program.",
		"mtime": r.time.Format(time.RFC3339),
		"rpm": map[string]any{
			"buildhost": "jobserver",
			"summary":   "Runs experiments on a pool of machines",
		},
		"deb": map[string]any{"compression": "gzip"}, // xz takes 12 s to save a tenth
	}
	var list []map[string]any
	for i, f := range byName(files) {
		if f.install == "" {
			continue
		}
		source := filepath.Join(work, fmt.Sprintf("%02d", i))
		if err := os.WriteFile(source, f.content, os.FileMode(f.mode)); err != nil {
			return err
		}
		list = append(list, map[string]any{
			"src": source,
			"dst": f.install,
			"file_info": map[string]any{
				"mode":  f.mode,
				"owner": "root",
				"group": "root",
				"mtime": r.time.Format(time.RFC3339),
			},
		})
	}
	description["contents"] = list
	text, err := json.Marshal(description) // which is YAML as well
	if err != nil {
		return err
	}
	config := filepath.Join(work, "nfpm.yaml")
	if err := os.WriteFile(config, text, 0o600); err != nil {
		return err
	}
	for _, kind := range []string{"deb", "rpm"} {
		name := "jobserver-" + r.version + "-linux-" + goarch + "." + kind
		cmd := exec.CommandContext(
			ctx,
			"go",
			"run",
			nfpm,
			"package",
			"--config",
			config,
			"--packager",
			kind,
			"--target",
			filepath.Join(r.dist, name),
		)
		cmd.Env = append(
			os.Environ(),
			"GOFLAGS=-mod=mod",
			fmt.Sprintf("SOURCE_DATE_EPOCH=%d", r.time.Unix()),
		)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("make the %s: %w: %s", kind, err, out)
		}
		r.made = append(r.made, name)
	}
	return nil
}

func byName(files []file) []file {
	sorted := slices.Clone(files)
	slices.SortFunc(sorted, func(a, b file) int { return strings.Compare(a.name, b.name) })
	return sorted
}
