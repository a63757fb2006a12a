// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"

	api "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/containerd/ttrpc"

	"sysbox/shim/task"
)

var _ api.TTRPCTaskService = (*task.Service)(nil)

// register serves both versions of the task API. Their messages have the same
// names and field numbers, so the bytes on the wire are the same, and the Go types
// of version 2 serve both: the package of version 3 would bring in gRPC, some
// megabytes of memory that nothing here uses.
func register(srv *ttrpc.Server, s *task.Service) {
	desc := &ttrpc.ServiceDesc{Methods: map[string]ttrpc.Method{
		"State":      method(s.State),
		"Create":     method(s.Create),
		"Start":      method(s.Start),
		"Delete":     method(s.Delete),
		"Pids":       method(s.Pids),
		"Pause":      method(s.Pause),
		"Resume":     method(s.Resume),
		"Checkpoint": method(s.Checkpoint),
		"Kill":       method(s.Kill),
		"Exec":       method(s.Exec),
		"ResizePty":  method(s.ResizePty),
		"CloseIO":    method(s.CloseIO),
		"Update":     method(s.Update),
		"Wait":       method(s.Wait),
		"Stats":      method(s.Stats),
		"Connect":    method(s.Connect),
		"Shutdown":   method(s.Shutdown),
	}}
	srv.RegisterService("containerd.task.v2.Task", desc)
	srv.RegisterService("containerd.task.v3.Task", desc)
}

// method decodes the request and calls f.
func method[Req, Res any](f func(context.Context, *Req) (*Res, error)) ttrpc.Method {
	return func(ctx context.Context, unmarshal func(any) error) (any, error) {
		req := new(Req)
		if err := unmarshal(req); err != nil {
			return nil, err
		}
		res, err := f(ctx, req)
		if err != nil {
			return nil, err
		}
		return res, nil
	}
}
