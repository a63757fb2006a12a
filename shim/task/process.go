package task

import (
	"context"
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
	c        *container
	execID   string // empty: init
	streams  stdio.Config
	spec     *specs.Process // an exec's
	terminal bool
	// io is there from the beginning, and opened by Create or an exec's Start:
	// it keeps what callers ask of the streams before.
	io *stdio.IO

	lifecycle sync.Mutex

	// Guarded by c.mu.
	state state
	rt    Process // nil before an exec's start
	pid   int
	exit  runtime.Exit
	done  chan struct{} // closed with state's change to stopped
	// starting is closed when an exec's start, which is under way, has led to
	// rt or failed. nil before the start.
	starting chan struct{}
}

func newProcess(c *container, execID string, streams stdio.Config) *process {
	return &process{
		c: c, execID: execID, streams: streams, terminal: streams.Terminal,
		io: stdio.New(streams), done: make(chan struct{}),
	}
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

// startPatience is how long Kill waits for the start of an exec that is under way. It is more
// than a start's own steps take, each of which ends after 30 s.
const startPatience = 2 * time.Minute

// signal is Kill for one process. One that is being started gets the signal as soon as it is
// there, as from runc's shim, whose Kill waits for Start as well: an answer that there is
// nothing to kill would let it live.
func (p *process) signal(ctx context.Context, sig int) error {
	if err := p.awaitStart(ctx); err != nil {
		return err
	}
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

// awaitStart waits until no start of an exec is under way.
func (p *process) awaitStart(ctx context.Context) error {
	p.c.mu.Lock()
	starting := p.starting
	p.c.mu.Unlock()
	if starting == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	select {
	case <-starting:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("kill process %s: it is still being started: %w", p.name(), ctx.Err())
	}
}
