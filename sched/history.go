package sched

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/proto"

	"jobserver/sched/statepb"
)

// What makes a block of ended jobs: so many, or fewer with so many bytes. A block is the unit of
// compression and of decoding: large enough to compress well (records of one matrix resemble each
// other), small enough to decode in about a millisecond.
const (
	blockJobs  = 256
	blockBytes = 1 << 20
)

// cachedBlocks is how many decompressed blocks are kept for readers that page through history.
const cachedBlocks = 8

// history holds the ended jobs in compressed blocks. They are decoded one by one, when asked for.
type history struct {
	blocks  [][]byte // compressed; nil when none of its jobs is left
	left    []int    // jobs left in each block
	pending []*statepb.Job
	bytes   int                 // of the records of pending
	at      map[uint64]int      // of pending: job to position
	cache   map[uint32][][]byte // the records of blocks
	order   []uint32            // of the cache, oldest first
	enc     *zstd.Encoder
	dec     *zstd.Decoder
}

func newHistory() *history {
	// The options are constant and valid, so neither can fail.
	enc, _ := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1),
		zstd.WithEncoderLevel(zstd.SpeedFastest))
	dec, _ := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(1<<30))
	return &history{at: map[uint64]int{}, cache: map[uint32][][]byte{}, enc: enc, dec: dec}
}

// put takes an ended job. When that fills a block, it gives the places of the block's jobs.
func (h *history) put(j *statepb.Job) (full []*statepb.Job, first uint32, err error) {
	h.at[j.Id] = len(h.pending)
	h.pending = append(h.pending, j)
	h.bytes += proto.Size(j)
	if len(h.pending) < blockJobs && h.bytes < blockBytes {
		return nil, 0, nil
	}
	var raw []byte
	for _, p := range h.pending {
		raw = binary.AppendUvarint(raw, uint64(proto.Size(p)))
		if raw, err = (proto.MarshalOptions{UseCachedSize: true}).MarshalAppend(raw,
			p); err != nil {
			return nil, 0, fmt.Errorf("encode job %d: %w", p.Id, err)
		}
	}
	full = h.pending
	first = 1 + uint32(len(h.blocks))*blockJobs
	// The encoder's result has room for a block that can't be compressed; a history is kept for
	// ever.
	h.blocks = append(h.blocks, bytes.Clone(h.enc.EncodeAll(raw, nil)))
	h.left = append(h.left, len(full))
	h.pending, h.bytes, h.at = nil, 0, map[uint64]int{}
	return full, first, nil
}

// get decodes the job at a place in the blocks.
func (h *history) get(place uint32) (*statepb.Job, error) {
	raw, err := h.raw(place)
	if err != nil {
		return nil, err
	}
	j := new(statepb.Job)
	if err := proto.Unmarshal(raw, j); err != nil {
		return nil, fmt.Errorf("decode job %d of block %d of history: %w", (place-1)%blockJobs,
			(place-1)/blockJobs, err)
	}
	return j, nil
}

// raw gives the record at a place in the blocks, encoded. It is valid until the next call.
func (h *history) raw(place uint32) ([]byte, error) {
	block, pos := (place-1)/blockJobs, (place-1)%blockJobs
	records, ok := h.cache[block]
	if !ok {
		var err error
		if records, err = h.open(block); err != nil {
			return nil, err
		}
		if len(h.order) == cachedBlocks {
			delete(h.cache, h.order[0])
			h.order = h.order[1:]
		}
		h.cache[block] = records
		h.order = append(h.order, block)
	}
	if int(pos) >= len(records) {
		return nil, fmt.Errorf("block %d of history ends at job %d of it", block, len(records))
	}
	return records[pos], nil
}

// open decompresses a block into its records.
func (h *history) open(block uint32) ([][]byte, error) {
	if int(block) >= len(h.blocks) || h.blocks[block] == nil {
		return nil, fmt.Errorf("history has no block %d", block)
	}
	raw, err := h.dec.DecodeAll(h.blocks[block], nil)
	if err != nil {
		return nil, fmt.Errorf("decode block %d of history: %w", block, err)
	}
	records := make([][]byte, 0, blockJobs)
	for len(raw) > 0 {
		size, n := binary.Uvarint(raw)
		if n <= 0 || size > uint64(len(raw)-n) {
			return nil, fmt.Errorf("block %d of history is cut off in job %d of it", block,
				len(records))
		}
		records = append(records, raw[n:n+int(size)])
		raw = raw[n+int(size):]
	}
	return records, nil
}

// drop forgets the job at a place; a block without jobs goes.
func (h *history) drop(place uint32) {
	block := (place - 1) / blockJobs
	if h.left[block]--; h.left[block] == 0 {
		h.blocks[block] = nil
	}
}

// take removes a pending job.
func (h *history) take(id uint64) (*statepb.Job, bool) {
	i, ok := h.at[id]
	if !ok {
		return nil, false
	}
	j := h.pending[i]
	h.bytes -= proto.Size(j)
	last := len(h.pending) - 1
	h.pending[i] = h.pending[last]
	h.at[h.pending[i].Id] = i
	h.pending = h.pending[:last]
	delete(h.at, id)
	return j, true
}

// index has a few bytes for every id that was ever given out, so that counting, selecting and
// finding need no record. A matrix's waiting cells are in it though they have no record.
type index struct {
	mark  []uint8  // status | results<<4; 0: no job
	class []uint32 // into names
	// of the newest attempt, into names; 0: none. It outlives the job: an id with a machine has had
	// logs
	machine []uint32
	place   []uint32 // in history's blocks; 0: elsewhere
	names   []string
	number  map[string]uint32
	counts  []Counts // of jobs, by the number of their class
}

func newIndex() *index { return &index{names: []string{""}, number: map[string]uint32{"": 0}} }

// grow makes room for ids below n.
func (x *index) grow(n uint64) {
	if int(n) > len(x.mark) {
		x.mark = grown(x.mark, int(n))
		x.class = grown(x.class, int(n))
		x.machine = grown(x.machine, int(n))
		x.place = grown(x.place, int(n))
	}
}

// grown has n elements, the new ones zero. Many at a time get no more memory than they need, few
// have room ahead for those that follow.
func grown[T any](list []T, n int) []T {
	if n-len(list) < len(list)/8 {
		return append(list, make([]T, n-len(list))...)
	}
	return append(make([]T, 0, n), list...)[:n]
}

func (x *index) intern(name string) uint32 {
	n, ok := x.number[name]
	if !ok {
		n = uint32(len(x.names))
		x.names = append(x.names, name)
		x.number[name] = n
	}
	return n
}

// countsOf are the counts of a job's class.
func (x *index) countsOf(id uint64) *Counts {
	class := x.class[id]
	for int(class) >= len(x.counts) {
		x.counts = append(x.counts, Counts{})
	}
	return &x.counts[class]
}

func (x *index) status(id uint64) Status {
	if id >= uint64(len(x.mark)) {
		return 0
	}
	return Status(x.mark[id] & 0x0f)
}
