package sched

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"jobserver/sched/statepb"
)

// CodeNamed visits the hashes of code, of what was not committed, and of standard inputs, that jobs
// name, or will that are being submitted, MaxPage jobs from an id on, and gives the id to go on
// with; 0: these were all. Any job that is known may be run again, so that those which have ended
// count as well.
//
// Who goes through all of them page by page misses only code that was submitted meanwhile: a job
// never changes its code, and a waiting cell, which has that of its matrix, takes over another only
// when one is submitted.
func (s *State) CodeNamed(from uint64, visit func(hash string)) (next uint64, err error) {
	both := func(c *statepb.Code, stdin string) {
		if c != nil {
			visit(c.Hash)
			visit(c.Diff)
		}
		if stdin != "" {
			visit(stdin)
		}
	}
	if from <= 1 {
		for _, l := range s.longs { // whose jobs aren't there yet
			both(l.Submit.GetCode(), l.Submit.GetStdin())
		}
	}
	from = max(from, 1)
	end := min(from+MaxPage, s.nextID)
	var seen *matrix // whose waiting cells were visited
	for id := from; id < end; id++ {
		if s.index.status(id) == 0 {
			continue
		}
		if place := s.index.place[id]; place != 0 && s.live[id] == nil {
			code, stdin, err := s.codeAt(place)
			if err != nil {
				return 0, fmt.Errorf("read the code of job %d: %w", id, err)
			}
			both(code, stdin)
			continue
		}
		if c, ok := s.cellOf(id); ok && !c.matrix.isTouched(c.cell) {
			if c.matrix != seen {
				seen = c.matrix
				both(seen.Template.Code, seen.Template.Stdin)
			}
			continue
		}
		both(s.Job(id).GetCode(), s.Job(id).GetStdin())
	}
	if end == s.nextID {
		return 0, nil
	}
	return end, nil
}

// codeAt reads the code and the standard input of an ended job, and nothing else of it.
func (s *State) codeAt(place uint32) (code *statepb.Code, stdin string, err error) {
	raw, err := s.history.raw(place)
	if err != nil {
		return nil, "", err
	}
	err = fields(raw, func(n protowire.Number, value []byte) error {
		switch n {
		case fieldCode:
			code = &statepb.Code{}
			return proto.Unmarshal(value, code)
		case fieldStdin:
			stdin = string(value)
		}
		return nil
	})
	return code, stdin, err
}
