// Package notify tells people and programs of what happens: messages to a Slack webhook and to any
// other, and commands.
//
// Add takes events and never blocks: whatever is wrong with a receiver, nobody waits for it. Events
// that come together are grouped by kind, so that a thousand failures are one message, and a
// receiver that is down costs a bounded amount of memory: what couldn't be told joins what comes
// next. The messages to one receiver go one after another, in the order of their first events; a
// webhook's are tried until they arrive or are refused for good, a command's run is not repeated.
//
// Events are kept in memory only: what waits when the process is killed is not told, and when it
// stops in an orderly way it is tried once more. The addresses of webhooks are secrets. They are in
// no message, error or log line, and neither is any other secret that the notifier was told of.
package notify

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"jobserver/redact"
)

// Options configure a Notifier.
type Options struct {
	Modes    map[Kind]Mode // for Slack and the webhook; what is missing is Off
	Commands []Command     // beside them, always Immediate
	Interval time.Duration // between summaries; 0: DefaultInterval
	Host     string        // says in messages whose they are; may be empty
	Log      *slog.Logger  // nil: none

	Transport http.RoundTripper // nil: one of its own

	// How long events are gathered before the first message, and at most while more and more of
	// them come; 0: 1 s, 5 min.
	Gather, MaxGather time.Duration
	// The pauses between tries of a message; they double. 0: 2 s, 5 min.
	RetryMin, RetryMax time.Duration
	PostTimeout        time.Duration // of one try; 0: 10 s
	CommandTimeout     time.Duration // of one command, which is killed then; 0: 1 min
}

// DefaultInterval is how often summaries are sent when Options don't say.
const DefaultInterval = time.Hour

// farewell is how long what waits may take to be told when the notifier stops.
const farewell = 2 * time.Second

// Command is run through the shell for the events of one kind. Message says what it reads.
type Command struct {
	Kind Kind
	Line string
}

// Targets are where messages go. What is empty gets none.
type Targets struct {
	Slack     string          // the URL of a Slack webhook
	SlackUser string          // member to mention where it matters
	Webhook   string          // a URL that takes a Message as JSON
	Secrets   []string        // values that must not leave, beside these URLs
	hidden    redact.Redactor // of all three, as Direct makes it
}

// Stats count what was done since the start.
type Stats struct {
	Sent    uint64 // messages that were taken, and commands that succeeded
	Failed  uint64 // tries that failed
	Dropped uint64 // events that were given up, as their message was refused for good
}

// A Notifier tells of events. Add, Direct and Stats may be called from any goroutine, Run once.
type Notifier struct {
	opt       Options
	client    *http.Client
	receivers []*receiver

	mu      sync.Mutex // guards targets and stats
	targets Targets
	stats   Stats
}

// New makes a notifier. Its errors are about the options.
func New(opt Options) (*Notifier, error) {
	for kind := range opt.Modes {
		if !kind.known() {
			return nil, fmt.Errorf("there is no event %q; the events are %s", kind, kindList())
		}
	}
	defaultTo(&opt.Interval, DefaultInterval)
	defaultTo(&opt.Gather, time.Second)
	defaultTo(&opt.MaxGather, 5*time.Minute)
	defaultTo(&opt.RetryMin, 2*time.Second)
	defaultTo(&opt.RetryMax, 5*time.Minute)
	defaultTo(&opt.PostTimeout, 10*time.Second)
	defaultTo(&opt.CommandTimeout, time.Minute)
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Transport == nil {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.MaxResponseHeaderBytes = maxAnswerHeader
		opt.Transport = transport
	}
	n := &Notifier{opt: opt, client: &http.Client{
		Transport: opt.Transport,
		// A redirect would carry the message to somebody who wasn't named.
		CheckRedirect: func(*http.Request,
			[]*http.Request) error {
			return http.ErrUseLastResponse
		},
	}}
	slack, webhook := newReceiver(n, "slack", n.toSlack), newReceiver(n, "webhook", n.toWebhook)
	slack.target = func(t *Targets) string { return t.Slack }
	webhook.target = func(t *Targets) string { return t.Webhook }
	n.receivers = []*receiver{slack, webhook}
	for _, c := range opt.Commands {
		switch {
		case !c.Kind.known():
			return nil, fmt.Errorf("there is no event %q; the events are %s", c.Kind, kindList())
		case strings.TrimSpace(c.Line) == "" || strings.IndexByte(c.Line, 0) >= 0:
			return nil, fmt.Errorf("the command for %s is empty, or has a zero byte in it", c.Kind)
		}
		r := newReceiver(n, "command for "+string(c.Kind),
			func(ctx context.Context, groups []*group) (refused, rest []*group, _ error) {
				return n.toCommand(ctx, c.Line, groups)
			})
		r.only = c.Kind
		n.receivers = append(n.receivers, r)
	}
	return n, nil
}

func defaultTo(d *time.Duration, value time.Duration) {
	if *d <= 0 {
		*d = value
	}
}

// Direct says where messages go from now on.
func (n *Notifier) Direct(t Targets) {
	t.hidden = redact.New(append([]string{t.Slack, t.Webhook}, t.Secrets...)...)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.targets = t
}

func (n *Notifier) current() Targets {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.targets
}

// Stats counts what was done.
func (n *Notifier) Stats() Stats {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.stats
}

func (n *Notifier) count(f func(*Stats)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f(&n.stats)
}

// Add takes events. It never blocks.
func (n *Notifier) Add(events ...Event) {
	t := n.current()
	for _, e := range events {
		e.Text = plain(t.hidden.Redact(e.Text))
		e.Cause = plain(t.hidden.Redact(e.Cause))
		for _, r := range n.receivers {
			r.add(e, r.wants(&e, &t))
		}
	}
}

// Run tells of what was added until ctx ends, then tries once more what waits, for two seconds at
// the most, and returns when all has ended.
func (n *Notifier) Run(ctx context.Context) {
	var tasks sync.WaitGroup
	for _, r := range n.receivers {
		tasks.Go(func() { r.run(ctx) })
	}
	tasks.Wait()
	n.client.CloseIdleConnections()
}
