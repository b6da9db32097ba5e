package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"jobserver/tests/budget"
)

const (
	slackURL   = "https://hooks.example/services/T000/B000/slack-secret"
	webhookURL = "https://hooks.example/webhook-secret"
)

// network answers requests in process, so that time in a bubble stands still while they are under
// way.
type network struct {
	answer func(n int, r *http.Request) (int, http.Header, error) // n counts from 1

	mu     sync.Mutex
	asked  []time.Time
	bodies []string // those that were answered with 200
}

func (w *network) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	w.asked = append(w.asked, time.Now())
	n := len(w.asked)
	w.mu.Unlock()
	status, header := 200, http.Header{}
	if w.answer != nil {
		if status, header, err = w.answer(n, r); err != nil {
			return nil, err
		}
	}
	if status == 200 {
		w.mu.Lock()
		w.bodies = append(w.bodies, string(body))
		w.mu.Unlock()
	}
	return &http.Response{StatusCode: status,
		Status: fmt.Sprint(status, " ", http.StatusText(status)), Header: header,
		Body: io.NopCloser(strings.NewReader("said by the other side"))}, nil
}

// tries are the times of the requests since the start.
func (w *network) tries(start time.Time) []time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	var at []time.Duration
	for _, t := range w.asked {
		at = append(at, t.Sub(start))
	}
	return at
}

func (w *network) took() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.bodies...)
}

// setup runs a notifier in the bubble. stop ends it and gives its log.
func setup(
	t *testing.T, w *network, opt Options, targets Targets,
) (n *Notifier, stop func() string) {
	t.Helper()
	var log bytes.Buffer
	opt.Transport, opt.Log = w, slog.New(slog.NewTextHandler(&log, nil))
	n, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	n.Direct(targets)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { n.Run(ctx) })
	return n, func() string {
		cancel()
		running.Wait()
		return log.String()
	}
}

func failure(i int) Event {
	cause := "exited with code 1"
	if i%10 == 0 {
		cause = "timed out"
	}
	return Event{Kind: Fail, Job: uint64(i), Machine: "gpu1",
		Text: fmt.Sprintf("job %d %s on gpu1", i, cause), Cause: cause}
}

func TestThousandFailuresAreOneMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &network{}
		n, stop := setup(t, w, Options{Modes: map[Kind]Mode{Fail: Immediate}, Host: "desk"},
			Targets{Slack: slackURL, SlackUser: "U012AB", Webhook: webhookURL})
		for i := 1; i <= 1000; i++ {
			n.Add(failure(i), Event{Kind: Complete, Text: "nobody wants to hear of this"})
		}
		time.Sleep(time.Minute)
		stop()
		bodies := w.took()
		if len(bodies) != 2 {
			t.Fatalf("%d messages went out, want one to Slack and one to the webhook: %q",
				len(bodies), bodies)
		}
		var slack struct{ Text string }
		var hook Message
		for _, body := range bodies {
			into := any(&slack)
			if strings.Contains(body, `"event"`) {
				into = &hook
			}
			if err := json.Unmarshal([]byte(body), into); err != nil {
				t.Fatal(err)
			}
		}
		want := "<@U012AB> *jobserver on desk*\n1000 jobs have failed (900: exited with code 1; " +
			"100: timed out)\n" +
			"• job 1 exited with code 1 on gpu1\n• job 2 exited with code 1 on gpu1\n• job 3 " +
			"exited with code 1 on gpu1\n" +
			"• job 4 exited with code 1 on gpu1\n• job 5 exited with code 1 on gpu1\n… and 995 more"
		if diff := cmp.Diff(want, slack.Text); diff != "" {
			t.Errorf("Slack's text (-want +got):\n%s", diff)
		}
		if hook.Kind != Fail || hook.Count != 1000 || len(hook.Events) != keptEvents ||
			hook.Omitted != 1000-keptEvents || hook.Host != "desk" {
			t.Errorf("the webhook got %+v", hook)
		}
		if diff := cmp.Diff([]Tally{{"exited with code 1", 900}, {"timed out", 100}},
			hook.Causes); diff != "" {
			t.Errorf("causes (-want +got):\n%s", diff)
		}
	})
}

// A steady stream is told at growing distances; after a quiet time the next event is told at once
// again.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &network{}
		n, stop := setup(t, w, Options{Modes: map[Kind]Mode{Fail: Immediate}},
			Targets{Slack: slackURL})
		start := time.Now()
		for i := range 3600 {
			n.Add(failure(i))
			time.Sleep(time.Second)
		}
		if got := len(w.tries(start)); got < 10 || got > 25 {
			t.Errorf("an hour of failures, one a second, gave %d messages", got)
		}
		time.Sleep(time.Hour)
		before := len(w.tries(start))
		n.Add(failure(1))
		time.Sleep(time.Second + time.Millisecond)
		if got := len(w.tries(start)); got != before+1 {
			t.Errorf("after a quiet hour %d messages went out at once, want 1", got-before)
		}
		stop()
	})
}

func TestSummaries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &network{}
		n, stop := setup(t, w,
			Options{Modes: map[Kind]Mode{Complete: Summary, MachineBroken: Immediate},
				Interval: time.Hour}, Targets{Slack: slackURL})
		start := time.Now()
		for i := range 10 {
			n.Add(Event{Kind: Complete, Text: fmt.Sprintf("job %d has succeeded", i)})
			time.Sleep(time.Minute)
		}
		n.Add(Event{Kind: MachineBroken, Text: "gpu1 is set aside"})
		// not only in the summary
		n.Add(Event{Kind: Complete, Text: "job 77 has succeeded", Asked: true})
		time.Sleep(3 * time.Hour)
		if diff := cmp.Diff([]time.Duration{10*time.Minute + time.Second, time.Hour},
			w.tries(start)); diff != "" {
			t.Errorf("messages went out at (-want +got):\n%s", diff)
		}
		if got := w.took(); !strings.Contains(got[0], "gpu1 is set aside") ||
			!strings.Contains(got[0], "job 77") ||
			!strings.Contains(got[1], "10 jobs have succeeded") {
			t.Errorf("the messages were %q", got)
		}
		stop()
	})
}

// What couldn't be sent is tried again, later each time, and goes with what has come meanwhile.
func TestRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &network{answer: func(n int, r *http.Request) (int, http.Header, error) {
			switch {
			case n == 3:
				return 0, nil, errors.New("connection refused")
			case n == 4:
				return 429, http.Header{"Retry-After": {"120"}}, nil
			case n == 5: // it hangs
				<-r.Context().Done()
				return 0, nil, r.Context().Err()
			case n <= 6:
				return 500, nil, nil
			}
			return 200, nil, nil
		}}
		n, stop := setup(t, w, Options{Modes: map[Kind]Mode{Fail: Immediate}},
			Targets{Slack: slackURL})
		start := time.Now()
		n.Add(failure(1))
		time.Sleep(time.Minute)
		n.Add(failure(2))
		time.Sleep(time.Hour)
		tries := w.tries(start)
		if len(tries) != 7 {
			t.Fatalf("tries at %v, want 7", tries)
		}
		for i, least := range []time.Duration{time.Second, time.Second, 2 * time.Second,
			4 * time.Second, 2 * time.Minute, 26 * time.Second, 32 * time.Second} {
			gap := tries[i]
			if i > 0 {
				gap -= tries[i-1]
			}
			if gap < least {
				t.Errorf("try %d came %s after the one before, want at least %s", i+1, gap, least)
			}
		}
		if got := w.took(); len(got) != 1 || !strings.Contains(got[0], "2 jobs have failed") {
			t.Errorf("the message was %q", got)
		}
		if s := n.Stats(); s != (Stats{Sent: 1, Failed: 6}) {
			t.Errorf("stats are %+v", s)
		}
		log := stop()
		if strings.Count(log, "tried again") != 1 || strings.Count(log, "arrive again") != 1 {
			t.Errorf("the log is\n%s", log)
		}
	})
}

// Messages that are refused for good are given up, redirects aren't followed, and neither address
// is ever seen.
func TestRefused(t *testing.T) {
	for name, answer := range map[string]func(int, *http.Request) (int, http.Header, error){
		"not found": func(int, *http.Request) (int, http.Header, error) { return 404, nil, nil },
		"redirect": func(int, *http.Request) (int, http.Header, error) {
			return 302, http.Header{"Location": {"https://elsewhere.example/"}}, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &network{answer: answer}
				n, stop := setup(t, w, Options{Modes: map[Kind]Mode{Fail: Immediate}},
					Targets{Slack: slackURL})
				n.Add(failure(1))
				time.Sleep(24 * time.Hour)
				if got := len(w.tries(time.Now())); got != 1 {
					t.Errorf("it was tried %d times", got)
				}
				if s := n.Stats(); s.Dropped != 1 {
					t.Errorf("stats are %+v", s)
				}
				if log := stop(); !strings.Contains(log, "given up") ||
					strings.Contains(log, "slack-secret") {
					t.Errorf("the log is\n%s", log)
				}
			})
		})
	}
}

// A message that a webhook refuses takes only its own group along: what comes after it is told.
func TestOneRefused(t *testing.T) {
	for _, stopping := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := &network{answer: func(n int, r *http.Request) (int, http.Header, error) {
				if n == 1 {
					return 400, nil, nil
				}
				return 200, nil, nil
			}}
			n, stop := setup(t, w,
				Options{Modes: map[Kind]Mode{Fail: Immediate, MatrixDone: Immediate,
					Complete: Immediate}}, Targets{Webhook: webhookURL})
			n.Add(Event{Kind: Complete, Text: "third"}, Event{Kind: MatrixDone, Text: "second"},
				Event{Kind: Fail, Text: "first"})
			if !stopping {
				time.Sleep(time.Hour)
			}
			log := stop()
			bodies := w.took()
			if len(bodies) != 2 || !strings.Contains(bodies[0], "second") ||
				!strings.Contains(bodies[1], "third") {
				t.Errorf("these arrived: %q", bodies)
			}
			if s := n.Stats(); s.Dropped != 1 || strings.Count(log, "given up") != 1 {
				t.Errorf("stats are %+v, the log is\n%s", s, log)
			}
		})
	}
}

func TestSecretsStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &network{answer: func(n int, r *http.Request) (int, http.Header, error) {
			if n%2 == 1 {
				return 0, nil, fmt.Errorf("dial %s: %s refused", r.URL, "s3cr3t-token")
			}
			return 200, nil, nil
		}}
		n, stop := setup(t, w,
			Options{Modes: map[Kind]Mode{Fail: Immediate},
				Commands: []Command{{Fail, "echo s3cr3t-token; cat; exit 1"}}},
			Targets{Slack: slackURL, Webhook: webhookURL, Secrets: []string{"s3cr3t-token"}})
		n.Add(Event{Kind: Fail, Job: 1, Text: "job 1: no access with s3cr3t-token to " + webhookURL,
			Cause: "s3cr3t-token\x1b[31m"})
		time.Sleep(time.Hour)
		all := stop() + strings.Join(w.took(), "\n")
		for _, secret := range []string{"s3cr3t-token", "slack-secret", "webhook-secret"} {
			if strings.Contains(all, secret) {
				t.Errorf("%s is in\n%s", secret, all)
			}
		}
		if !strings.Contains(all, "job 1: no access with (secret) to (secret)") ||
			strings.Contains(all, "\x1b") {
			t.Errorf("the message is in\n%s", all)
		}
	})
}

func TestNoAddressNoMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &network{}
		n, stop := setup(t, w, Options{Modes: map[Kind]Mode{Fail: Immediate}}, Targets{})
		n.Add(failure(1))
		time.Sleep(time.Minute)
		n.Direct(Targets{Webhook: "ftp://example/x"})
		n.Add(failure(2))
		time.Sleep(time.Minute)
		if got := w.tries(time.Now()); got != nil {
			t.Errorf("requests went out: %v", got)
		}
		if log := stop(); !strings.Contains(log, "no http or https URL") {
			t.Errorf("the log is\n%s", log)
		}
	})
}

// When the notifier stops, what waits is told; a receiver that hangs doesn't hold it up.
func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &network{answer: func(n int, r *http.Request) (int, http.Header, error) {
			if strings.Contains(r.URL.String(), "webhook") {
				<-r.Context().Done()
				return 0, nil, r.Context().Err()
			}
			return 200, nil, nil
		}}
		n, stop := setup(t, w, Options{Modes: map[Kind]Mode{Complete: Summary}},
			Targets{Slack: slackURL, Webhook: webhookURL})
		n.Add(Event{Kind: Complete, Text: "job 1 has succeeded"})
		synctest.Wait()
		began := time.Now()
		stop()
		if took := time.Since(began); took != farewell {
			t.Errorf("it took %s to stop", took)
		}
		if got := w.took(); len(got) != 1 || !strings.Contains(got[0], "job 1 has succeeded") {
			t.Errorf("the messages were %q", got)
		}
	})
}

func TestOptions(t *testing.T) {
	for _, opt := range []Options{
		{Modes: map[Kind]Mode{"fails": Immediate}},
		{Commands: []Command{{"fails", "true"}}},
		{Commands: []Command{{Fail, " "}}},
		{Commands: []Command{{Fail, "a\x00b"}}},
	} {
		if _, err := New(opt); err == nil {
			t.Errorf("%+v is accepted", opt)
		}
	}
}

// Over a real connection, to a server that fails at times, and to a command.
func TestForReal(t *testing.T) {
	defer goleak.VerifyNone(t)
	got := make(chan string, 1)
	tries := 0
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%v %v", err, r.Header)
		}
		if tries++; tries == 1 {
			rw.WriteHeader(http.StatusInternalServerError)
			return
		}
		got <- string(body)
	}))
	defer server.Close()
	pipe := filepath.Join(t.TempDir(), "event.json")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	n, err := New(Options{
		Modes: map[Kind]Mode{MatrixDone: Immediate}, Gather: time.Millisecond,
		RetryMin: time.Millisecond,
		Commands: []Command{{MatrixDone, "cat > " + pipe}},
	})
	if err != nil {
		t.Fatal(err)
	}
	n.Direct(Targets{Slack: server.URL})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan struct{})
	go func() { defer close(done); n.Run(ctx) }()
	n.Add(Event{Kind: MatrixDone, Matrix: 93, Text: "matrix 93 has ended: 8 <done>"})
	if body := <-got; body != `{"text":"*jobserver*: matrix 93 has ended: 8 \u0026lt;done\u0026gt;"}` {
		t.Errorf("the body is %s", body)
	}
	var m Message
	b, err := os.ReadFile(pipe) // until the command closes it
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	if err != nil || m.Kind != MatrixDone || m.Count != 1 || m.Matrix != 93 ||
		m.Text != "matrix 93 has ended: 8 <done>" {
		t.Errorf("the command got %s, %v", b, err)
	}
	cancel()
	<-done
}

func TestCommands(t *testing.T) {
	n, err := New(Options{CommandTimeout: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		"sleep 1000 & sleep 1000":  "had not ended after 50ms",
		"trap '' TERM; sleep 1000": "had not ended after 50ms",
	} {
		if err := n.runCommand(t.Context(), line, nil); err == nil ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", line, err, want)
		}
	}
	n.opt.CommandTimeout = time.Minute
	for line, want := range map[string]string{
		"exit 3":                        "exit status 3",
		"echo why >&2; exit 1":          "exit status 1: why",
		"/no/such/program":              "exit status 127",
		"true":                          "", // though it doesn't read what it is given
		"head -c 1 > /dev/null":         "",
		"yes | head -c 1000000; exit 1": "exit status 1: …y",
	} {
		err := n.runCommand(t.Context(), line, bytes.Repeat([]byte("x"), 1<<20))
		if want == "" && err != nil || want != "" &&
			(err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
}

func FuzzText(f *testing.F) {
	f.Add("job 1 failed\x1b[2J", "U012AB", 3)
	f.Add(strings.Repeat("ж", 1000), "<@U1>", 100)
	f.Fuzz(func(t *testing.T, text, user string, count int) {
		defer budget.Hold(t, 1<<20+64*(len(text)+len(user)))()
		g := &group{kind: Fail}
		for range 1 + count&127 {
			g.add(Event{Kind: Fail, Text: plain(text), Cause: plain(user)})
		}
		s := slackText("desk", user, []*group{g})
		if len(s) > maxSlack+len("…") || strings.ContainsAny(s, "\x00\x1b") &&
			!strings.ContainsAny(user, "\x00\x1b") {
			t.Errorf("%q", s)
		}
		if _, err := json.Marshal(g.message("desk")); err != nil {
			t.Error(err)
		}
	})
}
