package main

import (
	"fmt"
	"os"
	"path/filepath"

	"jobserver/api"
)

// complete fills in what the command line left to defaults, and checks it.
func (d *daemonParts) complete(e *env) error {
	c := &d.settings
	var err error
	if c.StateDir, err = filepath.Abs(c.StateDir); err != nil {
		return fmt.Errorf("find the state directory: %w", err)
	}
	if d.socket = e.globals.Socket; d.socket == "" {
		d.socket = filepath.Join(c.StateDir, "socket")
	}
	if c.LogDir == "" {
		c.LogDir = filepath.Join(c.StateDir, "logs")
	}
	if c.LogDir, err = filepath.Abs(c.LogDir); err != nil {
		return fmt.Errorf("find the log directory: %w", err)
	}
	if c.MinFree == 0 {
		c.MinFree = defaultMinFree
	}
	// ssh takes "none" for no configuration.
	for _, file := range []struct{ flag, name string }{{"--ssh-config", c.SSHConfig}, {"--identity", c.Identity}} {
		if _, err := os.Stat(file.name); file.name != "" && file.name != "none" && err != nil {
			return api.Errorf(api.Usage, "%s can't be used: %v", file.flag, err).WithHint("without it no machine could be reached")
		}
	}
	return d.completeDriver()
}

// completeDriver finds the driver, if there is one.
func (d *daemonParts) completeDriver() (err error) {
	c := &d.settings
	if c.Driver == "" {
		if len(c.DriverArg) > 0 {
			return api.Errorf(api.Usage, "--driver-arg is given without a driver")
		}
		return nil
	}
	if c.Driver, err = filepath.Abs(c.Driver); err != nil {
		return fmt.Errorf("find the driver: %w", err)
	}
	info, err := os.Stat(c.Driver)
	switch {
	case err != nil:
		return api.Errorf(api.Usage, "the driver can't be used: %v", err).WithHint("give the path of the program that runs your jobs")
	case info.IsDir() || info.Mode()&0o111 == 0:
		return api.Errorf(api.Usage, "the driver %s can't be run", c.Driver).WithHint("make it executable: chmod +x %s", c.Driver)
	}
	return nil
}

// stateMinFree is what has to be free on the state directory's disk for new work: less than what results have to leave,
// as the journal takes little.
func (d *daemonParts) stateMinFree() int64 { return int64(d.settings.MinFree) / 16 }
