package timeline

import (
	"math"
	"slices"
	"sort"
)

// Query asks for a picture of a time.
type Query struct {
	From, To int64 // ms
	Columns  int
	// Rows are the machines that have a row whatever happened on them, with their slots, in the
	// order wanted. Others that something happened on come after them, unless Only.
	Rows []Row
	Only bool
	// Spans is how many attempts may be given one by one; when there are more, none is.
	Spans int
}

// Row is a machine.
type Row struct {
	Machine string
	Slots   int // 0: not known any more
	// Shares has, for each outcome, how much of each column's time the machine's slots were busy
	// with attempts that came to it: 0 not at all, MaxShare all the time, and at least 1 when it
	// was busy at all. An outcome without any has none.
	Shares [outcomes][]byte
}

// MaxShare is all of a column's time.
const MaxShare = 15

// Picture is the answer: rows, and the attempts themselves when they are few.
type Picture struct {
	Rows  []Row
	Spans []Span // by start; nil when there are too many
	Total int    // attempts in this time
}

// Draw draws what a view has, and the attempts under way.
func (v View) Draw(q Query, running []Span) Picture {
	p := painter{
		q:     q,
		rows:  q.Rows,
		at:    map[string]int{},
		width: float64(q.To-q.From) / float64(max(q.Columns, 1)),
	}
	for i, r := range q.Rows {
		p.at[r.Machine] = i
	}
	p.busy = make([][outcomes][]float32, len(q.Rows))
	var picture Picture
	take := func(s Span) {
		row, ok := p.row(s.Machine)
		if !ok {
			return
		}
		p.add(row, s.Start, s.End, s.Outcome)
		if picture.Total++; picture.Total <= q.Spans {
			picture.Spans = append(picture.Spans, s)
		}
	}
	numbers := make(
		[]int,
		len(v.names),
	) // the rows by number: a name is looked up once, not for each span
	v.each(q.From, q.To, func(s span) bool {
		n := s.number()
		if numbers[n] == 0 {
			numbers[n] = -1
			if row, ok := p.row(v.names[n]); ok {
				numbers[n] = row + 1
			}
		}
		if numbers[n] < 0 {
			return true
		}
		p.add(numbers[n]-1, s.start, s.end(), s.outcome())
		if picture.Total++; picture.Total <= q.Spans {
			picture.Spans = append(picture.Spans, v.open(s))
		}
		return true
	})
	for _, s := range running {
		if s.Start < q.To && s.End > q.From {
			take(s)
		}
	}
	picture.Rows = p.finish()
	if picture.Total > q.Spans {
		picture.Spans = nil
	}
	sort.Slice(picture.Spans, func(i, k int) bool {
		a, b := &picture.Spans[i], &picture.Spans[k]
		return a.Start < b.Start || a.Start == b.Start && a.Job < b.Job
	})
	return picture
}

// painter adds up how long each row was busy in each column.
type painter struct {
	q     Query
	width float64 // of a column, ms
	rows  []Row
	at    map[string]int // rows by machine
	busy  [][outcomes][]float32
}

func (p *painter) row(machine string) (int, bool) {
	i, ok := p.at[machine]
	if !ok {
		if p.q.Only {
			return 0, false
		}
		i = len(p.rows)
		p.at[machine] = i
		p.rows = append(slices.Clip(p.rows), Row{Machine: machine})
		p.busy = append(p.busy, [outcomes][]float32{})
	}
	return i, true
}

// add spreads an attempt over the columns that it touches.
func (p *painter) add(row int, start, end int64, o Outcome) {
	columns := p.busy[row][o]
	if columns == nil {
		columns = make([]float32, p.q.Columns)
		p.busy[row][o] = columns
	}
	a := float64(max(start-p.q.From, 0)) / p.width
	b := float64(min(end, p.q.To)-p.q.From) / p.width
	first := min(int(a), len(columns)-1)
	last := min(int(b), len(columns)-1)
	if first == last {
		columns[first] += float32(b - a)
		return
	}
	columns[first] += float32(float64(first+1) - a)
	for i := first + 1; i < last; i++ {
		columns[i]++
	}
	columns[last] += float32(b - float64(last))
}

// finish makes shares of the times.
func (p *painter) finish() []Row {
	rows := make([]Row, len(p.rows))
	copy(rows, p.rows)
	for i := range rows {
		slots := float64(max(rows[i].Slots, 1))
		for o, columns := range p.busy[i] {
			if columns == nil {
				continue
			}
			shares := make([]byte, len(columns))
			for k, busy := range columns {
				if busy > 0 {
					// Rounded, but what is there at all is seen.
					shares[k] = byte(
						min(max(math.Round(float64(busy)/slots*MaxShare), 1), MaxShare),
					)
				}
			}
			rows[i].Shares[o] = shares
		}
	}
	return rows
}
