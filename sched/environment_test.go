package sched

import (
	"slices"
	"strings"
	"testing"

	"jobserver/sched/statepb"
)

func TestLooksSecret(t *testing.T) {
	for name, want := range map[string]bool{
		"KEY": true, "WANDB_API_KEY": true, "AWS_SECRET_ACCESS_KEY": true, "HF_TOKEN": true,
		"hf_token":   true,
		"PGPASSWORD": true, "MYSQL_PWD": true, "DB_PASSWORD": true, "OPENAI_APIKEY": true,
		"CLIENT_SECRET": true,
		"GITHUB-TOKEN":  true, "SSH_PASSPHRASE": true,
		"PATH": false, "PWD": false, "OLDPWD": false, "MAX_TOKENS": false,
		"TOKENIZERS_PARALLELISM": false,
		"KEYBOARD":               false, "MONKEY": false, "PASSES": false, "SECRETARY": false,
		"": false, "MY_CREDENTIALS": true, "HTTP_AUTH": true, "AUTHORIZATION": true,
		"GH_PAT": true, "PATTERN": false, "AUTHOR": false, "SESSION_COOKIE": true,
		"SSH_AUTH_SOCK": false, "NUM_KEYS": false, "PAT": false,
	} {
		if got := LooksSecret(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
	for value, want := range map[string]bool{
		"postgres://ann:pw@db/runs": true, "pip https://__token__:x@index/simple/": true,
		"redis://:pw@cache:6379": true,
		"https://ann@host/x":     false, "https://host:8080/a@b": false, "a:b@c": false,
		"s3://bucket/key:1@2": false, "": false,
	} {
		if got := LooksPrivate(&statepb.Var{Name: "URL", Value: []byte(value)}); got != want {
			t.Errorf("%q: %v", value, got)
		}
	}
}

// TestEnvironment: what a job's own environment becomes when it is sent to a machine, and what is
// shown of it.
func TestEnvironment(t *testing.T) {
	w := newWorld()
	check(t, w.do(w.s.PlanVar("PLACE", "moon", false, false)))
	check(t, w.do(w.s.PlanVar("MINE", "geheim", true, false)))
	check(t, w.do(w.s.PlanJobs([]JobSpec{{
		Class: "x", Cmd: "work",
		Env: map[string]string{
			"A": "{PLACE} {{PLACE}} {lower}", "B": "slot {SLOT}", "C": "x{MINE}y",
			"API_KEY": "{not json}",
		},
		SecretEnv: map[string]string{"MINE": "from the client", "OTHER": "{PLACE}"},
	}}, false)))
	id := w.s.nextID - 1
	j := w.s.Job(id)
	a := &statepb.Attempt{Number: 1, Machine: "m", Slot: 3}
	got := w.s.envOf(j, a)
	slices.Sort(got)
	want := []string{"A=moon {PLACE} {lower}", "API_KEY={not json}", "B=slot 3", "C=xgeheimy",
		"MINE=geheim", "OTHER={PLACE}"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	var shown []string
	for _, v := range j.Env {
		shown = append(shown, v.Name+"="+ShownValue(v))
	}
	if text := strings.Join(shown, " "); text != "A={PLACE} {{PLACE}} {lower} API_KEY=… B=slot "+
		"{SLOT} C=x{MINE}y MINE=(secret) OTHER=(secret)" {
		t.Errorf("shown is %s", text)
	}
	if hidden := HiddenOf(j); !slices.Equal(hidden, []string{"{not json}", "{PLACE}"}) {
		t.Errorf("hidden is %q", hidden)
	}
	check(t, w.do(w.s.PlanVar("MINE", "renewed", true, false)))
	if got := w.s.envOf(j, a); !slices.Contains(got, "C=xrenewedy") ||
		!slices.Contains(got, "MINE=renewed") {
		t.Errorf("after the secret was renewed: %q", got)
	}
}
