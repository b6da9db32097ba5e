package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"
	"gopkg.in/yaml.v3"

	"jobserver/api"
	"jobserver/userfile"
)

// config is the user's file, $XDG_CONFIG_HOME/jobserver/config.yaml. It holds defaults of the
// global flags, by their names, and what commands remember.
type config struct {
	Socket string `yaml:"socket,omitempty"`
	Host   string `yaml:"host,omitempty"`
	Output string `yaml:"output,omitempty"`
	Color  string `yaml:"color,omitempty"`
	Quiet  bool   `yaml:"quiet,omitempty"`
	Line   uint64 `yaml:"line,omitempty"` // job ls draws a line below this job
}

// UnmarshalYAML refuses a key that isn't known and a value that doesn't fit, each by its line.
func (c *config) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: settings are wanted, like `host: lab`", node.Line)
	}
	settings := map[string]any{
		"socket": &c.Socket, "host": &c.Host, "output": &c.Output, "color": &c.Color,
		"quiet": &c.Quiet, "line": &c.Line,
	}
	for pair := range slices.Chunk(node.Content, 2) {
		key, value := pair[0], pair[1]
		setting, ok := settings[key.Value]
		if !ok {
			return fmt.Errorf("line %d: there is no setting %q", key.Line, key.Value)
		}
		if value.Decode(setting) != nil {
			kind := "a text"
			switch setting.(type) {
			case *bool:
				kind = "true or false"
			case *uint64:
				kind = "a number"
			}
			return fmt.Errorf("line %d: %s has to be %s", value.Line, key.Value, kind)
		}
	}
	return nil
}

// configPath is where the file is, whether or not it exists; "" when there is no home.
func (e *Env) configPath() string {
	if base := e.Getenv("XDG_CONFIG_HOME"); filepath.IsAbs(base) {
		return filepath.Join(base, "jobserver", "config.yaml")
	}
	if home := e.Getenv("HOME"); home != "" {
		return filepath.Join(home, ".config", "jobserver", "config.yaml")
	}
	return ""
}

// loadConfig reads the file. None is an empty one; one that can't be read or has unknown keys is an
// error, since a default that silently isn't there would send commands to another daemon.
func (e *Env) loadConfig() error {
	path := e.configPath()
	if path == "" {
		return nil
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the config file: %w", err)
	}
	var read config
	if err := yaml.Unmarshal(text, &read); err != nil {
		return api.Errorf(api.Usage, "read the config file %s: %s", path,
			strings.TrimPrefix(err.Error(), "yaml: ")).
			WithHint("its settings are socket, host, output, color, quiet and line")
	}
	e.Config = read
	return nil
}

// SaveLine remembers below which job `job ls` draws a line; 0 is none. All other entries of the
// file stay, comments too, and where it is a link, as those that are kept in a repository are, it
// stays one. A file that can't be read isn't written.
func (e *Env) SaveLine(line uint64) error {
	if e.configErr != nil {
		return e.configErr
	}
	path := e.configPath()
	if path == "" {
		return api.Errorf(api.Usage, "save the config file: HOME is not set")
	}
	e.Config.Line = line
	before, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("save the config file: %w", err)
	}
	after, err := withLine(before, line)
	if err == nil && !bytes.Equal(before, after) {
		err = userfile.Replace(path, after, 0o600, 0o700)
	}
	if err != nil {
		return fmt.Errorf("save the config file: %w", err)
	}
	return nil
}

// withLine is the text of a config file with another line.
func withLine(text []byte, line uint64) ([]byte, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, err
	}
	value := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: strconv.FormatUint(line, 10)}
	if len(doc.Content) == 0 || doc.Content[0].Kind != yaml.MappingNode &&
		doc.Content[0].Value == "" {
		// it says nothing, but may have comments
		if line == 0 {
			return text, nil
		}
		if len(text) > 0 && !bytes.HasSuffix(text, []byte("\n")) {
			text = append(text, '\n')
		}
		return fmt.Appendf(text, "line: %s\n", value.Value), nil
	}
	entries := doc.Content[0]
	if entries.Kind != yaml.MappingNode {
		// a null in words: anything else was refused when it was read
		entries.Kind, entries.Tag, entries.Value = yaml.MappingNode, "!!map", ""
	}
	at := -1 // of the value
	for i := 0; i < len(entries.Content); i += 2 {
		if entries.Content[i].Value == "line" {
			at = i + 1
		}
	}
	switch {
	case at >= 0: // also for none: a comment on it would go with it
		value.LineComment = entries.Content[at].LineComment
		entries.Content[at] = value
	case line != 0:
		entries.Content = append(entries.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: "line"},
			value)
	default:
		return text, nil
	}
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := encoder.Encode(&doc); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// configResolver gives kong the file's defaults for flags that neither the command line nor the
// environment sets.
type configResolver struct{ e *Env }

// Validate has nothing to check: loadConfig has.
func (configResolver) Validate(*kong.Application) error { return nil }

// Resolve is the file's value of a global flag, or nil. Where the daemon is, findDaemon settles.
func (r configResolver) Resolve(_ *kong.Context, parent *kong.Path, flag *kong.Flag) (any, error) {
	if parent.App == nil {
		return nil, nil
	}
	for _, name := range flag.Envs {
		if r.e.Getenv(name) != "" {
			return nil, nil
		}
	}
	value := ""
	switch flag.Name {
	case "output":
		value = r.e.Config.Output
	case "color":
		value = r.e.Config.Color
	case "quiet":
		if r.e.Config.Quiet {
			value = strconv.FormatBool(true)
		}
	}
	if strings.TrimSpace(value) == "" {
		return nil, nil
	}
	return value, nil
}
