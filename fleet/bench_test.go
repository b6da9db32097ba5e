package fleet

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"jobserver/sched"
	"jobserver/ssh/sshtest"
)

// ending tells of ends by a channel, so that waiting for them costs nothing.
func ending(ended chan uint64) func(*Options) {
	return func(o *Options) {
		o.Report = func(x sched.Outcome) {
			if e, ok := x.(sched.Ended); ok {
				ended <- e.Ref.Job
			}
		}
	}
}

// BenchmarkRuns runs `true`, 8 runs at a time, on one machine behind SSH.
func BenchmarkRuns(b *testing.B) {
	m := sshtest.Start(b)
	ended := make(chan uint64, 1024)
	h := newHost(b, m, ending(ended))
	h.Connect(sched.Pool{Addr: m.Name})
	h.Start(job(m.Name, 1, "true"))
	<-ended
	before := processorTime()
	b.ResetTimer()
	for i := range b.N {
		if i >= 8 {
			<-ended
		}
		h.Start(job(m.Name, uint64(i+2), "true"))
	}
	for range min(b.N, 8) {
		<-ended
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "runs/s")
	b.ReportMetric((processorTime()-before).Seconds()*1e3/float64(b.N), "cpu-ms/run")
}

// processorTime measures what this process alone has used.
func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkLog streams a log of 256 MiB from a machine behind SSH.
func BenchmarkLog(b *testing.B) {
	const size = 256 << 20
	m := sshtest.Start(b)
	ended := make(chan uint64, 1)
	h := newHost(b, m, ending(ended))
	h.Connect(sched.Pool{Addr: m.Name})
	h.Start(job(m.Name, 1, "true"))
	<-ended
	before := processorTime()
	b.SetBytes(size)
	b.ResetTimer()
	for i := range b.N {
		r := job(m.Name, uint64(i+2), fmt.Sprintf("head -c %d /dev/zero", size))
		h.Start(r)
		<-ended
		b.StopTimer()
		if err := os.Remove(sched.LogPath(h.opt.LogDir, r.Ref, false)); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.ReportMetric((processorTime()-before).Seconds()*1e3/float64(b.N), "cpu-ms/op")
}

// BenchmarkCopy brings results over SSH: one large file, and many small ones.
func BenchmarkCopy(b *testing.B) {
	for _, test := range []struct {
		files int
		size  int
	}{{1, 256 << 20}, {20000, 4 << 10}} {
		b.Run(fmt.Sprintf("%dx%d", test.files, test.size), func(b *testing.B) {
			m := sshtest.Start(b)
			from := filepath.Join(b.TempDir(), "results")
			for i := range test.files {
				name := filepath.Join(from, fmt.Sprintf("d%d/f%d", i/1000, i))
				if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
					b.Fatal(err)
				}
				if err := os.WriteFile(name, make([]byte, test.size), 0o644); err != nil {
					b.Fatal(err)
				}
			}
			copied, ended := make(chan sched.CopyEnded, 1), make(chan uint64, 1)
			h := newHost(b, m, func(o *Options) {
				ending(ended)(o)
				runs := o.Report
				o.Report = func(x sched.Outcome) {
					if c, ok := x.(sched.CopyEnded); ok {
						copied <- c
					}
					runs(x)
				}
			})
			to := b.TempDir()
			h.Connect(sched.Pool{Addr: m.Name})
			h.Start(job(m.Name, 1, "true")) // results are of a machine that has had runs
			<-ended
			h.Copy(results(m.Name, 1, filepath.Join(to, "1"), "/etc/hostname"))
			<-copied
			before := processorTime()
			b.SetBytes(int64(test.files) * int64(test.size))
			b.ResetTimer()
			for i := range b.N {
				dest := filepath.Join(to, fmt.Sprint(i+2))
				h.Copy(results(m.Name, uint64(i+2), dest, from))
				if c := <-copied; c.Error != "" || c.Files != test.files {
					b.Fatal(c)
				}
				b.StopTimer()
				if err := os.RemoveAll(dest); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			b.ReportMetric((processorTime()-before).Seconds()*1e3/float64(b.N), "cpu-ms/op")
		})
	}
}
