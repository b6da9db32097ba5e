package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// saidBytes is how much of what others say is looked at: more than is told of it, so that a secret
// in it isn't cut.
const saidBytes = 4096

// maxAnswerHeader is how long the header of a receiver's answer may be, in bytes.
const maxAnswerHeader = 64 << 10

// maxSlack is how long a text may be, in bytes: Slack cuts messages at 40,000 characters, and
// people stop reading long before.
const maxSlack = 8000

// postError is why a message was not taken.
type postError struct {
	permanent bool          // trying again is pointless
	after     time.Duration // not before; 0: whenever
	err       error
}

func (e *postError) Error() string { return e.err.Error() }

func (e *postError) Unwrap() error { return e.err }

// split is what deliver gives after an error with the first of some groups' messages, which takes
// that many of them.
func split(groups []*group, message int, err error) (refused, rest []*group, _ error) {
	var p *postError
	if errors.As(err, &p) && p.permanent {
		return groups[:message], groups[message:], err
	}
	return nil, groups, err
}

// toSlack sends all groups as one message.
func (n *Notifier) toSlack(ctx context.Context, groups []*group) (refused, rest []*group, _ error) {
	t := n.current()
	if t.Slack == "" {
		return nil, nil, nil
	}
	body, err := json.Marshal(map[string]string{"text": slackText(n.opt.Host, t.SlackUser, groups)})
	if err == nil {
		err = n.post(ctx, t.Slack, body)
	}
	return split(groups, len(groups), err)
}

// slackText is the message, in Slack's mrkdwn:
// https://docs.slack.dev/messaging/formatting-message-text.
func slackText(host, user string, groups []*group) string {
	var b strings.Builder
	mention := false
	for _, g := range groups {
		mention = mention || g.asked || g.kind.alarming()
	}
	if user = mentionOf(user); user != "" && mention {
		b.WriteString(user + " ")
	}
	b.WriteString("*jobserver")
	if host != "" {
		b.WriteString(" on " + slackEscape(host))
	}
	b.WriteString("*")
	if len(groups) > 1 || groups[0].count > 1 {
		b.WriteString("\n")
	} else {
		b.WriteString(": ")
	}
	for i, g := range groups {
		if i > 0 {
			b.WriteString("\n")
		}
		b.WriteString(slackEscape(strings.Join(g.lines(), "\n")))
	}
	text := b.String()
	if len(text) > maxSlack {
		text = strings.ToValidUTF8(text[:maxSlack], "") + "…"
	}
	return text
}

func slackEscape(text string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(text)
}

// memberID matches the form in which Slack names its members.
var memberID = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[UW][A-Z0-9]{2,}$`)
})

// mentionOf is how a member is mentioned: by id, for others by name, which Slack shows and doesn't
// link.
func mentionOf(user string) string {
	user = strings.Trim(user, "<@> ")
	switch {
	case user == "":
		return ""
	case memberID().MatchString(user):
		return "<@" + user + ">"
	}
	return "@" + slackEscape(user)
}

// toWebhook sends each group as a message of its own.
func (n *Notifier) toWebhook(
	ctx context.Context, groups []*group,
) (refused, rest []*group, _ error) {
	t := n.current()
	if t.Webhook == "" {
		return nil, nil, nil
	}
	for i, g := range groups {
		body, err := json.Marshal(g.message(n.opt.Host))
		if err == nil {
			err = n.post(ctx, t.Webhook, body)
		}
		if err != nil {
			return split(groups[i:], 1, err)
		}
	}
	return nil, nil, nil
}

// beginning is the first of what a receiver said, without secrets.
func (n *Notifier) beginning(said []byte) string {
	text := string(said)
	if len(said) == saidBytes {
		text += "…"
	}
	t := n.current()
	if text = t.hidden.Redact(strings.TrimSpace(text)); len(text) > 200 {
		text = strings.ToValidUTF8(text[:200], "") + "…"
	}
	return text
}

// post sends one body. No error of it names the address: that is a secret.
func (n *Notifier) post(ctx context.Context, target string, body []byte) error {
	u, err := url.Parse(target)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return &postError{permanent: true,
			err: errors.New("the variable with its address is no http or https URL")}
	}
	ctx, cancel := context.WithTimeout(ctx, n.opt.PostTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		return &postError{permanent: true,
			err: errors.New("the variable with its address is no http or https URL")}
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "jobserver")
	reply, err := n.client.Do(req)
	if err != nil {
		var with *url.Error
		if errors.As(err, &with) {
			err = with.Err
		}
		return &postError{err: fmt.Errorf("send a message: %w", err)}
	}
	defer reply.Body.Close()
	said, _ := io.ReadAll(io.LimitReader(reply.Body, saidBytes)) // only to explain a refusal
	if reply.StatusCode/100 == 2 {
		return nil
	}
	p := &postError{err: fmt.Errorf("the answer was %s: %s", reply.Status, n.beginning(said))}
	switch {
	case reply.StatusCode == http.StatusTooManyRequests ||
		reply.StatusCode == http.StatusRequestTimeout || reply.StatusCode/100 == 5:
		if seconds, err := strconv.Atoi(reply.Header.Get("Retry-After")); err == nil &&
			seconds > 0 && seconds < 1<<20 {
			p.after = time.Duration(seconds) * time.Second
		}
	default:
		p.permanent = true
	}
	return p
}
