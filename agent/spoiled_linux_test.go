package agent

import (
	"context"
	"encoding/binary"
	"hash/crc32"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"jobserver/agent/agenttest"
	"jobserver/tests/budget"
)

// spoiledMost is how many bytes the host may take, all in all, for a call and its answer: the
// longest frame several times.
const spoiledMost = 48 << 20

// answersTo are the frames with which an honest agent answers a call.
func answersTo(method byte) []frame {
	done := func(fields func(*coder)) frame { return frame{typeDone, 0, encode(fields)} }
	part := func(payload []byte) frame { return frame{typePart, 0, payload} }
	starts := startReply{Results: []StartResult{{StartedAt: time.Unix(1, 0)}}}
	switch method {
	case methodFacts:
		return []frame{done((&Facts{OS: "linux", Cores: 4, GPUs: []GPU{{ID: "0"}}}).fields)}
	case methodStart, methodPrepare:
		return []frame{done(starts.fields)}
	case methodPoll:
		reply := PollReply{Marks: []Mark{{Kind: Measurement, Text: "x=1"}}, Exit: &sampleExit}
		return []frame{part([]byte{0, 'h', 'i'}), part([]byte{1, '!'}), done(reply.fields)}
	case methodList:
		runs := runInfos{Runs: []RunInfo{{Run: sampleRun, Exit: &sampleExit}, {Run: sampleRun}}}
		return []frame{part(encode(runs.fields)), part(encode(runs.fields)), {typeDone, 0, nil}}
	case methodManifest:
		all := Manifest{Entries: []Entry{{Name: "n", Kind: File, Size: 1}, {Name: "d", Kind: Dir}},
			Missing: []string{"m"}, Errors: []PathError{{Path: "p"}}}
		return []frame{part(encode(all.fields)), part(encode(all.fields)), {typeDone, 0, nil}}
	case methodFetch:
		sum := crc32.Checksum([]byte("abc"), castagnoli())
		end := encode((&Fetched{Bytes: 3, CRC: sum}).fields)
		piece := append([]byte{3, 'a', 'b', 'c', 0}, binary.AppendUvarint(nil, uint64(len(end)))...)
		return []frame{part(append(piece, end...)), {typeDone, 0, nil}}
	case methodCode:
		return []frame{done((&codeReply{Dir: "/d"}).fields)}
	}
	return []frame{{typeDone, 0, nil}}
}

// TestAnswersTo: what is to be spoiled is right before.
func TestAnswersTo(t *testing.T) {
	for name, call := range calls {
		synctest.Test(t, func(t *testing.T) {
			c := connectFake(t, func(a *fakeAgent, id uint32, method byte) {
				for _, fr := range answersTo(method) {
					_ = a.send(fr.kind, id, fr.payload) // an error ends the call, too
				}
			})
			if err := call(t.Context(), c); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
}

// FuzzSpoiledAnswers has an agent answer a call as an honest one does, but for one thing in one
// frame: the call ends, whatever that is, in little memory. Other calls end with it, or go on.
func FuzzSpoiledAnswers(f *testing.F) {
	names := slices.Sorted(maps.Keys(calls))
	for i := range names {
		for seed := range uint64(8) {
			f.Add(uint8(i), uint8(seed), seed)
		}
	}
	f.Fuzz(func(t *testing.T, which, at uint8, seed uint64) {
		name := names[int(which)%len(names)]
		defer budget.Hold(t, spoiledMost)()
		synctest.Test(t, func(t *testing.T) {
			c := connectFake(t, func(a *fakeAgent, id uint32, method byte) {
				rng := rand.New(rand.NewPCG(seed, uint64(id))) // calls come at the same time
				all := answersTo(method)
				for i, fr := range all {
					p := makeFrame(fr.kind, id, fr.payload)
					if i == int(at)%len(all) {
						p = agenttest.Spoil(fr.kind, id, method, fr.payload, rng)
					}
					if _, err := a.peer.Write(p); err != nil {
						return
					}
				}
			})
			// In the bubble an hour is over at once. A poll waits for as long as its caller does.
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			_ = calls[name](ctx, c)
			_ = c.Ping(ctx)
		})
	})
}
