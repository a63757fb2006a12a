// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	taskapi "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// A shim is a connection to one, by the task service that its caller uses.
type shim struct {
	r       *rig
	address string
	pid     int
	pidfd   int
	task    taskapi.TTRPCTaskService
	client  *ttrpc.Client
}

// dial connects to a shim's socket.
func (r *rig) dial(address string) (*shim, error) {
	client, err := r.connect(address)
	if err != nil {
		return nil, err
	}
	s := &shim{r: r, address: address, client: client, task: taskapi.NewTTRPCTaskClient(client), pidfd: -1}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := s.task.Connect(ctx, &taskapi.ConnectRequest{ID: "any"})
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	s.pid = int(c.ShimPid)
	if s.pidfd, err = unix.PidfdOpen(s.pid, 0); err != nil {
		return nil, fmt.Errorf("the shim's pid is %d: %w", s.pid, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shims = append(r.shims, s)
	return s, nil
}

func (r *rig) connect(address string) (*ttrpc.Client, error) {
	conn, err := net.Dial("unix", strings.TrimPrefix(address, "unix://"))
	if err != nil {
		return nil, err
	}
	if r.form != newForm {
		return ttrpc.NewClient(conn), nil
	}
	// The messages of both versions are the same, so that version 2's client does for
	// version 3 under another name.
	return ttrpc.NewClient(conn, ttrpc.WithUnaryClientInterceptor(
		func(ctx context.Context, req *ttrpc.Request, res *ttrpc.Response, _ *ttrpc.UnaryClientInfo, invoke ttrpc.Invoker) error {
			req.Service = "containerd.task.v3.Task"
			return invoke(ctx, req, res)
		})), nil
}

// gone waits for the shim's end and tells whether it came.
func (s *shim) gone(within time.Duration) bool {
	for deadline := time.Now().Add(within); ; {
		left := max(0, time.Until(deadline))
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(s.pidfd), Events: unix.POLLIN}}, int(left/time.Millisecond))
		if err != unix.EINTR {
			return err == nil && n == 1
		}
	}
}

// kill ends it as the kernel would.
func (s *shim) kill() {
	s.r.t.Helper()
	if err := unix.PidfdSendSignal(s.pidfd, unix.SIGKILL, nil, 0); err != nil && err != unix.ESRCH {
		s.r.t.Fatal(err)
	}
	if !s.gone(patience) {
		s.r.t.Fatalf("the shim, process %d, does not die", s.pid)
	}
}

// end asks it to leave, if it is there. A caller closes its connection after the answer.
func (s *shim) end() {
	if s.gone(0) {
		return
	}
	s.r.awaitDeletes()
	s.client.Close()
	client, err := s.r.connect(s.address) // the case may have closed its own
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err = taskapi.NewTTRPCTaskClient(client).Shutdown(ctx, &taskapi.ShutdownRequest{ID: "any"})
	client.Close()
	if err == nil {
		s.gone(20 * time.Second)
	}
}

// code is a call's outcome: "ok", or the error's code, by which callers decide.
func (r *rig) code(err error) string {
	if err == nil {
		return "ok"
	}
	r.t.Logf("%s: %v", r.target.name, err)
	if s, ok := status.FromError(err); ok {
		return s.Code().String()
	}
	if strings.Contains(err.Error(), "ttrpc: closed") {
		return "closed"
	}
	return "Unknown"
}

// deleted reads the delete action's answer.
func (r *rig) deleted(out []byte) string {
	var d taskapi.DeleteResponse
	if err := proto.Unmarshal(out, &d); err != nil {
		return "unreadable"
	}
	at := ""
	if d.GetExitedAt().AsTime().Unix() <= 0 {
		at = ", no time"
	}
	return fmt.Sprintf("%d%s", d.ExitStatus, at)
}
