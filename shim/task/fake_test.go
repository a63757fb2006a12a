// SPDX-License-Identifier: Apache-2.0

package task

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	cgroup1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	"github.com/containerd/containerd/api/events"
	api "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"sysbox/runtime"
)

// fakePod makes containers of nothing, with faults and delays that the kernel
// cannot be made to show at will.
type fakePod struct {
	mu         sync.Mutex
	create     func() error
	containers map[string]*fakeContainer
	requests   []runtime.CreateRequest
	ownPIDs    bool
	startErr   error
	duringRun  func(p *fakeProcess)                        // called inside Start and Exec, when the process runs
	onExec     func(p *fakeProcess, r runtime.ExecRequest) // called inside Exec
	execErr    error                                       // of Exec, which onExec may set
	all        []*fakeContainer                            // guarded by mu
}

func (f *fakePod) Create(_ context.Context, _ string, r runtime.CreateRequest) (Container, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests = append(f.requests, r)
	if f.create != nil {
		if err := f.create(); err != nil {
			return nil, err
		}
	}
	b := &fakeContainer{pod: f, init: newFakeProcess(1000 + len(f.containers)*100)}
	f.containers[r.ID] = b
	f.all = append(f.all, b)
	return b, nil
}

func (f *fakePod) Close() error { return nil }

type fakeContainer struct {
	pod      *fakePod
	mu       sync.Mutex
	init     *fakeProcess
	execs    []*fakeProcess
	killed   []int
	oom      func()
	deleted  bool
	resumed  int
	oomKills uint64
	update   *specs.LinuxResources
}

func (b *fakeContainer) Init() Process { return b.init }

func (b *fakeContainer) Start(context.Context) error {
	if b.pod.startErr != nil {
		b.init.end(1)
		return b.pod.startErr
	}
	if b.pod.duringRun != nil {
		b.pod.duringRun(b.init)
	}
	return nil
}

func (b *fakeContainer) Exec(_ context.Context, r runtime.ExecRequest) (Process, error) {
	if b.pod.startErr != nil {
		return nil, b.pod.startErr
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	p := newFakeProcess(b.init.pid + 1 + len(b.execs))
	b.execs = append(b.execs, p)
	if b.pod.duringRun != nil {
		b.pod.duringRun(p)
	}
	if b.pod.onExec != nil {
		b.pod.onExec(p, r)
	}
	if b.pod.execErr != nil {
		return nil, b.pod.execErr
	}
	return p, nil
}

func (b *fakeContainer) Pause(context.Context) error  { return nil }
func (b *fakeContainer) Resume(context.Context) error { b.resumed++; return nil }
func (b *fakeContainer) Update(_ context.Context, r *specs.LinuxResources) error {
	b.update = r
	return nil
}

func (b *fakeContainer) OOMKills() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.oomKills
}

func (b *fakeContainer) Stats() (proto.Message, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return &cgroup1.Metrics{MemoryOomControl: &cgroup1.MemoryOomControl{OomKill: b.oomKills}}, nil
}
func (b *fakeContainer) OwnPIDNamespace() bool        { return b.pod.ownPIDs }
func (b *fakeContainer) WatchOOM(f func()) error      { b.oom = f; return nil }
func (b *fakeContainer) Delete(context.Context) error { b.deleted = true; return nil }

func (b *fakeContainer) Pids(context.Context) ([]int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	pids := []int{b.init.pid}
	for _, p := range b.execs {
		pids = append(pids, p.pid)
	}
	return pids, nil
}

func (b *fakeContainer) SignalAll(_ context.Context, sig int) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.killed = append(b.killed, sig)
	if sig == int(unix.SIGKILL) {
		for _, p := range append([]*fakeProcess{b.init}, b.execs...) {
			p.end(128 + sig)
		}
	}
	return nil
}

type fakeProcess struct {
	pid  int
	once sync.Once
	done chan struct{}
	exit runtime.Exit
	// console is the master of its terminal, if it has one.
	console *os.File
}

func newFakeProcess(pid int) *fakeProcess { return &fakeProcess{pid: pid, done: make(chan struct{})} }

func (p *fakeProcess) end(status int) {
	p.once.Do(func() {
		p.exit = runtime.Exit{Status: status, At: time.Now()}
		close(p.done)
	})
}

func (p *fakeProcess) Pid() int          { return p.pid }
func (p *fakeProcess) Console() *os.File { return p.console }

func (p *fakeProcess) Wait(ctx context.Context) (runtime.Exit, error) {
	select {
	case <-p.done:
		return p.exit, nil
	case <-ctx.Done():
		return runtime.Exit{}, ctx.Err()
	}
}

func (p *fakeProcess) Signal(sig int) error {
	select {
	case <-p.done:
		return os.ErrProcessDone
	default:
	}
	p.end(128 + sig)
	return nil
}

// recorder keeps events in order.
type recorder struct {
	mu  sync.Mutex
	got []string
}

func (r *recorder) Publish(e proto.Message) {
	var s string
	switch e := e.(type) {
	case *events.TaskCreate:
		s = "create " + e.ContainerID
	case *events.TaskStart:
		s = "start " + e.ContainerID
	case *events.TaskExit:
		s = "exit " + e.ID
	case *events.TaskDelete:
		s = "delete " + e.ContainerID
	case *events.TaskExecAdded:
		s = "exec-added " + e.ExecID
	case *events.TaskExecStarted:
		s = "exec-started " + e.ExecID
	case *events.TaskOOM:
		s = "oom " + e.ContainerID
	case *events.TaskPaused:
		s = "paused " + e.ContainerID
	case *events.TaskResumed:
		s = "resumed " + e.ContainerID
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, s)
}

func (r *recorder) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.got...)
}

// rig is a service over a fake pod.
type rig struct {
	t *testing.T
	*Service
	pod  *fakePod
	rec  *recorder
	stop chan struct{}
}

func newRig(t *testing.T) *rig {
	r := &rig{
		t:    t,
		pod:  &fakePod{containers: map[string]*fakeContainer{}, ownPIDs: true},
		rec:  &recorder{},
		stop: make(chan struct{}),
	}
	t.Cleanup(func() { // whoever waits for them has ended then
		for _, b := range r.pod.all {
			for _, p := range append(b.execs, b.init) {
				p.end(137)
			}
		}
	})
	r.Service = NewService("ns", r.pod, r.rec, slog.New(slog.DiscardHandler), func() { close(r.stop) })
	return r
}

func (r *rig) create(id string) {
	r.t.Helper()
	if _, err := r.Create(r.t.Context(), &api.CreateTaskRequest{ID: id, Bundle: r.t.TempDir()}); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) start(id, exec string) {
	r.t.Helper()
	if _, err := r.Start(r.t.Context(), &api.StartRequest{ID: id, ExecID: exec}); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) exec(id, exec string) {
	r.t.Helper()
	_, err := r.Exec(r.t.Context(), &api.ExecProcessRequest{ID: id, ExecID: exec, Spec: &anypb.Any{
		TypeUrl: "types.containerd.io/" + processURL, Value: []byte(`{"args":["true"],"cwd":"/"}`),
	}})
	if err != nil {
		r.t.Fatal(err)
	}
}

// running makes and starts a container and an exec in it.
func (r *rig) running(id, exec string) {
	r.t.Helper()
	r.create(id)
	r.start(id, "")
	r.exec(id, exec)
	r.start(id, exec)
}

func (r *rig) wait(id, exec string) *api.WaitResponse {
	r.t.Helper()
	res, err := r.Wait(r.t.Context(), &api.WaitRequest{ID: id, ExecID: exec})
	if err != nil {
		r.t.Fatal(err)
	}
	return res
}

func (r *rig) delete(id, exec string) *api.DeleteResponse {
	r.t.Helper()
	res, err := r.Delete(r.t.Context(), &api.DeleteRequest{ID: id, ExecID: exec})
	if err != nil {
		r.t.Fatal(err)
	}
	return res
}

func (r *rig) want(events ...string) {
	r.t.Helper()
	got := r.rec.all()
	if len(got) != len(events) {
		r.t.Fatalf("events are %q, want %q", got, events)
	}
	for i := range got {
		if got[i] != events[i] {
			r.t.Fatalf("events are %q, want %q", got, events)
		}
	}
}

// wantCode checks the error as a client sees it.
func wantCode(t *testing.T, err, code error, what string) {
	t.Helper()
	if err == nil || !errors.Is(errgrpc.ToNative(err), code) {
		t.Errorf("%s: error is %v, want one of the class %v", what, err, code)
	}
}
