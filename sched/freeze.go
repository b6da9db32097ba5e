package sched

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"jobserver/sched/statepb"
)

// indexChunk is how many ids one record of the index describes.
const indexChunk = 1 << 16

// What a step of freezing does at most: one or two milliseconds.
const (
	freezeJobs  = 500     // encoded
	freezeLooks = 100_000 // ids looked at
)

// Frozen is the durable state as it was at one moment, on its way to a snapshot. While it is made,
// step by step, the state may be read, and must not change; then it is written while the state goes
// on. What is small is encoded at once; history's blocks never change, and are shared.
type Frozen struct {
	s       *State
	records [][]byte
	room    []byte // that the records are in, the newest of them at the end
	first   uint64 // the next id whose place in the index is to be encoded
	next    uint64 // the next id whose job is to be looked at
	jobs    int    // live ones encoded so far
	blocks  [][]byte
	left    []int
	failed  error
}

// Freeze begins to freeze the state. Step goes on with it.
func (s *State) Freeze() *Frozen {
	f := &Frozen{s: s, next: 1, blocks: slices.Clone(s.history.blocks),
		left: slices.Clone(s.history.left)}
	f.put(&statepb.Record{State: &statepb.State{NextId: s.nextID, Changes: s.changes, At: s.at}})
	if err := s.freezeTables(func(r *statepb.Record) error {
		f.put(r)
		return f.failed
	}); err != nil {
		f.failed = err
	}
	return f
}

// put encodes a record.
func (f *Frozen) put(r *statepb.Record) {
	const roomBytes = 1 << 20
	if size := proto.Size(r); cap(f.room)-len(f.room) < size {
		f.room = make([]byte, 0, max(size, roomBytes))
	}
	at := len(f.room)
	room, err := proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(f.room, r)
	if err != nil {
		f.failed = err
		return
	}
	f.room = room
	f.records = append(f.records, room[at:len(room):len(room)])
}

// Step does a piece of the work, and says whether that was the last one.
func (f *Frozen) Step() (done bool) {
	s := f.s
	if f.failed != nil {
		return true
	}
	if x := s.index; f.first < uint64(len(x.mark)) {
		end := min(f.first+indexChunk, uint64(len(x.mark)))
		r := &statepb.Index{
			First: f.first, Status: x.mark[f.first:end], Class: x.class[f.first:end],
			Machine: x.machine[f.first:end], Place: x.place[f.first:end],
		}
		if f.first == 0 {
			r.Names = x.names
		}
		f.first = end
		f.put(&statepb.Record{Index: r})
		return false
	}
	put := 0
	for looks := freezeLooks; f.next < s.nextID && looks > 0 && put < freezeJobs; looks-- {
		if status := s.Status(f.next); status != 0 && !Final(status) {
			if j := s.live[f.next]; j != nil {
				f.put(&statepb.Record{Job: j.Job})
				put++
			}
		}
		f.next++
	}
	f.jobs += put
	if f.next < s.nextID {
		return false
	}
	if f.jobs != len(s.live) {
		f.failed = fmt.Errorf("the index knows %d of %d live jobs", f.jobs, len(s.live))
	}
	for _, j := range s.history.pending { // not in a block yet
		f.put(&statepb.Record{Job: j})
	}
	return true
}

// Write passes the records of a snapshot to yield, in an order that Restore understands. Step has
// said that all of them are there.
func (f *Frozen) Write(yield func([]byte) error) error {
	if f.failed != nil {
		return f.failed
	}
	yield = inPieces(yield)
	for _, b := range f.records {
		if err := yield(b); err != nil {
			return err
		}
	}
	for i, data := range f.blocks {
		if data == nil {
			continue
		}
		b, err := proto.Marshal(&statepb.Record{Block: &statepb.Block{Number: uint32(i),
			Data: data, Count: uint32(f.left[i])}})
		if err != nil {
			return err
		}
		if err := yield(b); err != nil {
			return err
		}
	}
	return nil
}
