package pool_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"jobserver/api"
	"jobserver/notify"
)

// inboxes are a Slack and a webhook that fail at times: the first request to each is answered with
// 500, and at a third path nobody ever answers.
type inboxes struct {
	*httptest.Server
	slack, hook chan string
}

func newInboxes(t *testing.T) *inboxes {
	in := &inboxes{slack: make(chan string, 100), hook: make(chan string, 100)}
	seen := map[string]chan bool{"/slack-secret": make(chan bool, 1),
		"/hook-secret": make(chan bool, 1)}
	hang := make(chan struct{})
	in.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		if r.URL.Path == "/hangs-secret" {
			<-hang
			return
		}
		select {
		case seen[r.URL.Path] <- true:
			w.WriteHeader(http.StatusInternalServerError)
			return
		default:
		}
		if r.URL.Path == "/slack-secret" {
			in.slack <- string(body)
		} else {
			in.hook <- string(body)
		}
	}))
	t.Cleanup(func() {
		close(hang)
		in.Close()
	})
	return in
}

// until takes messages until one has the words.
func until(t *testing.T, inbox <-chan string, words string) string {
	t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case body := <-inbox:
			if strings.Contains(body, words) {
				return body
			}
		case <-timeout:
			t.Fatalf("no message has %q", words)
		}
	}
}

// Slack and a webhook hear of what happens: once of many failures, though they fail at times
// themselves. Their addresses are seen nowhere.
func TestNotifications(t *testing.T) {
	in := newInboxes(t)
	p := newPool(t, "--notify-fail", "--notify-matrix-done", "--notify-matrix-fail",
		"--notify-complete=summary", "--summary-interval", "1s")
	p.J(t, "var", "set", "SLACK_API", in.URL+"/slack-secret")
	p.J(t, "var", "set", "SLACK_USER", "U012AB")
	p.J(t, "var", "set", "WEBHOOK", in.URL+"/hook-secret")
	p.J(t, "machine", "add", "local:a", "local:b", "foo", "--slots", "4")
	p.J(t, "matrix", "add", "foo", "echo to {WEBHOOK} {I}", t.TempDir(), "I=1..10")
	p.J(t, "wait", "%1")
	var specs []api.JobSpec
	for i := range 40 {
		// each of its own: what a machine can do with one tells nothing about the others
		specs = append(specs,
			api.JobSpec{Class: "foo", Cmd: fmt.Sprintf("exit $((3 + %d %% 2))", i)})
	}
	if err := p.api.Call(t.Context(), "AddJobs", &api.AddJobsArgs{Jobs: specs},
		new(api.AddJobsReply)); err != nil {
		t.Fatal(err)
	}
	p.Run(t.Context(), "wait", "12..51")
	var sum notify.Message
	for failed := 0; failed < 40; {
		var m notify.Message
		if err := json.Unmarshal([]byte(until(t, in.hook, `"event":"fail"`)), &m); err != nil {
			t.Fatal(err)
		}
		failed += m.Count
		sum = m
	}
	if sum.Causes == nil && sum.Count > 1 {
		t.Errorf("the causes are missing: %+v", sum)
	}
	text := until(t, in.slack, "matrix 1 has ended: 10 done")
	contains(t, text, "U012AB", "*jobserver on ")
	until(t, in.slack, "have succeeded") // the summary

	p.J(t, "add", "foo", "true", "--notify")
	until(t, in.slack, "job 52 has succeeded")

	list, _, _, err := p.Run(t.Context(), "var", "ls", "-o", "json")
	if err != nil {
		t.Fatal(err)
	}
	events := p.J(t, "events", "--since", "0", "--no-wait", "-o", "jsonl")
	show := p.J(t, "job", "show", "2", "-o", "json")
	for what, text := range map[string]string{"var ls": list, "events": events, "job show": show,
		"the daemon's log": p.ConsoleText()} {
		if strings.Contains(text, "-secret") {
			t.Errorf("an address is in %s: %s", what, text)
		}
	}
}

// A webhook that never answers and a command that never ends are in nobody's way.
func TestHangingReceivers(t *testing.T) {
	in := newInboxes(t)
	news := filepath.Join(t.TempDir(), "news")
	p := newPool(t, "--notify-complete", "--on", "complete=sleep 1000", "--on", "complete=cat >> "+
		news)
	p.J(t, "var", "set", "WEBHOOK", in.URL+"/hangs-secret")
	p.J(t, "machine", "add", "local:a", "foo", "--slots", "8")
	p.J(t, "add", "foo", "true", "-x", "200", "-q")
	p.J(t, "wait", "1..200")
	p.becomes("local:a", func(api.Machine) bool {
		info, err := os.Stat(news)
		return err == nil && info.Size() > 0
	})
	// The daemon's stop, at the end of the test, isn't held up either: it fails if it takes long.
}

// TestMetrics compares what Prometheus reads.
func TestMetrics(t *testing.T) {
	p := newPool(t, "--metrics", "127.0.0.1:0")
	p.J(t, "machine", "add", "local:a", "local:b", "foo", "--slots", "2")
	p.becomes("local:a", connected)
	p.becomes("local:b", connected) // the jobs may all be done without it
	p.J(t, "add", "foo", "true", "-x", "20", "-q")
	p.J(t, "add", "foo", "exit 1")
	p.J(t, "add", "nowhere", "true")
	p.J(t, "resource", "set", "license=3")
	p.J(t, "matrix", "add", "foo", "true {A}", "out", "A=1,2", "--after", "21", "--name", "stuck")
	p.J(t, "add", "foo", "true", "--after", "21")
	p.J(t, "add", "foo", "sleep 1000", "--needs", "license=2,mem=1M")
	p.J(t, "wait", "--status", "running", "last")
	p.J(t, "job", "pause", "last")
	p.Run(t.Context(), "wait", "1..21")
	_, addr, _ := strings.Cut(p.ConsoleText(), "metrics are served address=")
	addr, _, ok := strings.Cut(addr, "\n")
	if !ok {
		t.Fatalf("no address in %s", p.ConsoleText())
	}
	got := map[string]float64{}
	p.becomes("local:a", func(api.Machine) bool { // they are counted a moment after they happen
		got = scrape(t, "http://"+addr+"/metrics")
		return got[`jobserver_attempts_total class=foo outcome=done`] == 20 &&
			got[`jobserver_attempts_total class=foo outcome=failed`] == 1
	})
	for name, want := range map[string]float64{
		"jobserver_jobs class=foo status=done": 20, "jobserver_jobs class=foo status=failed": 1,
		"jobserver_jobs class=nowhere status=waiting":    1,
		"jobserver_jobs_blocked":                         3,
		"jobserver_jobs_paused":                          1,
		"jobserver_resource resource=license":            3,
		"jobserver_resource_held resource=license":       2,
		"jobserver_resource_held class=foo resource=mem": 1 << 20,
		"jobserver_machines class=foo state=connected":   2, "jobserver_slots class=foo": 4,
		"jobserver_machine_jobs class=foo":   1,
		"jobserver_dispatch_latency_seconds": 22,
	} {
		if got[name] != want {
			t.Errorf("%s is %g, want %g", name, got[name], want)
		}
	}
	if got["jobserver_loop_stretch_seconds"] < got["jobserver_journal_sync_seconds"] {
		t.Errorf("%g stretches of the scheduler", got["jobserver_loop_stretch_seconds"])
	}
	if got["jobserver_journal_sync_seconds"] < 3 ||
		got["jobserver_queue_age_seconds class=nowhere"] <= 0 {
		t.Errorf("%d batches were synced, the queue is %g s old",
			int(got["jobserver_journal_sync_seconds"]),
			got["jobserver_queue_age_seconds class=nowhere"])
	}
	p.J(t, "rm", "last")
	p.Run(t.Context(), "wait", "last")
}

// scrape reads metrics with Prometheus' own parser: values by name and labels, of histograms the
// counts.
func scrape(t *testing.T, url string) map[string]float64 {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	reply, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(reply.Body)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for name, f := range families {
		for _, m := range f.Metric {
			labels := map[string]string{}
			for _, l := range m.Label {
				labels[l.GetName()] = l.GetValue()
			}
			key := name
			for _, label := range []string{"class", "outcome", "resource", "state",
				"status"} {
				if value, ok := labels[label]; ok {
					key += fmt.Sprintf(" %s=%s", label, value)
				}
			}
			got[key] = m.Gauge.GetValue() + m.Counter.GetValue() + float64(
				m.Histogram.GetSampleCount(),
			)
		}
	}
	return got
}

// Who follows the events hears of the end of a matrix, though the turn that ended it had more
// events than are kept.
func TestEndsInOneTurn(t *testing.T) {
	news := filepath.Join(t.TempDir(), "news")
	p := newPool(t, "--on", "matrix-done=cat >> "+news)
	p.J(t, "matrix", "add", "nowhere", "true", t.TempDir(), "I=1..100")
	p.J(t, "matrix", "add", "nowhere", "true", t.TempDir(), "I=1..30000")
	p.J(t, "job", "rm", "--yes", ":waiting")
	p.becomes("", func(api.Machine) bool {
		text, err := os.ReadFile(news)
		return err == nil && strings.Contains(string(text), "matrix 1 has ended: 100 canceled") &&
			strings.Contains(string(text), "30000 canceled")
	})
}
