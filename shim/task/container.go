// SPDX-License-Identifier: Apache-2.0

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

// execGrace is how long the exit of init waits for the exits of the execs,
// which the kernel or SignalAll has killed already. It is bounded so that a
// process stuck in the kernel cannot hide that the container has stopped.
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
	// liveExecs counts execs that were started and whose exit is not published.
	liveExecs int // guarded by mu
	// execsDone is closed when liveExecs drops to 0 after init's exit; nil before.
	execsDone chan struct{} // guarded by mu
	// initExited: no exec may start any more.
	initExited   bool // guarded by mu
	pausing      bool // guarded by mu
	paused       bool // guarded by mu
	oomPublished bool // guarded by mu
}

// find returns init for "", otherwise the exec.
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

// watchInit publishes the exit of init, after the exits of all execs of the
// container.
func (c *container) watchInit() {
	p := c.init
	e, err := p.rt.Wait(context.Background())
	if err != nil {
		c.s.log.Error("wait for init", "id", c.id, "err", err)
		e = runtime.Exit{Status: statusUnknown, At: time.Now()}
	}
	p.lifecycle.Lock() // a start that is under way publishes its event first
	defer p.lifecycle.Unlock()

	c.mu.Lock()
	c.initExited = true
	execsDone := make(chan struct{})
	if c.execsDone = execsDone; c.liveExecs == 0 {
		close(execsDone)
	}
	c.mu.Unlock()

	if !c.rt.OwnPIDNamespace() {
		if err := c.rt.SignalAll(context.Background(), int(unix.SIGKILL)); err != nil && !isGone(err) {
			c.s.log.Error("kill the processes that init left", "id", c.id, "err", err)
		}
	}
	select {
	case <-execsDone:
	case <-time.After(execGrace):
		c.s.log.Warn("execs are still running after init's exit", "id", c.id)
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

// watchExec publishes the exit of an exec.
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
	c.execExited()
}

// execExited counts an exec as gone. The caller holds mu.
func (c *container) execExited() {
	if c.liveExecs--; c.liveExecs == 0 && c.execsDone != nil {
		close(c.execsDone)
	}
}

// publishExit changes the state together with publishing the event, so that the two
// agree for all observers. The caller holds mu.
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

// statusUnknown is the status of a process whose exit could not be read.
const statusUnknown = 137

// asNotFound turns "the process has exited" into the error that callers expect of Kill.
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

// checkSignal rejects signals that kill(2) rejects, and names the field.
func checkSignal(sig uint32) error {
	if sig > 64 {
		return fmt.Errorf("signal is %s; it must be a number from 1 to 64: %w", strconv.FormatUint(uint64(sig), 10), errdefs.ErrInvalidArgument)
	}
	return nil
}
