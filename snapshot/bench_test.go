package snapshot

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

func benchmarkCommit(b *testing.B, batch int) {
	s, _, err := Open(b.TempDir(), Options{Reserve: -1})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	recs := make([][]byte, batch)
	for i := range recs {
		recs[i] = bytes.Repeat([]byte{byte(i)}, 200)
	}
	b.SetBytes(int64(200 * batch))
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Commit(recs); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*batch)/b.Elapsed().Seconds(), "records/s")
}

// BenchmarkCommit1 is the price of one durable change of 200 bytes.
func BenchmarkCommit1(b *testing.B) { benchmarkCommit(b, 1) }

// BenchmarkCommitBatch commits 10,000 in one batch.
func BenchmarkCommitBatch(b *testing.B) { benchmarkCommit(b, 10_000) }

// BenchmarkReplay reads a snapshot of 64 MiB and a journal of 16 MiB, in records
// of 424 bytes, as Open and Replay do. Half of each record compresses.
func BenchmarkReplay(b *testing.B) {
	dir := b.TempDir()
	s, _, err := Open(dir, Options{Reserve: -1})
	if err != nil {
		b.Fatal(err)
	}
	const size, inSnapshot, inJournal = 424, 64 << 20 / 424, 16 << 20 / 424
	rng := rand.New(rand.NewPCG(1, 2))
	record := func() []byte {
		rec := make([]byte, size)
		for i := range size / 2 {
			rec[i] = byte(rng.Uint32())
		}
		return rec
	}
	m, err := s.Rotate()
	if err != nil {
		b.Fatal(err)
	}
	err = s.WriteSnapshot(m, func(yield func([]byte) error) error {
		for range inSnapshot {
			if err := yield(record()); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	for range 100 {
		recs := make([][]byte, inJournal/100)
		for i := range recs {
			recs[i] = record()
		}
		if err := s.Commit(recs); err != nil {
			b.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	b.SetBytes((inSnapshot + inJournal) * size)
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		count := func([]byte) error { n++; return nil }
		s, r, err := Open(dir, Options{Reserve: -1})
		if err != nil {
			b.Fatal(err)
		}
		if err := r.Replay(count, count); err != nil {
			b.Fatal(err)
		}
		if n < inSnapshot+inJournal/100*100 {
			b.Fatalf("%d records", n)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
