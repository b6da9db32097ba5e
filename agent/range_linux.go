package agent

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// output sends a piece of what a run has written, or the part of it that is there: see
// Client.Output. The parts of the reply are its bytes.
func (a *agent) output(ctx context.Context, r *OutputRequest, s *serving) (outputReply, error) {
	if err := r.check(); err != nil {
		return outputReply{}, &Error{Kind: KindBadRequest, Msg: err.Error()}
	}
	dir := runDir(a.root, r.Run)
	v, err := look(dir, a.bootID)
	if err != nil {
		return outputReply{}, fmt.Errorf("look at run %s: %w", r.Run.Name(), err)
	}
	sizes, err := (&follower{agent: a, dir: dir}).sizes(v.exit)
	if err != nil {
		return outputReply{}, err
	}
	reply := outputReply{Size: sizes.streams[r.Stream]}
	end := min(r.Until, reply.Size)
	if r.Off >= end {
		return reply, nil
	}
	file, err := openPlain(filepath.Join(dir, streamFiles[r.Stream]), os.O_RDONLY)
	if err != nil {
		return reply, err
	}
	defer file.Close()
	head := newFrame(0)
	for off := r.Off; off < end; {
		piece := pieceOf(off, end)
		if err := s.filePart(ctx, head, file, off, int(piece)); err != nil {
			return reply, fmt.Errorf("send the file %s of run %s: %w", streamFiles[r.Stream],
				r.Run.Name(), err)
		}
		off += piece
	}
	return reply, nil
}

// check refuses what names no run or no piece.
func (r *OutputRequest) check() error {
	if err := r.Run.Valid(); err != nil {
		return err
	}
	if r.Stream >= streams || r.Off < 0 || r.Until < r.Off {
		return fmt.Errorf("bytes %d to %d of stream %d of run %s: there are none", r.Off, r.Until,
			r.Stream, r.Run.Name())
	}
	return nil
}
