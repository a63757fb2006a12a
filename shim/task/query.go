// SPDX-License-Identifier: Apache-2.0

package task

import (
	"context"

	api "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/containerd/containerd/api/types/runc/options"
	apitask "github.com/containerd/containerd/api/types/task"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// State returns the state of a process.
func (s *Service) State(_ context.Context, r *api.StateRequest) (*api.StateResponse, error) {
	c, p, err := s.findProcess(r.GetID(), r.GetExecID())
	if err != nil {
		return nil, toGRPC(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	status := p.state.status()
	switch {
	case p.state != running:
	case c.pausing:
		status = apitask.Status_PAUSING
	case c.paused:
		status = apitask.Status_PAUSED
	}
	res := &api.StateResponse{
		ID:         c.id,
		Bundle:     c.bundle,
		Pid:        uint32(p.pid),
		Status:     status,
		Stdin:      p.streams.Stdin,
		Stdout:     p.streams.Stdout,
		Stderr:     p.streams.Stderr,
		Terminal:   p.terminal,
		ExitStatus: uint32(p.exit.Status),
		ExecID:     p.execID,
	}
	if !p.exit.At.IsZero() {
		res.ExitedAt = timestamppb.New(p.exit.At)
	}
	return res, nil
}

// Wait blocks until a process has exited.
func (s *Service) Wait(ctx context.Context, r *api.WaitRequest) (*api.WaitResponse, error) {
	c, p, err := s.findProcess(r.GetID(), r.GetExecID())
	if err != nil {
		return nil, toGRPC(err)
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		return nil, toGRPC(ctx.Err())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return &api.WaitResponse{ExitStatus: uint32(p.exit.Status), ExitedAt: timestamppb.New(p.exit.At)}, nil
}

// Pids lists the processes of the container by their pids on the host.
func (s *Service) Pids(ctx context.Context, r *api.PidsRequest) (*api.PidsResponse, error) {
	c, err := s.find(r.GetID())
	if err != nil {
		return nil, toGRPC(err)
	}
	pids, err := c.rt.Pids(ctx)
	if err != nil {
		return nil, toGRPC(err)
	}
	execs := c.pidOfExec()
	res := &api.PidsResponse{}
	for _, pid := range pids {
		info := &apitask.ProcessInfo{Pid: uint32(pid)}
		if id, ok := execs[pid]; ok {
			if info.Info, err = toAny(&options.ProcessDetails{ExecID: id}); err != nil {
				return nil, toGRPC(err)
			}
		}
		res.Processes = append(res.Processes, info)
	}
	return res, nil
}

// Stats returns the metrics of the cgroup, also between exit and delete.
func (s *Service) Stats(_ context.Context, r *api.StatsRequest) (*api.StatsResponse, error) {
	c, err := s.find(r.GetID())
	if err != nil {
		return nil, toGRPC(err)
	}
	m, err := c.rt.Stats()
	if err != nil {
		return nil, toGRPC(err)
	}
	a, err := toAny(m)
	if err != nil {
		return nil, toGRPC(err)
	}
	return &api.StatsResponse{Stats: a}, nil
}

// toAny names the type as containerd does: without the prefix of a host.
func toAny(m proto.Message) (*anypb.Any, error) {
	b, err := proto.Marshal(m)
	if err != nil {
		return nil, err
	}
	return &anypb.Any{TypeUrl: string(m.ProtoReflect().Descriptor().FullName()), Value: b}, nil
}
