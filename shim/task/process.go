package task

import (
	"fmt"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"sysbox/runtime"
	"sysbox/shim/stdio"
)

// process is init or an exec of a container.
//
// Locks: lifecycle is held over a whole start or delete, so that the exit of a
// process that dies early is published after its start. It is taken before
// the container's mu, which guards the fields and is never held over a call
// of the runtime.
type process struct {
	c        *box
	execID   string // empty: init
	streams  stdio.Config
	spec     *specs.Process // an exec's
	terminal bool

	lifecycle sync.Mutex

	// Guarded by c.mu.
	state state
	rt    Process // nil before an exec's start
	pid   int
	io    *stdio.IO  // nil before an exec's start and after delete
	size  *[2]uint32 // width and height that came before the exec's start
	exit  runtime.Exit
	done  chan struct{} // closed with state's change to stopped
}

func newProcess(c *box, execID string, streams stdio.Config) *process {
	return &process{c: c, execID: execID, streams: streams, terminal: streams.Terminal, done: make(chan struct{})}
}

// name is how events and messages call the process: TaskExit's id.
func (p *process) name() string {
	if p.execID != "" {
		return p.execID
	}
	return p.c.id
}

// statusNotStarted is the exit status of a process whose start has failed.
const statusNotStarted = 255

// stop sets the end of the process and wakes who waits for it. The caller
// holds c.mu.
func (p *process) stop(e runtime.Exit) {
	if p.state == stopped || p.state == deleted {
		return
	}
	if e.At.IsZero() {
		e.At = time.Now()
	}
	p.state, p.exit = stopped, e
	close(p.done)
}

// signal is Kill for one process.
func (p *process) signal(sig int) error {
	p.c.mu.Lock()
	rt, st := p.rt, p.state
	p.c.mu.Unlock()
	switch {
	case st == stopped || st == deleted:
		return fmt.Errorf("process %s already finished: %w", p.name(), errdefs.ErrNotFound)
	case rt == nil:
		return fmt.Errorf("process %s was not started: %w", p.name(), errdefs.ErrFailedPrecondition)
	}
	return asNotFound(rt.Signal(sig), p.name())
}
