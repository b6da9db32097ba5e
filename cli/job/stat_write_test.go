package job

import (
	"encoding/json"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"jobserver/api"
	"jobserver/cli"
	"jobserver/cli/show"
	"jobserver/daemon/wire"
	"jobserver/sched"
	"jobserver/sched/statepb"
	"jobserver/view"
)

// TestStatJSON: what is written without reflection is what encoding/json writes.
func TestStatJSON(t *testing.T) {
	values := []any{
		"", "plain text, with: signs/and 'quotes'", `"`, `\`, "<&>", "tab\t", "line\n", "\x00",
		"\x7f", "ä", "\xff", "\u2028",
		uint64(0), uint64(math.MaxUint64), int64(math.MinInt64), -7, 0.1, 1e21,
		[]string{"a", "<b>"}, map[string]string{"B": "2", "A": "\"1"},
	}
	for _, value := range values {
		want, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		got, err := appendJSON([]byte("x"), value)
		if err != nil || string(got) != "x"+string(want) {
			t.Errorf("%q: %s, %v; want %s", value, got, err, want)
		}
	}
}

// TestStatFormats: the rows of several pages are one listing.
func TestStatFormats(t *testing.T) {
	pages := [][][]statCell{
		{{{"jid", uint64(1)}, {"cmd", "a\tb"}}, {{"jid", uint64(2)}, {"cmd", nil}}},
		{{{"jid", uint64(3)}, {"cmd", `say "x"`}}},
	}
	tests := []struct {
		format view.Format
		header bool
		want   string
		none   string
	}{
		{view.JSON, true, `[{"jid":1,"cmd":"a\tb"},` + "\n" + `{"jid":2},` + "\n" +
			`{"jid":3,"cmd":"say \"x\""}]` + "\n", "[]\n"},
		{view.JSONL, true, `{"jid":1,"cmd":"a\tb"}` + "\n" + `{"jid":2}` + "\n" +
			`{"jid":3,"cmd":"say \"x\""}` + "\n", ""},
		{view.CSV, true, "jid,cmd\n1,a\tb\n2,\n3,\"say \"\"x\"\"\"\n", "jid,cmd\n"},
		{view.CSV, false, "1,a\tb\n2,\n3,\"say \"\"x\"\"\"\n", ""},
		{view.Table, true, "jid\tcmd\n1\ta b\n2\t\n3\tsay \"x\"\n", "jid\tcmd\n"},
		{view.Table, false, "1\ta b\n2\t\n3\tsay \"x\"\n", ""},
	}
	for _, test := range tests {
		for _, empty := range []bool{false, true} {
			var out strings.Builder
			w := newStatWriter(&out, view.Options{Format: test.format, NoHeader: !test.header},
				[]statColumn{{name: "jid"}, {name: "cmd"}})
			want := test.none
			if !empty {
				want = test.want
				for _, page := range pages {
					if err := w.write(page); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := w.close(); err != nil {
				t.Fatal(err)
			}
			if out.String() != want {
				t.Errorf("%s, header %v, empty %v:\n%s\nwant:\n%s", test.format, test.header, empty,
					out.String(), want)
			}
		}
	}
}

// TestStatOnATerminal: what a terminal would act on is shown there, and is what it is in a file or
// a pipe.
func TestStatOnATerminal(t *testing.T) {
	const cmd = "echo \x1b]0;title\a \u009b31m \u202e"
	for _, test := range []struct {
		format   view.Format
		terminal bool
		want     string
	}{
		{view.Table, true, `echo ␛]0;title␇ \u009b31m \u202e` + "\n"},
		{view.Table, false, cmd + "\n"},
		{view.CSV, true, `echo ␛]0;title␇ \u009b31m \u202e` + "\n"},
		{view.CSV, false, cmd + "\n"},
		{view.JSONL, true, `{"cmd":"echo \u001b]0;title\u0007 \u009b31m \u202e"}` + "\n"},
		{view.JSONL, false, `{"cmd":"echo \u001b]0;title\u0007 ` + "\u009b31m \u202e" + `"}` +
			"\n"},
	} {
		var out strings.Builder
		w := newStatWriter(&out,
			view.Options{Format: test.format, NoHeader: true,
				Screen: view.Screen{Terminal: test.terminal}}, nil)
		err := w.write([][]statCell{{{"cmd", cmd}}})
		if err == nil {
			err = w.close()
		}
		if err != nil || out.String() != test.want {
			t.Errorf("%s, terminal %v: %q, %v; want %q", test.format, test.terminal, out.String(),
				err, test.want)
		}
	}
}

// BenchmarkListing is a page of 1,000 ended jobs: what the daemon makes of their records, and what
// the client prints of that.
func BenchmarkListing(b *testing.B) {
	const page = 1000
	rec := &statepb.Job{
		Id: 17, Class: "cluster", Cmd: []byte("python train.py --rate {RATE}"), Status: sched.Done,
		SubmittedAt: 1, EndedAt: 2, Matrix: 3, Cell: 4,
		Vars: []*statepb.Var{{Name: "RATE", Value: []byte("0.1")}},
		Attempts: []*statepb.Attempt{{
			Number: 1, Machine: "user@node000", Cause: statepb.Cause_EXITED, StartedAt: 1,
			EndedAt: 2, Duration: 1e9, UserCpu: 1e9, MaxRss: 1 << 20,
			CmdRun: []byte("python train.py --rate 0.1"),
		}},
	}
	const logs = "/home/user/.local/state/jobserver/logs"
	state := sched.NewState()
	b.Run("daemon", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			for range page {
				wire.Job(state, logs, rec, true)
			}
		}
	})
	jobs := make([]api.Job, page)
	for i := range jobs {
		jobs[i] = wire.Job(state, logs, rec, true)
	}
	b.Run("stat", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			rows, err := mapJobs(b.Context(), nil, &Stat{}, statColumns(), jobs)
			if err == nil {
				err = newStatWriter(io.Discard, view.Options{Format: view.JSON}, statColumns()).
					write(rows)
			}
			if err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("ls", func(b *testing.B) {
		e := &cli.Env{Now: func() time.Time { return time.Unix(1_700_000_000, 0) }}
		b.ReportAllocs()
		for b.Loop() {
			if err := show.WriteListing(io.Discard, e, &show.Listing{Jobs: jobs}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
