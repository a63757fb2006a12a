// SPDX-License-Identifier: Apache-2.0

package task

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/containerd/api/events"
	api "github.com/containerd/containerd/api/runtime/task/v2"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// drainTimeout bounds how long a delete waits for pending output: a process
// left behind may keep a pipe open indefinitely.
const drainTimeout = 10 * time.Second

// Delete removes a process that is not running, and with init the container.
func (s *Service) Delete(ctx context.Context, r *api.DeleteRequest) (*api.DeleteResponse, error) {
	c, p, err := s.findProcess(r.GetID(), r.GetExecID())
	if err != nil {
		return nil, toGRPC(err)
	}
	// A half-done delete is worse than a late one: go on if the caller leaves.
	ctx = context.WithoutCancel(ctx)
	if p.execID == "" {
		err = c.deleteInit(ctx, p)
	} else {
		err = c.deleteExec(ctx, p)
	}
	if err != nil {
		return nil, toGRPC(err)
	}
	res := &api.DeleteResponse{Pid: uint32(p.pid), ExitStatus: uint32(p.exit.Status)}
	if !p.exit.At.IsZero() {
		res.ExitedAt = timestamppb.New(p.exit.At)
	}
	return res, nil
}

func (c *container) deleteInit(ctx context.Context, p *process) error {
	st, err := c.lockToDelete(p)
	if err != nil {
		return err
	}
	if st == created {
		// It was never started: kill it, and let its exit be published.
		p.lifecycle.Unlock()
		if err := c.rt.SignalAll(ctx, int(unix.SIGKILL)); err != nil && !isGone(err) {
			return err
		}
		if err := p.rt.Signal(int(unix.SIGKILL)); err != nil && !isGone(err) {
			return err
		}
		select {
		case <-p.done:
		case <-time.After(drainTimeout):
			return fmt.Errorf("delete container %s: init (pid %d) was killed but has not exited after %v; look at /proc/%[2]d/stack and try again", c.id, p.pid, drainTimeout)
		}
		if _, err = c.lockToDelete(p); err != nil {
			return err
		}
	}
	defer p.lifecycle.Unlock()
	c.drain(ctx, p)
	if err := c.rt.Delete(ctx); err != nil {
		return err
	}
	c.finish(p)
	c.mu.Lock()
	execs := c.execs
	c.execs = map[string]*process{}
	c.mu.Unlock()
	for _, e := range execs {
		c.finish(e)
	}
	c.s.set(c.id, nil)
	c.s.events.Publish(&events.TaskDelete{
		ContainerID: c.id,
		Pid:         uint32(p.pid),
		ExitStatus:  uint32(p.exit.Status),
		ExitedAt:    timestamppb.New(p.exit.At),
	})
	return nil
}

func (c *container) deleteExec(ctx context.Context, p *process) error {
	if _, err := c.lockToDelete(p); err != nil {
		return err
	}
	defer p.lifecycle.Unlock()
	c.drain(ctx, p)
	c.finish(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.execs[p.execID] == p {
		delete(c.execs, p.execID)
	}
	return nil
}

// lockToDelete returns with the lifecycle locked unless it returns an error.
func (c *container) lockToDelete(p *process) (state, error) {
	p.lifecycle.Lock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := p.state.checkTransition("delete"); err != nil {
		p.lifecycle.Unlock()
		return p.state, err
	}
	return p.state, nil
}

// drain waits for the last output of the process and then ends its streams.
func (c *container) drain(ctx context.Context, p *process) {
	ctx, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	p.io.Drain(ctx)
	if ctx.Err() != nil {
		c.s.log.Warn("output was cut off: a process still holds the pipe open", "id", c.id, "process", p.name())
	}
	p.io.Close()
}

// finish sets the last state and wakes all that wait for an exec that was never started.
func (c *container) finish(p *process) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.state == created { // status 0, as with runc's shim
		p.exit.At = time.Now()
		close(p.done)
	}
	p.state = deleted
}

// Shutdown ends the shim if it has no containers. Otherwise it only
// answers.
func (s *Service) Shutdown(context.Context, *api.ShutdownRequest) (*emptypb.Empty, error) {
	s.mu.Lock()
	s.ending = s.ending || len(s.containers) == 0
	ending := s.ending
	s.mu.Unlock()
	if ending {
		s.shutdown()
	}
	return &emptypb.Empty{}, nil
}
