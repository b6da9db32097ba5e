package slurmtest

import (
	"os"
	"strings"
	"testing"
)

// TestNothingIsLeft runs a job under each way of tracking processes, ends the cluster under it, and
// looks what is left.
func TestNothingIsLeft(t *testing.T) {
	Require(t)
	for name, opts := range map[string][]Option{"linuxproc": nil, "cgroup": {Cgroup()}} {
		t.Run(name, func(t *testing.T) {
			if name == "cgroup" && !HasCgroup() {
				t.Log("no cgroups of version 1 here")
				return
			}
			t.Parallel()
			c, err := New(append(opts, Nodes(1))...)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Run("sbatch", "-o", "/dev/null", "--wrap", "setsid sleep 1000 & sleep "+
				"1000"); err != nil {
				t.Error(err)
			}
			if err := c.await(c.Controller, func() bool {
				out, err := c.Run("squeue", "-h", "-t", "running")
				return err == nil && strings.Contains(out, "n1")
			}); err != nil {
				t.Error(err)
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
			if left, err := c.left(); err != nil || len(left) > 0 {
				t.Errorf("processes %v are left, %v", left, err)
			}
			if _, err := os.Stat(c.dir); err == nil {
				t.Errorf("%s is left", c.dir)
			}
		})
	}
}
