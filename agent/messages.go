package agent

import "io/fs"

// The fields of every message, in the order of the wire. Only ever add at the end of a method.

func (id *RunID) fields(c *coder) {
	c.string(&id.Server)
	c.string(&id.Machine)
	c.uint(&id.Job)
	number(c, &id.Attempt)
	number(c, &id.Step)
	c.string(&id.Token)
}

// nested carries a struct as a list of one, so that it can grow fields although others follow it.
func nested[T any](c *coder, v *T, fields func(*coder, *T)) {
	one := []T{*v}
	list(c, &one, fields)
	if c.reading && len(one) > 0 {
		*v = one[0]
	}
}

func runIDFields(c *coder, id *RunID) { id.fields(c) }

func (p *Pair) fields(c *coder) {
	c.string(&p.Name)
	c.string(&p.Value)
}

func pairs(c *coder, v *[]Pair) { list(c, v, func(c *coder, p *Pair) { p.fields(c) }) }

func (s *Spec) fields(c *coder) {
	nested(c, &s.Run, runIDFields)
	c.string(&s.BootID)
	c.bytes(&s.Command)
	list(c, &s.Argv, func(c *coder, b *[]byte) { c.bytes(b) })
	pairs(c, &s.Env)
	pairs(c, &s.Secrets)
	c.string(&s.Dir)
	number(c, &s.Timeout)
	number(c, &s.Grace)
	number(c, &s.MaxLog)
	c.bytes(&s.Stdin)
	list(c, &s.CPUs, func(c *coder, cpu *int) { number(c, cpu) })
	number(c, &s.Memory)
}

func (r *StartResult) fields(c *coder) {
	number(c, &r.Status)
	c.time(&r.StartedAt)
	c.text(&r.Reason)
}

func (e *Exit) fields(c *coder) {
	number(c, &e.Cause)
	number(c, &e.Code)
	number(c, &e.Signal)
	c.text(&e.SignalName)
	c.time(&e.StartedAt)
	c.time(&e.EndedAt)
	number(c, &e.Duration)
	number(c, &e.UserCPU)
	number(c, &e.SystemCPU)
	number(c, &e.MaxRSS)
	c.text(&e.BootID)
	number(c, &e.OutLen)
	number(c, &e.ErrLen)
	number(c, &e.MarksLen)
	number(c, &e.OutCRC)
	number(c, &e.ErrCRC)
	number(c, &e.OutDropped)
	number(c, &e.ErrDropped)
	number(c, &e.MarksDropped)
	c.text(&e.LogError)
	c.text(&e.StartError)
	number(c, &e.Killed)
	number(c, &e.Left)
	c.text(&e.Overlooked)
	number(c, &e.Paused)
	c.bool(&e.OOM)
	if c.reading {
		e.floor()
	}
}

// exitField carries an Exit that may be missing.
func exitField(c *coder, e **Exit) {
	var some []Exit
	if *e != nil {
		some = []Exit{**e}
	}
	list(c, &some, func(c *coder, e *Exit) { e.fields(c) })
	if c.reading {
		*e = nil
		if len(some) > 0 {
			*e = &some[0]
		}
	}
}

func (r *PollRequest) fields(c *coder) {
	nested(c, &r.Run, runIDFields)
	number(c, &r.OutOff)
	number(c, &r.ErrOff)
	number(c, &r.MarksOff)
	number(c, &r.Wait)
	number(c, &r.Linger)
	number(c, &r.Ending)
	number(c, &r.Pauses)
	c.bool(&r.Weave)
	number(c, &r.WeaveOff)
	number(c, &r.Most)
}

func (p *Pause) fields(c *coder) {
	number(c, &p.Changes)
	c.bool(&p.On)
	c.time(&p.At)
	number(c, &p.Total)
	number(c, &p.Left)
	if c.reading {
		p.floor()
	}
}

func (r *PollReply) fields(c *coder) {
	number(c, &r.State)
	c.time(&r.StartedAt)
	for s := range r.short {
		c.bytes(&r.short[s])
	}
	list(c, &r.Marks, func(c *coder, m *Mark) {
		number(c, &m.Kind)
		c.string(&m.Text)
	})
	number(c, &r.MarksOff)
	number(c, &r.Ending)
	number(c, &r.OutDropped)
	number(c, &r.ErrDropped)
	exitField(c, &r.Exit)
	nested(c, &r.Pause, func(c *coder, p *Pause) { p.fields(c) })
	c.bytes(&r.weave)
	for s := range r.Sizes {
		number(c, &r.Sizes[s])
	}
	if c.reading {
		r.floor()
	}
}

func (r *OutputRequest) fields(c *coder) {
	nested(c, &r.Run, runIDFields)
	number(c, &r.Stream)
	number(c, &r.Off)
	number(c, &r.Until)
}

type outputReply struct{ Size int64 }

func (r *outputReply) fields(c *coder) { number(c, &r.Size) }

func (k *Control) fields(c *coder) {
	c.bool(&k.Cancel)
	number(c, &k.Grace)
	c.bool(&k.SetTimeout)
	number(c, &k.Timeout)
	c.bool(&k.SetPause)
	c.bool(&k.Pause)
	number(c, &k.Signal)
}

// controlRequest is Control with the run that it is for.
type controlRequest struct {
	Run RunID
	Control
}

func (r *controlRequest) fields(c *coder) {
	nested(c, &r.Run, runIDFields)
	nested(c, &r.Control, func(c *coder, k *Control) { k.fields(c) })
}

type startRequest struct{ Specs []Spec }

func (r *startRequest) fields(
	c *coder,
) {
	list(c, &r.Specs, func(c *coder, s *Spec) { s.fields(c) })
}

type startReply struct{ Results []StartResult }

func (r *startReply) fields(c *coder) {
	list(c, &r.Results, func(c *coder, s *StartResult) { s.fields(c) })
}

// runsRequest is for Forget and Kill.
type runsRequest struct {
	Runs  []RunID
	Force bool
}

func (r *runsRequest) fields(c *coder) {
	list(c, &r.Runs, runIDFields)
	c.bool(&r.Force)
}

type takeOverRequest struct {
	Server, Machine string
	Leave           bool // let it go instead: the machine has left the pool, and owes nothing
	Back            bool // only if it was taken over before
}

func (r *takeOverRequest) fields(c *coder) {
	c.string(&r.Server)
	c.string(&r.Machine)
	c.bool(&r.Leave)
	c.bool(&r.Back)
}

type listRequest struct{ Server, Machine string }

func (r *listRequest) fields(c *coder) {
	c.string(&r.Server)
	c.string(&r.Machine)
}

// runInfos is one of the messages that a listing consists of.
type runInfos struct{ Runs []RunInfo }

func (r *runInfos) fields(c *coder) {
	list(c, &r.Runs, func(c *coder, i *RunInfo) {
		nested(c, &i.Run, runIDFields)
		number(c, &i.State)
		c.time(&i.StartedAt)
		number(c, &i.PID)
		number(c, &i.Ending)
		exitField(c, &i.Exit)
		number(c, &i.Living)
	})
}

func (f *Facts) fields(c *coder) {
	for _, s := range []*string{&f.BootID, &f.OS, &f.Arch, &f.Kernel, &f.Hostname, &f.CPUModel,
		&f.User, &f.Home, &f.Root} {
		c.text(s)
	}
	number(c, &f.Cores)
	number(c, &f.MemoryBytes)
	number(c, &f.FreeBytes)
	load := int64(f.Load1 * 100)
	number(c, &load)
	if c.reading {
		f.Load1 = float64(load) / 100
	}
	c.time(&f.Now)
	c.bool(&f.KillsUserProcesses)
	list(c, &f.GPUs, func(c *coder, g *GPU) {
		c.text(&g.ID)
		c.text(&g.Vendor)
	})
	list(c, &f.CPUs, func(c *coder, p *CPU) {
		number(c, &p.ID)
		number(c, &p.Core)
		number(c, &p.Package)
	})
	c.bool(&f.LimitsMemory)
	c.bool(&f.NoSubreaper)
	c.text(&f.MemoryWhy)
	if c.reading {
		f.floor()
	}
}

func (e *Error) fields(c *coder) {
	number(c, &e.Kind)
	c.text(&e.Msg)
}

// hello is what an agent says first. Versions are of the protocol: the host picks the highest that
// both know.
type hello struct {
	MinVersion, MaxVersion int
	Facts                  Facts
}

func (h *hello) fields(c *coder) {
	number(c, &h.MinVersion)
	number(c, &h.MaxVersion)
	nested(c, &h.Facts, func(c *coder, f *Facts) { f.fields(c) })
}

func (r *ManifestRequest) fields(c *coder) {
	nested(c, &r.Run, runIDFields)
	c.string(&r.Base)
	list(c, &r.Paths, func(c *coder, p *string) { c.string(p) })
	number(c, &r.MaxFiles)
	number(c, &r.MaxBytes)
	nested(c, &r.CodeOf, runIDFields)
}

// fields carries a part of a manifest: the lists of all parts belong together.
func (m *Manifest) fields(c *coder) {
	list(c, &m.Entries, func(c *coder, e *Entry) {
		c.string(&e.Name)
		c.string(&e.Source)
		number(c, &e.Kind)
		c.string(&e.Target)
		c.bool(&e.Escapes)
		number(c, &e.Size)
		mode := uint32(e.Mode)
		number(c, &mode)
		e.Mode = fs.FileMode(mode) & fs.ModePerm
		c.time(&e.ModTime)
	})
	list(c, &m.Missing, func(c *coder, p *string) { c.string(p) })
	list(c, &m.Errors, func(c *coder, e *PathError) {
		c.string(&e.Path)
		c.string(&e.Reason)
	})
	c.bool(&m.Code.Looked)
	c.string(&m.Code.Changed)
	c.bool(&m.Code.Caches)
}

func (r *FetchRequest) fields(c *coder) {
	list(c, &r.Files, func(c *coder, f *FetchFile) {
		c.string(&f.Source)
		number(c, &f.Offset)
		number(c, &f.Size)
		c.time(&f.ModTime)
		number(c, &f.Until)
	})
	c.bool(&r.holes)
}

func (f *Fetched) fields(c *coder) {
	number(c, &f.Bytes)
	number(c, &f.CRC)
	number(c, &f.Status)
	c.text(&f.Reason)
}
