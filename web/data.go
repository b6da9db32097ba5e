package web

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"jobserver/api"
	"jobserver/live"
)

// What pages ask for. JSON has the names of the command line's.

// state has what every page shows of the daemon.
type state struct {
	Version  uint64     `json:"version"`
	Online   bool       `json:"online"`
	Error    string     `json:"error,omitempty"`
	Hint     string     `json:"hint,omitempty"`
	Status   api.Status `json:"status"`
	Rate     live.Rate  `json:"rate"`
	ReadOnly bool       `json:"read_only,omitempty"`
	Name     string     `json:"name"`
	Program  string     `json:"program"` // version of the one that serves the page
	Now      time.Time  `json:"now"`     // of its clock: the browser's may be another
}

func (s *server) stateOf(l live.State) state {
	return state{
		Version:  l.Version,
		Online:   l.Online,
		Error:    l.Error,
		Hint:     l.Hint,
		Status:   l.Status,
		Rate:     l.Rate,
		ReadOnly: s.ReadOnly,
		Name:     s.Name,
		Program:  s.Options.Version,
		Now:      s.Now(),
	}
}

func (s *server) getState(*http.Request) (any, error) { return s.stateOf(s.Follower.Now()), nil }

// query reads the parameters of a request, and remembers the first that is wrong.
type query struct {
	url.Values
	err error
}

func queryOf(r *http.Request) *query { return &query{Values: r.URL.Query()} }

func (q *query) number(name string, least, most int64) int64 {
	text := q.Get(name)
	if text == "" {
		return 0
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if (err != nil || n < least || n > most) && q.err == nil {
		q.err = api.Errorf(
			api.Invalid,
			"%s=%s: it must be a number from %d to %d",
			name,
			text,
			least,
			most,
		)
	}
	return n
}

// words are the selectors of a box: the command line's, between blanks.
func (q *query) words(name string) []string {
	var words []string
	for _, text := range q.Values[name] {
		words = append(words, strings.Fields(text)...)
	}
	return words
}

func (q *query) time(name string) time.Time {
	// The years that JSON has a way to write, wherever one is: from 1 to 9999, without a day.
	const day = 86_400_000
	ms := q.number(name, -62_135_596_800_000+day, 253_402_300_799_999-day)
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

func jobID(r *http.Request) (uint64, error) {
	id, err := strconv.ParseUint(r.PathValue("id"), 10, 64)
	if err != nil {
		return 0, api.Errorf(api.Invalid, "%q is not a job's id", r.PathValue("id"))
	}
	return id, nil
}

func (s *server) getJobs(r *http.Request) (any, error) {
	q := queryOf(r)
	args := &api.ListJobsArgs{
		Selectors: q.words(
			"sel",
		),
		Newest: true,
		Light:  true,
		Before: uint64(q.number("before", 0, math.MaxInt64)),
		Limit:  int(q.number("limit", 1, 500)),
	}
	if args.Limit == 0 {
		args.Limit = 200
	}
	if q.err != nil {
		return nil, q.err
	}
	reply, err := live.Ask[api.ListJobsReply](r.Context(), s.Follower, "ListJobs", args)
	if err != nil {
		return nil, err
	}
	rows := make([]rowJob, len(reply.Jobs))
	for i := range reply.Jobs {
		rows[i] = rowOf(&reply.Jobs[i])
	}
	return struct {
		Jobs   []rowJob   `json:"jobs"`
		Next   uint64     `json:"next,omitempty"`
		Counts api.Counts `json:"counts"`
	}{rows, reply.Next, reply.Counts}, nil
}

// orEmpty is a list that isn't null in JSON.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func (s *server) getJob(r *http.Request) (any, error) {
	id, err := jobID(r)
	if err != nil {
		return nil, err
	}
	job, err := live.Ask[api.Job](
		r.Context(),
		s.Follower,
		"Show",
		&api.JIDArgs{Selector: fmt.Sprint(id)},
	)
	if err != nil {
		return nil, err
	}
	said := saidJob{Job: job, Remarks: job.Remarks(), NeedsText: job.Needs.String()}
	for i := range job.Attempts {
		said.GivenTexts = append(said.GivenTexts, api.GivenText(job.Attempts[i].Given))
	}
	return said, nil
}

// saidJob is a job with what the command line says of it.
type saidJob struct {
	*api.Job
	Remarks    []string `json:"remarks,omitempty"`
	NeedsText  string   `json:"needs_text,omitempty"`
	GivenTexts []string `json:"given_texts,omitempty"` // an attempt each
}

// rowJob is a job as a row of a table.
type rowJob struct {
	*api.Job
	Remarks []string `json:"remarks,omitempty"`
	Values  string   `json:"values,omitempty"`
}

func rowOf(j *api.Job) rowJob {
	row := rowJob{Job: j, Remarks: j.Remarks()}
	if j.Matrix != 0 { // whose jobs differ by these
		row.Values = strings.Join(j.Values(), " ")
	}
	return row
}

// saidMachine is a machine with what the command line says of it.
type saidMachine struct {
	*api.Machine
	Remarks []string `json:"remarks,omitempty"`
}

// getResources lists what the pool has beside machines.
func (s *server) getResources(r *http.Request) (any, error) {
	reply, err := live.Ask[api.ListResourcesReply](
		r.Context(),
		s.Follower,
		"ListResources",
		&api.Empty{},
	)
	if err != nil {
		return nil, err
	}
	return struct {
		Resources []api.Resource `json:"resources"`
	}{orEmpty(reply.Resources)}, nil
}

func (s *server) getWhy(r *http.Request) (any, error) {
	id, err := jobID(r)
	if err != nil {
		return nil, err
	}
	return live.Ask[api.WhyReply](
		r.Context(),
		s.Follower,
		"Why",
		&api.JIDArgs{Selector: fmt.Sprint(id)},
	)
}

func (s *server) getWhyMany(r *http.Request) (any, error) {
	q := queryOf(r)
	return live.Ask[api.WhyManyReply](
		r.Context(),
		s.Follower,
		"WhyMany",
		&api.WhyManyArgs{Selectors: q.words("sel")},
	)
}

func (s *server) getMachines(r *http.Request) (any, error) {
	q := queryOf(r)
	args := &api.ListMachinesArgs{
		MachineSelector: api.MachineSelector{Addrs: q.Values["addr"], Classes: q.Values["class"]},
	}
	reply, err := live.Ask[api.ListMachinesReply](r.Context(), s.Follower, "ListMachines", args)
	if err != nil {
		return nil, err
	}
	machines := make([]saidMachine, len(reply.Machines))
	for i := range reply.Machines {
		machines[i] = saidMachine{&reply.Machines[i], reply.Machines[i].Remarks()}
	}
	return struct {
		Machines []saidMachine `json:"machines"`
	}{machines}, nil
}

func (s *server) getMatrices(r *http.Request) (any, error) {
	reply, err := live.Ask[api.ListMatricesReply](
		r.Context(),
		s.Follower,
		"ListMatrices",
		&api.ListMatricesArgs{Light: true},
	)
	if err != nil {
		return nil, err
	}
	return struct {
		Matrices []api.Matrix `json:"matrices"`
	}{orEmpty(reply.Matrices)}, nil
}

func (s *server) getMatrix(r *http.Request) (any, error) {
	args := &api.ListMatricesArgs{Name: r.PathValue("id"), Light: true}
	reply, err := live.Ask[api.ListMatricesReply](r.Context(), s.Follower, "ListMatrices", args)
	if err != nil {
		return nil, err
	}
	return reply.Matrices[0], nil
}

// getCell says which job counts for a cell.
func (s *server) getCell(r *http.Request) (any, error) {
	q := queryOf(r)
	args := &api.MatrixMapArgs{
		Matrix: r.PathValue("id"),
		From:   int(q.number("cell", 0, math.MaxInt32)),
		Max:    1,
	}
	if q.err != nil {
		return nil, q.err
	}
	reply, err := live.Ask[api.MatrixMapReply](r.Context(), s.Follower, "MatrixMap", args)
	if err != nil {
		return nil, err
	}
	if reply.JID == 0 {
		return nil, api.Errorf(api.NotFound, "the matrix has no cell %d", args.From)
	}
	return struct {
		JID uint64 `json:"jid"`
	}{reply.JID}, nil
}

func (s *server) getTimeline(r *http.Request) (any, error) {
	q := queryOf(r)
	args := &api.TimelineArgs{
		From:     q.time("from"),
		To:       q.time("to"),
		Columns:  int(q.number("columns", 1, 2000)),
		Classes:  q.Values["class"],
		Machines: q.Values["machine"],
		Spans:    int(q.number("spans", 0, 5000)),
		Clip:     q.Get("clip") != "",
		Wait:     3 * time.Second,
	}
	if q.err != nil {
		return nil, q.err
	}
	reply, err := live.Ask[api.TimelineReply](r.Context(), s.Follower, "Timeline", args)
	if err != nil {
		return nil, err
	}
	return timelineJSON(reply), nil
}

// timelineJSON has times as milliseconds, and rows as base64.
func timelineJSON(t *api.TimelineReply) any {
	type absence struct {
		Machine string `json:"machine"`
		From    int64  `json:"from"`
		To      int64  `json:"to,omitempty"`
	}
	ms := func(t time.Time) int64 {
		if t.IsZero() {
			return 0
		}
		return t.UnixMilli()
	}
	absent := []absence{}
	for _, a := range t.Absent {
		absent = append(absent, absence{a.Machine, ms(a.From), ms(a.To)})
	}
	rows := []map[string]any{}
	for i := range t.Rows {
		row := map[string]any{
			"machine": t.Rows[i].Machine,
			"class":   t.Rows[i].Class,
			"slots":   t.Rows[i].Slots,
		}
		for name, bytes := range map[string][]byte{
			"running": t.Rows[i].Running, "done": t.Rows[i].Done, "canceled": t.Rows[i].Canceled,
			"lost": t.Rows[i].Lost, "failed": t.Rows[i].Failed,
		} {
			if bytes != nil {
				row[name] = bytes
			}
		}
		rows = append(rows, row)
	}
	var spans [][]any // shorter than objects, as there may be thousands
	for i := range t.Spans {
		sp := &t.Spans[i]
		spans = append(spans, []any{sp.Machine, sp.JID, sp.Attempt, sp.Start, sp.End, sp.Status})
	}
	return map[string]any{
		"ready":    t.Ready,
		"from":     ms(t.From),
		"to":       ms(t.To),
		"first":    ms(t.First),
		"columns":  t.Columns,
		"total":    t.Total,
		"rows":     rows,
		"spans":    spans,
		"machines": t.Machines,
		"since":    ms(t.Since),
		"absent":   absent,
	}
}

// shownEvents is how many of the newest events are listed.
const shownEvents = 300

func (s *server) getEvents(r *http.Request) (any, error) {
	newest := s.Follower.Now().Status.Cursor
	// Not every change has an event: more of them are looked at than are shown.
	args := &api.EventsArgs{Since: newest - min(newest, 4*shownEvents), Max: 4 * shownEvents}
	reply, err := live.Ask[api.EventsReply](r.Context(), s.Follower, "Events", args)
	if err != nil {
		return nil, err
	}
	events := reply.Events[max(len(reply.Events)-shownEvents, 0):]
	return struct {
		Events []api.Event `json:"events"`
	}{orEmpty(events)}, nil
}

// log sends bytes of a log; headers say what they are.
func (s *server) log(w http.ResponseWriter, r *http.Request) error {
	id, err := jobID(r)
	if err != nil {
		return err
	}
	q := queryOf(r)
	args := &api.LogArgs{
		JID:     id,
		Attempt: int(q.number("attempt", 0, math.MaxInt32)),
		Step:    int(q.number("step", 0, math.MaxInt32)),
		Stderr: q.Get(
			"stderr",
		) != "",
		Offset: q.number("offset", 0, math.MaxInt64),
		Tail:   q.number("tail", 0, 1<<20),
		Max: int(
			q.number("max", 1, 1<<20),
		),
		Wait: time.Duration(q.number("wait", 0, 25)) * time.Second,
	}
	if q.err != nil {
		return q.err
	}
	reply, err := live.Wait[api.LogReply](r.Context(), s.Follower, "JobLog", args)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("X-Offset", fmt.Sprint(reply.Offset))
	h.Set("X-Size", fmt.Sprint(reply.Size))
	h.Set("X-Attempt", fmt.Sprint(reply.Attempt))
	h.Set("X-Eof", fmt.Sprint(reply.EOF))
	h.Set("X-Status", reply.Status)
	h.Set("Content-Type", "application/octet-stream")
	return writeBody(w, r, http.StatusOK, reply.Data)
}

// matrixMap sends a byte for each cell, and with a metric eight more, a float64, after all of
// these.
func (s *server) matrixMap(w http.ResponseWriter, r *http.Request) error {
	q := queryOf(r)
	args := &api.MatrixMapArgs{
		Matrix: r.PathValue("id"),
		From:   int(q.number("from", 0, math.MaxInt32)),
		Metric: q.Get("metric"),
	}
	if q.err != nil {
		return q.err
	}
	reply, err := live.Ask[api.MatrixMapReply](r.Context(), s.Follower, "MatrixMap", args)
	if err != nil {
		return err
	}
	body := append([]byte(nil), reply.Status...)
	for _, v := range reply.Values {
		body = binary.LittleEndian.AppendUint64(body, math.Float64bits(v))
	}
	h := w.Header()
	h.Set("X-Cells", fmt.Sprint(reply.Cells))
	h.Set("X-Next", fmt.Sprint(reply.Next))
	h.Set("X-Here", fmt.Sprint(len(reply.Status)))
	h.Set("X-Unit", url.QueryEscape(reply.Unit))
	h.Set("X-Metrics", url.QueryEscape(strings.Join(reply.Names, ",")))
	h.Set("Content-Type", "application/octet-stream")
	return writeBody(w, r, http.StatusOK, body)
}
