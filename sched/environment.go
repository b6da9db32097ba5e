package sched

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
	"sync"

	"jobserver/sched/statepb"
)

// The variables of a job's environment that were set with it. Their values are templates, into
// which variables are put when an attempt is dispatched. What is secret of them is in the state, in
// what is sent to the machine, and nowhere else: shown is something in its place.

// What stands for a value that isn't shown: because its name says so, because somebody said so.
const (
	hiddenByName = "…"
	hiddenSecret = "(secret)"
)

// LooksSecret says that a variable's name says that its value is nobody else's business: one of its
// words is KEY, ends like TOKEN, SECRET or PASSWORD, or the last is AUTH.
func LooksSecret(name string) bool {
	words := strings.FieldsFunc(name, func(r rune) bool { return r == '_' || r == '-' || r == '.' })
	for i, word := range words {
		word = strings.ToUpper(word)
		last := i == len(words)-1
		if word == "KEY" || word == "PASS" || word == "AUTH" && last ||
			(word == "PWD" || word == "PAT") && len(words) > 1 {
			return true
		}
		if slices.ContainsFunc(secretEnds, func(end string) bool {
			return strings.HasSuffix(word, end)
		}) {
			return true
		}
	}
	return false
}

var secretEnds = []string{
	"TOKEN", "SECRET", "SECRETS", "PASSWORD", "PASSWORDS", "PASSWD", "PASSPHRASE",
	"CREDENTIAL", "CREDENTIALS", "AUTHORIZATION", "COOKIE",
	"APIKEY", "ACCESSKEY", "PRIVATEKEY", "SECRETKEY",
}

// passwordInURL is a login with its password, as in postgres://ann:secret@db/runs. It is compiled
// when there is one to look at.
var passwordInURL = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`[a-zA-Z]://[^/\s:@]*:[^/\s@]+@`)
})

// LooksPrivate says that a variable's value is nobody else's business: its name says so, or the
// password in it.
func LooksPrivate(v *statepb.Var) bool {
	return LooksSecret(v.Name) || bytes.Contains(v.Value, []byte("://")) &&
		passwordInURL().Match(v.Value)
}

// ShownValue is a variable of a job as it is shown to people and kept in records.
func ShownValue(v *statepb.Var) string {
	switch {
	case LooksPrivate(v):
		return hiddenByName
	case v.Secret:
		return hiddenSecret
	}
	return string(v.Value)
}

// setEnv takes over the environment of a job that is submitted.
func (p *planner) setEnv(j *statepb.Job, spec *JobSpec, own []string) error {
	for _, name := range sorted(spec.Env) {
		if err := checkEnv(name, spec.Env[name]); err != nil {
			return err
		}
		if _, twice := spec.SecretEnv[name]; twice {
			return errorf(Invalid, "%s is set twice, with --env and with --secret-env", name).
				hint("leave one of them out")
		}
		if err := p.capture(j, spec.Env[name], inEnv, own, false); err != nil {
			return err
		}
		j.Env = append(j.Env, &statepb.Var{Name: name, Value: []byte(spec.Env[name])})
	}
	for _, name := range sorted(spec.SecretEnv) {
		value := spec.SecretEnv[name]
		if err := checkEnv(name, value); err != nil {
			return err
		}
		v := &statepb.Var{Name: name, Secret: true}
		switch {
		case p.s.vars[name] != nil && !builtins[name]:
			// it is looked up at dispatch, as in a command
			v.Value = []byte("{" + name + "}")
			if err := p.capture(j, "{"+name+"}", inEnv, own, false); err != nil {
				return err
			}
		case value != "":
			v.Value = []byte(value)
		default:
			return errorf(Invalid, "nothing gives %s a value: no variable is called so, and it "+
				"isn't in your environment", name).
				hint("set it with `jobserver var set %s --secret`, which asks for the value, or "+
					"export it in your shell", name)
		}
		j.Env = append(j.Env, v)
	}
	return nil
}

// inEnv is what errors call the environment of a job.
const inEnv = "environment"

// checkEnv refuses what a shell can't have as a variable: it would drop it without a word.
func checkEnv(name, value string) error {
	if !nameRE().MatchString(name) {
		return errorf(Invalid, "%q can't be an environment variable's name", name).
			hint("use letters, digits and underscores, and begin with a letter: NAME=VALUE")
	}
	if strings.IndexByte(value, 0) >= 0 {
		return errorf(Invalid, "the environment variable %s has a zero byte in it", name).
			hint("no program can be given one")
	}
	if strings.HasPrefix(name, varPrefix) {
		return errorf(Invalid, "%s is set by the daemon itself: it says which job this is", name).
			hint("choose another name; `jobserver var set` defines variables, which jobs see as "+
				"%sNAME", varPrefix)
	}
	return nil
}

// literal says that a variable's value is no template: a secret that came with the job.
func literal(v *statepb.Var) bool { return v.Secret && string(v.Value) != "{"+v.Name+"}" }

// envOf is the environment that was set with a job, in an attempt.
func (s *State) envOf(j *statepb.Job, a *statepb.Attempt) []string {
	value := s.lookup(j, a)
	env := make([]string, 0, len(j.Env))
	for _, v := range j.Env {
		if literal(v) {
			env = append(env, v.Name+"="+string(v.Value))
			continue
		}
		text, _ := Expand(string(v.Value), MaxCommand, func(name string) (string, bool) {
			if secret := s.secretVar(j, name); secret != nil {
				return string(secret.Value), true
			}
			return value(name)
		})
		env = append(env, v.Name+"="+text)
	}
	return env
}

// secretVar is the secret variable of that name that a job uses; nil: there is none.
func (s *State) secretVar(j *statepb.Job, name string) *statepb.Var {
	for _, v := range j.Vars {
		if v.Name == name && v.Secret {
			return s.vars[name]
		}
	}
	return nil
}

// shortestHidden is how long the value of a variable is that is taken out of texts only because of
// its name, in bytes: shorter ones may be words.
const shortestHidden = 8

// HiddenOf are the values that were set with a job and that no text which is kept or shown may
// have, beside those of the secret variables.
func HiddenOf(j *statepb.Job) []string {
	var values []string
	for _, v := range j.Env {
		if literal(v) || !v.Secret && LooksPrivate(v) && len(v.Value) >= shortestHidden {
			values = append(values, strings.TrimSpace(string(v.Value)))
		}
	}
	return values
}
