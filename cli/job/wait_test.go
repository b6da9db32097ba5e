package job

import (
	"testing"

	"jobserver/cli"
)

// TestWaitLooksFirst: a wait asks at once how things are, as no news may ever come of jobs that
// can't start; then it waits for news.
func TestWaitLooksFirst(t *testing.T) {
	var b blockedNote
	if d := b.patience(); d != 0 {
		t.Errorf("the first answer is waited for for %s", d)
	}
	b.look("")
	if d := b.patience(); d != cli.WaitPoll {
		t.Errorf("then it waits for %s", d)
	}
}
