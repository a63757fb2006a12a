// SPDX-License-Identifier: Apache-2.0

// Package task is containerd's task API on top of package runtime: the
// containers of one pod, their processes, the states of these, and the
// events about them.
//
// What does not belong here: how a container is made or a process is entered
// (package runtime), where streams lead (package stdio), how events are sent
// (package event), and the life of the shim itself (package daemon).
package task

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"github.com/containerd/containerd/api/events"
	api "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"sysbox/runtime"
	"sysbox/shim/bundle"
	"sysbox/shim/stdio"
)

// Publisher queues an event; it never blocks and keeps the order.
type Publisher interface{ Publish(e proto.Message) }

// Service serves the containers of one pod. Its methods are those of
// containerd.task.v2.Task and containerd.task.v3.Task.
type Service struct {
	namespace string
	pod       Pod
	events    Publisher
	log       *slog.Logger
	shutdown  func()

	mu sync.Mutex
	// containers by id, guarded by mu. A nil entry is a container that is being
	// created; only a second Create sees it.
	containers map[string]*container
	// ending: the shim is exiting and nothing may start. Guarded by mu.
	ending bool
}

// NewService returns a service without containers. shutdown is called when
// the last container is gone and the caller wants the shim to end.
func NewService(namespace string, pod Pod, events Publisher, log *slog.Logger, shutdown func()) *Service {
	return &Service{namespace: namespace, pod: pod, events: events, log: log, shutdown: shutdown, containers: map[string]*container{}}
}

// find returns a container.
func (s *Service) find(id string) (*container, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.containers[id]; c != nil {
		return c, nil
	}
	return nil, fmt.Errorf("container %s was not created: %w", id, errdefs.ErrNotFound)
}

// with calls f with a container, for calls whose only answer is an error.
func (s *Service) with(id string, f func(c *container) error) (*emptypb.Empty, error) {
	c, err := s.find(id)
	if err == nil {
		err = f(c)
	}
	if err != nil {
		return nil, toGRPC(err)
	}
	return &emptypb.Empty{}, nil
}

func (s *Service) findProcess(id, execID string) (*container, *process, error) {
	c, err := s.find(id)
	if err != nil {
		return nil, nil, err
	}
	p, err := c.find(execID)
	return c, p, err
}

// reserve takes the id of a container that is being created.
func (s *Service) reserve(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending {
		return fmt.Errorf("container %s: the shim of this pod is exiting because its last container is gone; start another shim and try again: %w", id, errdefs.ErrFailedPrecondition)
	}
	if _, ok := s.containers[id]; ok {
		return fmt.Errorf("container %s: %w", id, errdefs.ErrAlreadyExists)
	}
	s.containers[id] = nil
	return nil
}

func (s *Service) set(id string, c *container) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c == nil {
		delete(s.containers, id)
	} else {
		s.containers[id] = c
	}
}

// Create makes a container up to the point just before the execve of its first
// process.
func (s *Service) Create(ctx context.Context, r *api.CreateTaskRequest) (_ *api.CreateTaskResponse, err error) {
	defer func() { err = asPrecondition(err) }()
	if r.GetCheckpoint() != "" || r.GetParentCheckpoint() != "" {
		return nil, fmt.Errorf("checkpoint is %q, but restore is not supported; create the container without a checkpoint: %w", r.GetCheckpoint(), errdefs.ErrInvalidArgument)
	}
	o, err := readOptions(r.GetOptions())
	if err != nil {
		return nil, err
	}
	if err := s.reserve(r.GetID()); err != nil {
		return nil, err
	}
	c, err := s.create(ctx, r, o)
	s.set(r.GetID(), c)
	if err != nil {
		return nil, err
	}
	return &api.CreateTaskResponse{Pid: uint32(c.init.pid)}, nil
}

func (s *Service) create(ctx context.Context, r *api.CreateTaskRequest, o createOptions) (*container, error) {
	if o.configPath != "" {
		if err := bundle.WriteConfigPath(r.GetBundle(), o.configPath); err != nil {
			return nil, err
		}
	}
	c := &container{s: s, id: r.GetID(), bundle: r.GetBundle(), execs: map[string]*process{}}
	c.init = newProcess(c, "", stdio.Config{
		ID: r.GetID(), Namespace: s.namespace,
		Stdin: r.GetStdin(), Stdout: r.GetStdout(), Stderr: r.GetStderr(),
		Terminal: r.GetTerminal(), UID: o.uid, GID: o.gid, StdinLater: !r.GetTerminal(),
	})
	io := c.init.io
	if err := io.Open(ctx); err != nil {
		return nil, err
	}
	req := runtime.CreateRequest{
		ID: c.id, Bundle: c.bundle, Terminal: r.GetTerminal(), Stdio: io.Child(),
		SystemdCgroup: o.systemdCgroup,
	}
	for _, m := range r.GetRootfs() {
		req.Rootfs = append(req.Rootfs, runtime.RootfsMount{Type: m.GetType(), Source: m.GetSource(), Target: m.GetTarget(), Options: m.GetOptions()})
	}
	var err error
	if c.rt, err = s.pod.Create(ctx, o.configPath, req); err != nil {
		io.Close()
		return nil, err
	}
	if err := s.adopt(c, r); err != nil {
		io.Close()
		if derr := c.rt.Delete(context.WithoutCancel(ctx)); derr != nil {
			s.log.Error("undo a failed create", "id", c.id, "err", derr)
		}
		return nil, err
	}
	return c, nil
}

// adopt takes over the container that the runtime has made.
func (s *Service) adopt(c *container, r *api.CreateTaskRequest) error {
	p := c.init
	p.rt = c.rt.Init()
	p.pid = p.rt.Pid()
	if err := p.io.Started(p.rt.Console()); err != nil {
		return fmt.Errorf("take over the terminal: %w", err)
	}
	if err := bundle.WriteInitPid(c.bundle, p.pid); err != nil {
		return fmt.Errorf("record init's pid: %w", err)
	}
	s.events.Publish(&events.TaskCreate{
		ContainerID: c.id,
		Bundle:      r.GetBundle(),
		Rootfs:      r.GetRootfs(),
		IO:          &events.TaskIO{Stdin: r.GetStdin(), Stdout: r.GetStdout(), Stderr: r.GetStderr(), Terminal: r.GetTerminal()},
		Checkpoint:  r.GetCheckpoint(),
		Pid:         uint32(p.pid),
	})
	if err := c.rt.WatchOOM(c.publishOOM); err != nil {
		s.log.Warn("OOM kills will not be published", "id", c.id, "err", err)
	}
	go c.watchInit()
	return nil
}

// Empty reports whether there are no containers, not even one being created.
func (s *Service) Empty() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.containers) == 0
}

// Known reports whether the service waits for the process pid.
func (s *Service) Known(pid int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.containers {
		if c == nil {
			continue
		}
		c.mu.Lock()
		known := c.init.pid == pid
		for _, p := range c.execs {
			known = known || p.pid == pid
		}
		c.mu.Unlock()
		if known {
			return true
		}
	}
	return false
}
