package task

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/containerd/containerd/api/events"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/timestamppb"

	"sysbox/runtime"
	"sysbox/shim/bundle"
)

// execGrace is how long init's exit waits for those of its execs, which the
// kernel or a kill has ended already. It's bounded so that a process stuck in
// the kernel cannot hide that the container is over.
const execGrace = 20 * time.Second

// container is one container of the shim's pod.
type container struct {
	s      *Service
	id     string
	bundle string
	rt     Container

	mu    sync.Mutex
	init  *process
	execs map[string]*process // guarded by mu
	// live counts execs that were started and whose exit is not published.
	live int // guarded by mu
	// quiet is closed when live drops to 0 after init's end; nil before.
	quiet chan struct{} // guarded by mu
	// over: init has ended, no exec may start any more.
	over    bool // guarded by mu
	pausing bool // guarded by mu
	paused  bool // guarded by mu
	oomTold bool // guarded by mu
}

// find returns init for "", else the exec.
func (c *container) find(execID string) (*process, error) {
	if execID == "" {
		return c.init, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.execs[execID]
	if p == nil {
		return nil, fmt.Errorf("process %s of container %s: %w", execID, c.id, errdefs.ErrNotFound)
	}
	return p, nil
}

// watchInit publishes init's exit. Last of all exits of the container: those
// of its execs come first.
func (c *container) watchInit() {
	p := c.init
	e, err := p.rt.Wait(context.Background())
	if err != nil {
		c.s.log.Error("wait for init", "id", c.id, "err", err)
		e = runtime.Exit{Status: statusUnknown, At: time.Now()}
	}
	p.lifecycle.Lock() // the start's event, if one is under way, comes first
	defer p.lifecycle.Unlock()

	c.mu.Lock()
	c.over = true
	quiet := make(chan struct{})
	if c.quiet = quiet; c.live == 0 {
		close(quiet)
	}
	c.mu.Unlock()

	if !c.rt.OwnPIDNamespace() {
		if err := c.rt.SignalAll(context.Background(), int(unix.SIGKILL)); err != nil && !isGone(err) {
			c.s.log.Error("kill what init left", "id", c.id, "err", err)
		}
	}
	select {
	case <-quiet:
	case <-time.After(execGrace):
		c.s.log.Warn("execs are still there after init's end", "id", c.id)
	}
	p.io.Exited()
	c.oomBeforeExit(e.Status)
	if err := bundle.WriteExit(c.bundle, bundle.Exit{Pid: p.pid, Status: e.Status, At: e.At}); err != nil && !errors.Is(err, os.ErrNotExist) {
		c.s.log.Warn("record init's exit", "id", c.id, "err", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.publishExit(p, e)
}

// watchExec publishes an exec's exit.
func (c *container) watchExec(p *process) {
	e, err := p.rt.Wait(context.Background())
	if err != nil {
		c.s.log.Error("wait for an exec", "id", c.id, "exec", p.execID, "err", err)
		e = runtime.Exit{Status: statusUnknown, At: time.Now()}
	}
	p.lifecycle.Lock()
	defer p.lifecycle.Unlock()
	p.io.Exited()
	c.oomBeforeExit(e.Status)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.publishExit(p, e)
	c.left()
}

// left counts an exec's end. The caller holds mu.
func (c *container) left() {
	if c.live--; c.live == 0 && c.quiet != nil {
		close(c.quiet)
	}
}

// publishExit makes state and event change at once, so that who learns of the
// exit by either finds the other true. The caller holds mu.
func (c *container) publishExit(p *process, e runtime.Exit) {
	c.s.events.Publish(&events.TaskExit{
		ContainerID: c.id,
		ID:          p.name(),
		Pid:         uint32(p.pid),
		ExitStatus:  uint32(e.Status),
		ExitedAt:    timestamppb.New(e.At),
	})
	p.stop(e)
}

// statusUnknown is the status of a process whose end nobody saw.
const statusUnknown = 137

// asNotFound turns "the process has ended" into what callers expect of Kill.
func asNotFound(err error, name string) error {
	if isGone(err) {
		return fmt.Errorf("process %s already finished: %w", name, errdefs.ErrNotFound)
	}
	return err
}

func isGone(err error) bool {
	return errors.Is(err, os.ErrProcessDone) || errors.Is(err, unix.ESRCH)
}

// pidOfExec maps host pids to exec ids.
func (c *container) pidOfExec() map[int]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := make(map[int]string, len(c.execs))
	for id, p := range c.execs {
		if p.state == running {
			m[p.pid] = id
		}
	}
	return m
}

// checkSignal refuses what kill(2) would, with the field's name.
func checkSignal(sig uint32) error {
	if sig > 64 {
		return fmt.Errorf("signal is %s: give a number from 1 to 64: %w", strconv.FormatUint(uint64(sig), 10), errdefs.ErrInvalidArgument)
	}
	return nil
}
