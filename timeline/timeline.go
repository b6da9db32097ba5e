// Package timeline keeps when attempts ran, and draws machines against time.
//
// An Index takes 24 bytes an attempt that has ended, in the order in which they ended. What is in
// it never changes, so that a View, a prefix of it, is read while more comes, without a lock.
// Attempts under way aren't in the index: whoever asks brings them along.
//
// The package is pure: it has no clock and does no I/O.
package timeline

import (
	"sort"
	"sync"
)

// Outcome tells how an attempt ended.
type Outcome uint8

// The outcomes, the more remarkable ones last.
const (
	Running Outcome = iota
	Done
	Canceled
	Lost
	Failed
	outcomes = iota
)

// Span is an attempt in time. Times are milliseconds since 1970.
type Span struct {
	Job        uint64 // below 2⁶⁰
	Attempt    int    // 1,023 stands for all above
	Machine    string
	Start, End int64 // of one that runs, End is the time of asking
	Outcome    Outcome
}

// Index is the memory of attempts that have ended. It may be used by several goroutines.
type Index struct {
	mu      sync.Mutex
	spans   []span
	blocks  []block
	names   []string
	numbers map[string]uint32
}

// span is a Span in 24 bytes.
type span struct {
	start   int64  // ms
	job     uint64 // the outcome in the upper 4 bits
	length  uint32 // in 10 ms: up to 497 days
	machine uint32 // a number in the upper 22 bits, the attempt in the lower 10
}

const (
	outcomeShift = 60
	machineShift = 10
	maxAttempt   = 1<<machineShift - 1
	maxMachines  = 1 << (32 - machineShift)
	lengthUnit   = 10
)

func (s span) end() int64       { return s.start + int64(s.length)*lengthUnit }
func (s span) outcome() Outcome { return Outcome(s.job >> outcomeShift) }
func (s span) number() uint32   { return s.machine >> machineShift }

// block says of blockSpans spans that follow each other what is needed to pass over them.
type block struct {
	first int64 // the earliest start among them
	last  int64 // the latest end among them, and of all before
}

const blockSpans = 1024

// New is an empty index.
func New() *Index { return &Index{numbers: map[string]uint32{}} }

// Add takes an attempt that has ended. They should come in the order of their ends; others are
// found as well, with more to look at.
func (x *Index) Add(s Span) {
	x.mu.Lock()
	defer x.mu.Unlock()
	number, ok := x.numbers[s.Machine]
	if !ok {
		if len(x.names) == maxMachines {
			return // four million addresses: nobody draws them
		}
		number = uint32(len(x.names))
		x.names = append(x.names, s.Machine)
		x.numbers[s.Machine] = number
	}
	length := uint64(max(s.End-s.Start, 1)+lengthUnit-1) / lengthUnit
	packed := span{
		start: s.Start, job: s.Job&(1<<outcomeShift-1) | uint64(s.Outcome)<<outcomeShift,
		length:  uint32(min(length, 1<<32-1)),
		machine: number<<machineShift | uint32(min(max(s.Attempt, 0), maxAttempt)),
	}
	if len(x.spans)%blockSpans == 0 {
		b := block{first: s.Start}
		if n := len(x.blocks); n > 0 {
			b.last = x.blocks[n-1].last
		}
		x.blocks = append(x.blocks, b)
	}
	x.spans = append(x.spans, packed)
	b := &x.blocks[len(x.blocks)-1]
	b.first, b.last = min(b.first, packed.start), max(b.last, packed.end())
}

// View gives what the index has at present. It stays as it is.
func (x *Index) View() View {
	x.mu.Lock()
	defer x.mu.Unlock()
	v := View{spans: x.spans, names: x.names, blocks: x.blocks}
	if n := len(x.blocks); n > 0 {
		v.blocks, v.tail = x.blocks[:n-1], x.blocks[n-1] // the last one changes with the next span
	}
	return v
}

// View is an index as it was at one time.
type View struct {
	spans  []span
	names  []string
	blocks []block
	tail   block
}

func (v View) block(i int) block {
	if i == len(v.blocks) {
		return v.tail
	}
	return v.blocks[i]
}

// each visits the spans that touch the time from..to, until visit returns false.
func (v View) each(from, to int64, visit func(span) bool) {
	n := (len(v.spans) + blockSpans - 1) / blockSpans
	i := sort.Search(n, func(i int) bool { return v.block(i).last > from })
	for ; i < n; i++ {
		if v.block(i).first >= to {
			continue
		}
		for _, s := range v.spans[i*blockSpans : min((i+1)*blockSpans, len(v.spans))] {
			if s.start < to && s.end() > from && !visit(s) {
				return
			}
		}
	}
}

// Bounds are the first start and the last end; ok is false without any attempt.
func (v View) Bounds() (first, last int64, ok bool) {
	if len(v.spans) == 0 {
		return 0, 0, false
	}
	first, last = v.tail.first, v.tail.last
	for _, b := range v.blocks {
		first, last = min(first, b.first), max(last, b.last)
	}
	return first, last, true
}

// Without leaves out those of the attempts under way that have ended meanwhile: the view has them.
func (v View) Without(running []Span) []Span {
	type attempt struct {
		job    uint64
		number int
	}
	ended := map[attempt]bool{}
	for _, s := range v.spans[max(len(v.spans)-newest, 0):] {
		ended[attempt{s.job & (1<<outcomeShift - 1), int(s.machine & maxAttempt)}] = true
	}
	left := make([]Span, 0, len(running))
	for _, s := range running {
		if !ended[attempt{s.Job, min(s.Attempt, maxAttempt)}] {
			left = append(left, s)
		}
	}
	return left
}

// newest is how many attempts may have ended while somebody asked which run.
const newest = 4096

func (v View) open(s span) Span {
	return Span{
		Job:     s.job & (1<<outcomeShift - 1),
		Attempt: int(s.machine & maxAttempt),
		Machine: v.names[s.number()],
		Start:   s.start,
		End:     s.end(),
		Outcome: s.outcome(),
	}
}
