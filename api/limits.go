package api

import (
	"bytes"
	"encoding/binary"
	"strings"
)

const (
	maxRequest = 1 << 20  // bytes of a request, unless maxRequestOf says otherwise
	maxReply   = 32 << 20 // bytes of an answer: lists come in pages
	maxHello   = 4 << 10  // bytes of the first message
	maxHeader  = 256      // bytes in which a call's number and method have to be
)

// maxRequestOf is maxRequest for a method, by its whole name: those that carry lists of any length
// may have more.
func maxRequestOf(method string) int {
	switch strings.TrimPrefix(method, Service+".") {
	case "AddMatrix", "AddStages": // a million cells of several variables
		return 32 << 20
	case "AddJobs":
		return 16 << 20
	case ChangeJobs, "ListJobs", "Wait", "WhyMany":
		// selectors that a script has read from somewhere
		return 8 << 20
	case "PutCode": // a piece of an archive, and what is around it
		return 2 << 20
	}
	return maxRequest
}

// callOf reads the number and the method of a call of which the beginning is there; false: that
// isn't the beginning of one.
func callOf(beginning []byte) (seq uint64, method string, ok bool) {
	r := bytes.NewBuffer(beginning)
	seq, err := binary.ReadUvarint(r)
	if err != nil {
		return 0, "", false
	}
	n, err := binary.ReadUvarint(r)
	if err != nil || n > uint64(r.Len()) {
		return 0, "", false
	}
	return seq, string(r.Next(int(n))), true
}
