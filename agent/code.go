package agent

import (
	"context"
	"io"

	"golang.org/x/sync/errgroup"
)

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
}

func (r *codeReply) fields(c *coder) { c.string(&r.Dir) }

// Pieces of an archive: a few are on their way at once, so that a long way doesn't slow them down.
const (
	codePiece  = 512 << 10
	codeAtOnce = 8
)

// Code puts code on the machine unless it is there, and gives its directory. archive is the tar stream,
// compressed by gzip, of the hash. It may be repeated, and be called by several at once.
func (c *Client) Code(ctx context.Context, hash, token string, archive func() (io.ReadCloser, error)) (dir string, err error) {
	var reply codeReply
	if err := c.ask(ctx, methodCode, (&codeRequest{Hash: hash}).fields, reply.fields); err != nil || reply.Dir != "" {
		return reply.Dir, err
	}
	r, err := archive()
	if err != nil {
		return "", err
	}
	defer r.Close()
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(codeAtOnce)
	for offset := int64(0); gctx.Err() == nil; {
		piece := make([]byte, codePiece)
		n, err := io.ReadFull(r, piece)
		if n > 0 {
			request := &codeRequest{Hash: hash, Token: token, Offset: offset, Data: piece[:n]}
			offset += int64(n)
			group.Go(func() error { return c.ask(gctx, methodCode, request.fields, nil) })
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
	err = c.ask(ctx, methodCode, (&codeRequest{Hash: hash, Token: token, Last: true}).fields, reply.fields)
	return reply.Dir, err
}
