// SPDX-License-Identifier: Apache-2.0

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
// Locks: lifecycle is held during a whole start or delete, so that the exit of a
// process that dies early is published after its start. It is taken before
// the container's mu, which guards the fields and is never held during a call
// of the runtime.
type process struct {
	c        *container
	execID   string // empty: init
	streams  stdio.Config
	spec     *specs.Process // set for an exec only
	terminal bool
	// io exists from the beginning and is opened by Create or by the Start of an
	// exec: it keeps what callers ask of the streams before then.
	io *stdio.IO

	lifecycle sync.Mutex

	// Guarded by c.mu.
	state state
	rt    Process // nil before an exec's start
	pid   int
	exit  runtime.Exit
	done  chan struct{} // closed with state's change to stopped
	// starting is closed when the Start of an exec has set rt or failed. It is
	// nil before the Start.
	starting chan struct{}
}

func newProcess(c *container, execID string, streams stdio.Config) *process {
	return &process{
		c: c, execID: execID, streams: streams, terminal: streams.Terminal,
		io: stdio.New(streams), done: make(chan struct{}),
	}
}

// name is the process's name in events and messages: the ID of TaskExit.
func (p *process) name() string {
	if p.execID != "" {
		return p.execID
	}
	return p.c.id
}

// statusNotStarted is the exit status of a process that failed to start.
const statusNotStarted = 255

// stop records the exit of the process and wakes all that wait for it. The
// caller holds c.mu.
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

// startTimeout is how long Kill waits for the start of an exec that is under way. A start
// takes less: each of its steps ends after 30 s.
const startTimeout = 2 * time.Minute

// signal is Kill for one process. While the process is being started, signal waits until it
// exists, as the Kill of runc's shim waits for Start: if signal reported that there is no
// process, the process would live on.
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
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	select {
	case <-starting:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("kill process %s: it is still starting: %w", p.name(), ctx.Err())
	}
}
