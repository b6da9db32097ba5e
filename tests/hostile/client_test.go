// Package hostile_test attacks real daemons, one kind of attacker a file, and looks whether others
// are served meanwhile, and what it costs. docs/security.md lists what was tried.
package hostile_test

import (
	"bytes"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"io"
	"net"
	"os"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"jobserver/api"
	"jobserver/daemontest"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 5 && os.Args[1] == "relay" {
		os.Exit(relayMain(os.Args[2:]))
	}
	if len(os.Args) == 6 && os.Args[1] == "neighbour" {
		neighbourMain(os.Args[2], os.Args[3], os.Args[4], os.Args[5])
		os.Exit(0)
	}
	code := m.Run()
	daemontest.Cleanup()
	os.Exit(code)
}

// caller speaks to the socket as it likes.
type caller struct {
	net.Conn
	t *testing.T
}

// connect says hello as a client does.
func connect(t *testing.T, d *daemontest.Daemon) *caller {
	t.Helper()
	conn, err := net.Dial("unix", d.Socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	c := &caller{conn, t}
	c.send(frame("Hello", gobOf(t, &api.HelloArgs{MinProtocol: 1, MaxProtocol: 1})))
	if answer := c.answer(); len(answer) == 0 {
		t.Fatal("no hello")
	}
	return c
}

// frame is a call as it stands on the wire.
func frame(method string, body []byte) []byte {
	method = api.Service + "." + method
	message := binary.AppendUvarint(nil, 1)
	message = binary.AppendUvarint(message, uint64(len(method)))
	message = append(message, method...)
	message = append(message, 0) // no error
	message = append(message, body...)
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(message))), message...)
}

// gobOf is a value as it stands in a call.
func gobOf(t *testing.T, value any) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(value); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// send writes what the daemon may hang up on before it has read all of it.
func (c *caller) send(frame []byte) {
	c.t.Helper()
	_, _ = c.Write(frame)
}

// answer reads one answer; nothing when the daemon has hung up.
func (c *caller) answer() []byte {
	c.t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(time.Minute))
	var head [4]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			c.t.Error("the daemon says nothing, and doesn't hang up either")
		}
		return nil
	}
	answer := make([]byte, binary.BigEndian.Uint32(head[:]))
	_, _ = io.ReadFull(c, answer)
	return answer
}

// chain is a type that is in itself.
type chain struct{ Next *chain }

// nested is a gob of a chain of that length, in place of a call's arguments: the definition of its
// type, and a value that is written by hand.
func nested(t *testing.T, depth int) []byte {
	b := gobOf(t, &chain{})
	at, value := lastMessage(b)
	message := bytes.Clone(value[:len(value)-1]) // without the end of an empty struct
	message = append(message, bytes.Repeat([]byte{1}, depth)...)
	message = append(message, make([]byte, depth+1)...)
	out := append(bytes.Clone(b[:at]), 0xfc)
	return append(binary.BigEndian.AppendUint32(out, uint32(len(message))), message...)
}

// lastMessage is the last of the messages that a gob has, and where it begins: the value's.
func lastMessage(b []byte) (at int, message []byte) {
	for {
		size, head := int(b[at]), 1
		if size > 0x7f { // that many bytes, less than none, have the length
			head, size = 1+256-size, 0
			for _, digit := range b[at+1 : at+head] {
				size = size<<8 | int(digit)
			}
		}
		if at+head+size == len(b) {
			return at, b[at+head:]
		}
		at += head + size
	}
}

// elements is the gob of a value with a list of n empty elements, made of those with one and two.
// To encode it would take longer than all that is done with it.
func elements(t *testing.T, with func(n int) any, n int) []byte {
	t.Helper()
	b := gobOf(t, with(1))
	at, one := lastMessage(b)
	_, two := lastMessage(gobOf(t, with(2)))
	count := 0 // where the number of elements is: that alone differs, before the second one
	for one[count] == two[count] {
		count++
	}
	element := two[count+1:][:len(two)-len(one)]
	long := binary.BigEndian.AppendUint32(append(bytes.Clone(one[:count]), 0xfc), uint32(n))
	long = append(long, bytes.Repeat(element, n)...)
	long = append(long, one[count+1+len(element):]...)
	out := binary.BigEndian.AppendUint32(append(bytes.Clone(b[:at]), 0xfc), uint32(len(long)))
	return append(out, long...)
}

// TestElements: they are what a list of that many is.
func TestElements(t *testing.T) {
	t.Parallel()
	const n = 1000
	var jobs api.AddJobsArgs
	err := gob.NewDecoder(bytes.NewReader(elements(t, emptyJobs, n))).Decode(&jobs)
	if err != nil || !reflect.DeepEqual(&jobs, emptyJobs(n)) {
		t.Errorf("%v, %d jobs", err, len(jobs.Jobs))
	}
	var axes api.AddMatrixArgs
	err = gob.NewDecoder(bytes.NewReader(elements(t, emptyAxes, n))).Decode(&axes)
	if err != nil || !reflect.DeepEqual(&axes, emptyAxes(n)) {
		t.Errorf("%v, %d axes", err, len(axes.Matrix.Vars))
	}
}

func emptyJobs(n int) any { return &api.AddJobsArgs{Jobs: make([]api.JobSpec, n)} }

func emptyAxes(n int) any {
	return &api.AddMatrixArgs{Matrix: api.MatrixSpec{Vars: make([]api.Axis, n)}}
}

// TestClientRequests: requests that are small on the wire, and would be huge, or the end of the
// daemon, when they are decoded.
func TestClientRequests(t *testing.T) {
	t.Parallel()
	d := honestDaemon(t)
	stop := honest(t, d)
	type bare struct{ Class string }
	type others struct{ Jobs []bare }
	type bigMap struct{ Env map[string]string }
	type mapped struct{ Jobs []bigMap }
	env := gobOf(t, &mapped{Jobs: []bigMap{{Env: map[string]string{"x": "y"}}}})
	// The map's length, which encoding/gob believes: 2³¹ in place of 1.
	env = bytes.Replace(env, []byte{1, 1, 'x', 1, 'y'}, []byte{0xfc, 0x80, 0, 0, 0, 1, 'x', 1, 'y'},
		1)
	attacks := map[string][]byte{
		"nested 100 deep":       frame("AddJobs", nested(t, 100)),
		"nested 400,000 deep":   frame("Status", nested(t, 400_000)),
		"nested 7,000,000 deep": frame("AddJobs", nested(t, 7_000_000)),
		"5 million empty specs": frame("AddJobs",
			elements(t, emptyJobs, 5_000_000)),
		"15 million of another type": frame("AddJobs",
			elements(t, func(n int) any { return &others{Jobs: make([]bare, n)} }, 15_000_000)),
		"30 million empty values": frame("AddMatrix",
			elements(t, emptyAxes, 30_000_000)),
		"a map of two thousand million": frame("AddJobs", env),
		"20 MB for a small call":        frame("Why", make([]byte, 20<<20)),
		"nothing but zeros":             make([]byte, 1<<20),
	}
	var wg sync.WaitGroup
	for name, attack := range attacks {
		for range 4 {
			c := connect(t, d)
			wg.Go(func() {
				c.send(attack)
				if answer := c.answer(); bytes.Contains(answer, []byte("JIDs")) {
					t.Errorf("%s was done", name)
				}
				c.Close()
			})
		}
	}
	wg.Wait()
	stop()
}

// TestClientsThatDontRead: clients that ask for much, and take no answer.
func TestClientsThatDontRead(t *testing.T) {
	t.Parallel()
	d := honestDaemon(t)
	client, err := d.Client(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	specs := make([]api.JobSpec, 1000)
	for i := range specs {
		specs[i] = api.JobSpec{Class: "nowhere", Cmd: strings.Repeat("x", 1500)}
	}
	if _, err := api.Call[api.AddJobsReply](t.Context(), client, "AddJobs",
		&api.AddJobsArgs{Jobs: specs}); err != nil {
		t.Fatal(err)
	}
	stop := honest(t, d)
	ask := bytes.Repeat(frame("ListJobs", gobOf(t, &api.ListJobsArgs{Full: true, Limit: 1000})), 64)
	for range 200 {
		connect(t, d).send(ask)
	}
	for range 3 { // who reads is served
		reply, err := api.Call[api.ListJobsReply](t.Context(), client, "ListJobs",
			&api.ListJobsArgs{Full: true, Limit: 1000})
		if err != nil || len(reply.Jobs) == 0 {
			t.Errorf("one who reads: %v", err)
		}
	}
	stop()
}

// TestClientsThatDontWrite: connections that say nothing, and such that announce much and send
// nothing.
func TestClientsThatDontWrite(t *testing.T) {
	t.Parallel()
	d := honestDaemon(t)
	stop := honest(t, d)
	announced := frame("AddJobs", make([]byte, 1<<20))[:300]
	for range 100 {
		connect(t, d).send(announced)
	}
	for range 3000 { // as many descriptors as this process may have
		conn, err := net.Dial("unix", d.Socket)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
	}
	for range 20 {
		d.J(t, "ping")
	}
	stop()
}
