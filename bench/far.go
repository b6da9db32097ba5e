package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"time"
)

// Line 18: a machine that is far away. It is the one of the other lines; what lies between is a
// proxy of ours, the same for both sides.

const (
	farDelay = 25 * time.Millisecond // in each direction
	farBytes = 500_000_000
	farFiles = 1000
	farJobs  = 10
)

// measureFar is line 18.
func measureFar(ctx context.Context, w *world) (rows []row, err error) {
	proxy, err := newDelay(net.JoinHostPort(w.machine.Host, strconv.Itoa(w.machine.Port)), farDelay)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, proxy.close()) }()
	if err := w.introduce("far", proxy.port()); err != nil {
		return nil, err
	}
	master, err := w.openMaster(ctx, "far")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closeMaster(master)) }()
	// Our agent is to be there already: the memory that sending it takes is no matter of this line.
	if err := w.withDaemon(ctx, func(d *daemon) error {
		return d.addMachine(ctx, "m1", "x", 1)
	}); err != nil {
		return nil, err
	}
	err = w.withDaemon(ctx, func(d *daemon) error {
		if err := d.addMachine(ctx, "far", "x", 1); err != nil {
			return err
		}
		for _, measure := range []func(context.Context, *world, *daemon) (row, error){
			measureFarFile, measureFarFiles, measureFarLog, measureFarJobs,
		} {
			r, err := measure(ctx, w, d)
			if err != nil {
				return err
			}
			rows = append(rows, r)
		}
		return nil
	})
	return rows, errors.Join(err, os.RemoveAll(w.dests()))
}

// introduce gives the machine behind a local port a name, for both sides.
func (w *world) introduce(name string, port int) error {
	key, err := os.ReadFile(w.machine.HostKeyFile("ed25519") + ".pub")
	if err != nil {
		return err
	}
	return errors.Join(w.user.Know("127.0.0.1", port, string(key)),
		w.user.AddHost(name, w.machine.User, "127.0.0.1", port))
}

// measureFarFile is line 18a.
func measureFarFile(ctx context.Context, w *world, d *daemon) (row, error) {
	file, err := w.noise("far-large", farBytes)
	if err != nil {
		return row{}, err
	}
	runs, err := inTurn(ctx, 3,
		w.fetched(ctx, file, d.results(ctx, file)),
		w.fetched(ctx, file, peer(ctx, "far", file, "scp", "-q", "-F", w.peers)))
	if err != nil {
		return row{}, err
	}
	r := row{name: "18a", what: "50 ms away: one file of 500 MB",
		ours:    megabytes(farBytes, runs[0].median()),
		theirs:  megabytes(farBytes, runs[1].median()),
		ourCmd:  `j add x 'echo "RESULTS: far-large"' DEST --flat -q --wait`,
		peerCmd: "scp -q -F peers far:far-large DEST"}
	return r.faster(runs[0], runs[1], 3), nil
}

// measureFarFiles is line 18b.
func measureFarFiles(ctx context.Context, w *world, d *daemon) (row, error) {
	dir, err := w.makeSmallFiles("far-small", farFiles)
	if err != nil {
		return row{}, err
	}
	runs, err := inTurn(ctx, 5,
		w.fetched(ctx, dir, d.results(ctx, dir)),
		w.fetched(ctx, dir, peer(ctx, "far", dir, "rsync", "-a", "-e", "ssh -F "+w.peers)))
	if err != nil {
		return row{}, err
	}
	r := row{name: "18b", what: "50 ms away: 1,000 files of 4 KiB",
		ourCmd:  `j add x 'echo "RESULTS: far-small"' DEST --flat -q --wait`,
		peerCmd: "rsync -a -e 'ssh -F peers' far:far-small DEST"}
	return r.faster(runs[0], runs[1], 4), nil
}

// measureFarLog is line 18c.
func measureFarLog(ctx context.Context, w *world, d *daemon) (row, error) {
	file, err := w.noise("far-large", farBytes)
	if err != nil {
		return row{}, err
	}
	before, err := resident(d.PID(), "VmHWM")
	if err != nil {
		return row{}, err
	}
	runs, err := inTurn(ctx, 3,
		w.fetched(ctx, file, func(string) (time.Duration, string, error) {
			return d.log(ctx, "cat "+file)
		}),
		func() (time.Duration, error) {
			if err := w.settle(); err != nil {
				return 0, err
			}
			return w.catTo(ctx, "far", os.DevNull, file)
		})
	if err != nil {
		return row{}, err
	}
	after, err := resident(d.PID(), "VmHWM")
	if err != nil {
		return row{}, err
	}
	r := row{name: "18c", what: "50 ms away: a log of 500 MB",
		ours:   megabytes(farBytes, runs[0].median()),
		theirs: megabytes(farBytes, runs[1].median()),
		note: fmt.Sprintf("the daemon's memory: %.0f MiB before, %.0f at the most", before,
			after),
		ourCmd:  "j add x 'cat far-large' -q --wait",
		peerCmd: "ssh -F peers far cat far-large >/dev/null"}
	r = r.faster(runs[0], runs[1], 2)
	r.reached = r.reached && after < farMemory
	return r, nil
}

// farMemory is how much memory, in MiB, the daemon may have had at the most after all that.
const farMemory = 150

// measureFarJobs is line 18d.
func measureFarJobs(ctx context.Context, w *world, d *daemon) (row, error) {
	runs, err := inTurn(ctx, 5,
		d.severalJobs(ctx, "x", farJobs),
		func() (time.Duration, error) {
			return timed(func() error {
				for range farJobs {
					if _, _, err := output(ctx, "ssh", "-F", w.peers, "far", "true"); err != nil {
						return err
					}
				}
				return nil
			})
		})
	if err != nil {
		return row{}, err
	}
	r := row{name: "18d", what: "50 ms away: ten jobs, one after another",
		ourCmd:  "j add x true -x 10 -q --wait, on a machine of one slot",
		peerCmd: "ssh -F peers far true, ten times"}
	return r.faster(runs[0], runs[1], 1), nil
}

const (
	delayPiece = 64 << 10
	// delayPieces may be on their way in each direction of a connection: far more than the windows
	// of SSH let through.
	delayPieces = 4096
)

// A delay is a proxy to a server that lets all bytes arrive later by the same time, in their order.
// It limits no rate: what is on its way waits in memory.
type delay struct {
	listener net.Listener
	target   string
	by       time.Duration
	buffers  sync.Pool
	tasks    sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool // nil: closed
}

// newDelay starts one, until close.
func newDelay(target string, by time.Duration) (*delay, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	d := &delay{listener: l, target: target, by: by, conns: map[net.Conn]bool{}}
	d.buffers.New = func() any { return new([delayPiece]byte) }
	d.tasks.Go(d.accept)
	return d, nil
}

func (d *delay) port() int { return d.listener.Addr().(*net.TCPAddr).Port }

func (d *delay) close() error {
	err := d.listener.Close()
	d.mu.Lock()
	for c := range d.conns {
		c.Close()
	}
	d.conns = nil
	d.mu.Unlock()
	d.tasks.Wait()
	return err
}

func (d *delay) accept() {
	for {
		near, err := d.listener.Accept()
		if err != nil {
			return // closed
		}
		d.tasks.Go(func() {
			defer near.Close()
			far, err := net.Dial("tcp", d.target)
			if err != nil {
				return // near sees its connection closed
			}
			defer far.Close()
			if !d.add(near, far) {
				return
			}
			var back sync.WaitGroup
			back.Go(func() { d.carry(near, far) })
			d.carry(far, near)
			back.Wait()
			d.remove(near, far)
		})
	}
}

func (d *delay) add(conns ...net.Conn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conns == nil {
		return false
	}
	for _, c := range conns {
		d.conns[c] = true
	}
	return true
}

func (d *delay) remove(conns ...net.Conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range conns {
		delete(d.conns, c)
	}
}

// onTheWay are bytes between the two ends.
type onTheWay struct {
	buffer *[delayPiece]byte
	n      int
	due    time.Time
}

// carry brings what one end sends to the other one, until it sends no more, and says so.
func (d *delay) carry(to, from net.Conn) {
	way := make(chan onTheWay, delayPieces)
	go func() {
		defer close(way)
		for {
			b := d.buffers.Get().(*[delayPiece]byte)
			n, err := from.Read(b[:])
			way <- onTheWay{b, n, time.Now().Add(d.by)}
			if err != nil {
				return // what it is, nobody over there would hear
			}
		}
	}()
	var failed error
	for piece := range way {
		time.Sleep(time.Until(piece.due))
		if failed == nil {
			if _, failed = to.Write(piece.buffer[:piece.n]); failed != nil {
				from.Close()
			}
		}
		d.buffers.Put(piece.buffer)
	}
	if end, ok := to.(interface{ CloseWrite() error }); ok && failed == nil {
		_ = end.CloseWrite() // an end that is gone needs none
	}
}
