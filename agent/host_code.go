package agent

import (
	"context"
	"io"

	"golang.org/x/sync/errgroup"
)

// CodeVariable tells a run where its code is. The agent looks at
// it too: code that a run of its machine has is not removed.
const CodeVariable = "JOBSERVER_CODE"

// codeRequest asks for the code of a hash, or brings a piece of
// its archive. A request with neither Data nor Last only asks.
type codeRequest struct {
	Hash   string // of the tar stream, SHA-256 in hexadecimal
	Token  string // tells apart those who send the same at the same time
	Offset int64  // of Data in the archive
	Data   []byte
	Last   bool // all pieces have arrived: unpack them
}

func (r *codeRequest) fields(c *coder) {
	c.string(&r.Hash)
	c.string(&r.Token)
	number(c, &r.Offset)
	c.bytes(&r.Data)
	c.bool(&r.Last)
}

// codeReply has the directory of the code, if it is there.
type codeReply struct {
	Dir string // "" : it is not there
	// a file by which a copy that is there differs from what was sent; "" : there is none
	Changed string
}

func (r *codeReply) fields(c *coder) {
	c.string(&r.Dir)
	c.string(&r.Changed)
}

// Pieces of an archive: a few are on their way at once, so that a long way doesn't slow them down.
const (
	codePiece  = 512 << 10
	codeAtOnce = 8
)

// FindCode gives the directory of code that is on the machine as it was sent, or "". Whoever got it
// starts what needs it at once: it is kept for an hour, and as long as a run has it. changed is a
// file that somebody has written to in an earlier copy, which is not used any more.
func (c *Client) FindCode(ctx context.Context, hash string) (dir, changed string, err error) {
	var reply codeReply
	err = c.ask(ctx, methodCode, (&codeRequest{Hash: hash}).fields, reply.fields)
	return reply.Dir, reply.Changed, err
}

// PutCode puts code on the machine, and gives its directory. archive is the tar stream of the hash,
// compressed by gzip. It may be repeated, and be called by several at once, each with a token of
// its own.
func (c *Client) PutCode(
	ctx context.Context, hash, token string, archive io.Reader,
) (dir string, err error) {
	return c.put(ctx, methodCode, hash, token, archive)
}

// PutInput does so with an input.
func (c *Client) PutInput(
	ctx context.Context, hash, token string, archive io.Reader,
) (dir string, err error) {
	return c.put(ctx, methodInput, hash, token, archive)
}

func (c *Client) put(
	ctx context.Context, method byte, hash, token string, archive io.Reader,
) (dir string, err error) {
	ask := func(ctx context.Context, r codeRequest, reply *codeReply) error {
		r.Hash, r.Token = hash, token
		fields, answer := r.fields, func(*coder) {}
		if method == methodInput {
			in := inputRequest{codeRequest: r}
			fields = in.fields
		}
		if reply != nil {
			answer = reply.fields
		}
		return c.ask(ctx, method, fields, answer)
	}
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(codeAtOnce)
	for offset := int64(0); gctx.Err() == nil; {
		piece := make([]byte, codePiece)
		n, err := io.ReadFull(archive, piece)
		if n > 0 {
			r := codeRequest{Offset: offset, Data: piece[:n]}
			offset += int64(n)
			group.Go(func() error { return ask(gctx, r, nil) })
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			break
		}
		if err != nil {
			group.Go(func() error { return err })
			break
		}
	}
	if err := group.Wait(); err != nil {
		return "", err
	}
	var reply codeReply
	err = ask(ctx, codeRequest{Last: true}, &reply)
	return reply.Dir, err
}
