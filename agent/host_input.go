package agent

import (
	"context"
	"path"
)

// inputFile is the name of a single file in its stream, and in its copy on a machine.
const inputFile = "input"

// InputsVariable tells a run where its inputs are.
const InputsVariable = "JOBSERVER_INPUTS"

// inputRequest asks for an input, or brings a piece of its archive, as codeRequest does for code.
// An agent of this host may be told instead where it can read the input itself.
type inputRequest struct {
	codeRequest
	From string
}

func (r *inputRequest) fields(c *coder) {
	nested(c, &r.codeRequest, func(c *coder, r *codeRequest) { r.fields(c) })
	c.string(&r.From)
}

// layRequest makes the directory of a run's inputs, before its start: links to inputs that are on
// the machine, and files that come with the request. A long file comes in several of them: the
// first begins anew, and with the last the directory is there.
type layRequest struct {
	Run         RunID
	Links       []Pair // name and target
	File        string // of which Data goes on; "" : none
	Data        []byte
	First, Last bool
}

func (r *layRequest) fields(c *coder) {
	nested(c, &r.Run, runIDFields)
	pairs(c, &r.Links)
	c.string(&r.File)
	c.bytes(&r.Data)
	c.bool(&r.First)
	c.bool(&r.Last)
}

// layReply has the directory.
type layReply struct{ Dir string }

func (r *layReply) fields(c *coder) { c.string(&r.Dir) }

// FindInput gives the directory of an input that is on the machine as it was sent, or "", as
// FindCode does for code. It is kept for a minute, and as long as a run has it.
func (c *Client) FindInput(ctx context.Context, hash string) (dir, changed string, err error) {
	r := inputRequest{codeRequest: codeRequest{Hash: hash}}
	var reply codeReply
	err = c.ask(ctx, methodInput, r.fields, reply.fields)
	return reply.Dir, reply.Changed, err
}

// CloneInput has an agent of this host copy a tree itself: by reference, where the file system can.
// What it finds is to have the hash.
func (c *Client) CloneInput(ctx context.Context, hash, token, from string) error {
	r := inputRequest{codeRequest: codeRequest{Hash: hash, Token: token, Last: true}, From: from}
	return c.ask(ctx, methodInput, r.fields, nil)
}

// InputPath gives the target of a run's link to an input, given its directory on the machine.
func InputPath(dir string, single bool) string {
	if single {
		return path.Join(dir, inputFile)
	}
	return dir
}

// LayInputs makes the directory of a run's inputs, and gives its path. It may be repeated, and
// leaves alone what a run has that was started.
func (c *Client) LayInputs(
	ctx context.Context, run RunID, links []Pair, file string, data []byte,
) (dir string, err error) {
	r := layRequest{Run: run, Links: links, File: file, First: true}
	var reply layReply
	for !r.Last {
		n := min(len(data), codePiece)
		r.Data, data = data[:n], data[n:]
		r.Last = len(data) == 0
		if err := c.ask(ctx, methodLay, r.fields, reply.fields); err != nil {
			return "", err
		}
		r.First, r.Links = false, nil
	}
	return reply.Dir, nil
}
