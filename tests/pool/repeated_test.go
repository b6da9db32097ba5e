package pool_test

import (
	"slices"
	"testing"

	"jobserver/api"
	"jobserver/daemontest"
)

// TestRepeated asks for changes a second time, as a client does that has lost its connection before
// the answer came, also to another daemon. Nothing is done twice, and the answer says that it was
// done.
func TestRepeated(t *testing.T) {
	d := daemontest.New(t)
	d.J(t, "machine", "add", "local", "x")
	d.J(t, "machine", "add", "local:other", "w")
	d.J(t, "job", "add", "y", "true", "-x", "3")
	d.J(t, "matrix", "add", "y", "echo {A}", t.TempDir(), "A=1,2", "--name", "m")
	client, err := d.Client(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { client.Close() }()
	id := func(id string) api.Mutation { return api.Mutation{RequestID: id} }
	machines := map[string]api.MachineSelector{"named": {Addrs: []string{"local"}},
		"of a class": {Classes: []string{"x"}}}
	ask := func(name string, repeated bool) {
		t.Helper()
		canceled, err := api.Call[api.ChangeJobsReply](t.Context(), client, api.ChangeJobs,
			&api.ChangeJobsArgs{Mutation: id("change"), Op: api.OpCancel,
				Selectors: []string{"1..3"}})
		if err != nil || canceled.Repeated != repeated || !repeated && canceled.Changed != 3 {
			t.Errorf("%s: jobs: %+v, %v", name, canceled, err)
		}
		matrix, err := api.Call[api.ChangeMatrixReply](t.Context(), client, "ChangeMatrix",
			&api.ChangeMatrixArgs{Mutation: id("matrix"), Op: api.MatrixHold, Matrix: "m"})
		if err != nil || matrix.Repeated != repeated || matrix.Matrix.Name != "m" ||
			matrix.Matrix.Held != repeated {
			t.Errorf("%s: a matrix: %+v, %v", name, matrix, err)
		}
		again, err := api.Call[api.ChangeMatrixReply](t.Context(), client, "ChangeMatrix",
			&api.ChangeMatrixArgs{Mutation: id("forget"), Op: api.MatrixForget, Matrix: "m"})
		if err != nil || again.Repeated != repeated {
			t.Errorf("%s: a matrix that is gone: %+v, %v", name, again, err)
		}
		for which, selector := range machines {
			for _, op := range []string{api.MachineDrain, api.MachineResume} {
				got, err := api.Call[api.ChangeMachinesReply](t.Context(), client, "ChangeMachines",
					&api.ChangeMachinesArgs{Mutation: id(op + which), MachineSelector: selector,
						Op: op})
				if err != nil || got.Repeated != repeated || len(got.Machines) != 1 ||
					got.Machines[0].Addr != "local" {
					t.Errorf("%s: %s of what is %s: %+v, %v", name, op, which, got, err)
				}
			}
		}
		setup, err := api.Call[api.SetupReply](t.Context(), client, "SetupMachines",
			&api.SetupArgs{Mutation: id("setup"),
				MachineSelector: api.MachineSelector{Addrs: []string{"local:a", "local:b"}},
				Class:           "z", Steps: []string{"true"}})
		if err != nil || !slices.Equal(setup.Addrs, []string{"local:a", "local:b"}) ||
			len(setup.JIDs) != 2 {
			t.Errorf("%s: a setup: %+v, %v", name, setup, err)
		}
	}
	ask("the first time", false)
	d.J(t, "matrix", "add", "y", "echo {A}", t.TempDir(), "A=1,2", "--name", "m", "--hold")
	if err := d.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	client.Close()
	if client, err = d.Client(t.Context()); err != nil {
		t.Fatal(err)
	}
	ask("again", true)
}
