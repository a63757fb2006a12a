// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	taskapi "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/containerd/containerd/api/types"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/anypb"

	"sysbox/tests/pace"
)

// A box is a container as its caller knows it. Its methods are calls of the task service
// and return what is compared: "ok" or an error's code, and what was answered.
type box struct {
	r       *rig
	s       *shim
	id      string
	pid     uint32
	deleted bool // by the task service
	over    bool // there is nothing to be ended
}

// streams are where a process's streams lead to.
type streams struct {
	stdin, stdout, stderr string
	terminal              bool
}

// new makes a bundle and starts a shim for it, but creates nothing.
func (r *rig) new(id string, args []string, edit ...func(*specs.Spec)) *box {
	r.t.Helper()
	r.bundle(id, args, edit...)
	s, _ := r.start(id)
	return r.boxOf(s, id)
}

func (r *rig) boxOf(s *shim, id string) *box {
	b := &box{r: r, s: s, id: id}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.boxes = append(r.boxes, b)
	return b
}

// created is a container that was not started.
func (r *rig) created(id string, args ...string) *box {
	r.t.Helper()
	b := r.new(id, args)
	b.ok(b.create(streams{}))
	return b
}

// running is one that was.
func (r *rig) running(id string, args ...string) *box {
	r.t.Helper()
	b := r.created(id, args...)
	b.ok(b.start(""))
	return b
}

// sleeper is one that does nothing, in which a signal of which it does not die is lost.
func (r *rig) sleeper(id string) *box {
	r.t.Helper()
	b := r.running(id, sleep...)
	// Until then it is runc itself, which dies of other signals.
	eventually(func() bool {
		comm, _ := os.ReadFile(filepath.Join("/proc", itoa(b.pid), "comm"))
		return string(comm) == "sleep\n"
	})
	return b
}

func (b *box) ok(outcome string) {
	b.r.t.Helper()
	if outcome != "ok" {
		b.r.t.Fatalf("%s: %s", b.id, outcome)
	}
}

// background outlives the test's end, as the clean-up does.
func background() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), patience)
}

func (b *box) create(io streams, edit ...func(*taskapi.CreateTaskRequest)) string {
	b.r.t.Helper()
	ctx, cancel := background()
	defer cancel()
	return b.createWith(ctx, io, edit...)
}

func (b *box) createWith(ctx context.Context, io streams, edit ...func(*taskapi.CreateTaskRequest)) string {
	b.r.t.Helper()
	req := &taskapi.CreateTaskRequest{
		ID: b.id, Bundle: b.r.bundleDir(b.id),
		Stdin: io.stdin, Stdout: io.stdout, Stderr: io.stderr, Terminal: io.terminal,
	}
	options := b.r.layers(b.id)
	if b.r.form == crioForm {
		b.r.mount(filepath.Join(b.r.bundleDir(b.id), "../merged-"+b.id), options)
	} else {
		req.Rootfs = []*types.Mount{{Type: "overlay", Source: "overlay", Options: options}}
	}
	for _, e := range edit {
		e(req)
	}
	res, err := b.s.task.Create(ctx, req)
	if err == nil {
		b.pid = res.Pid
		b.r.know(res.Pid, b.id)
	}
	return b.r.code(err)
}

func (r *rig) know(pid uint32, who string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.names[pid] = who
}

func (b *box) start(exec string) string {
	ctx, cancel := background()
	defer cancel()
	res, err := b.s.task.Start(ctx, &taskapi.StartRequest{ID: b.id, ExecID: exec})
	if err == nil {
		b.r.know(res.Pid, strings.TrimSpace(b.id+" "+exec))
	}
	return b.r.code(err)
}

// add is the task service's Exec, which notes a process to be started.
func (b *box) add(exec string, io streams, args ...string) string {
	spec, err := json.Marshal(&specs.Process{Args: args, Cwd: "/", Env: []string{"PATH=/bin"}, Terminal: io.terminal})
	b.r.must(err)
	ctx, cancel := background()
	defer cancel()
	_, err = b.s.task.Exec(ctx, &taskapi.ExecProcessRequest{
		ID: b.id, ExecID: exec, Stdin: io.stdin, Stdout: io.stdout, Stderr: io.stderr, Terminal: io.terminal,
		Spec: &anypb.Any{TypeUrl: "types.containerd.io/opencontainers/runtime-spec/1/Process", Value: spec},
	})
	return b.r.code(err)
}

// exec adds and starts a process.
func (b *box) exec(exec string, io streams, args ...string) {
	b.r.t.Helper()
	b.ok(b.add(exec, io, args...))
	b.ok(b.start(exec))
}

func (b *box) wait(exec string) string {
	ctx, cancel := background()
	defer cancel()
	res, err := b.s.task.Wait(ctx, &taskapi.WaitRequest{ID: b.id, ExecID: exec})
	if err != nil {
		return b.r.code(err)
	}
	b.r.awaitExit(b.id, exec)
	return fmt.Sprint(res.ExitStatus)
}

func (b *box) kill(exec string, sig int) string {
	ctx, cancel := background()
	defer cancel()
	_, err := b.s.task.Kill(ctx, &taskapi.KillRequest{ID: b.id, ExecID: exec, Signal: uint32(sig)})
	return b.r.code(err)
}

func (b *box) killAll(sig int) string {
	ctx, cancel := background()
	defer cancel()
	_, err := b.s.task.Kill(ctx, &taskapi.KillRequest{ID: b.id, Signal: uint32(sig), All: true})
	return b.r.code(err)
}

// delete is the task service's Delete.
func (b *box) delete(exec string) string {
	ctx, cancel := background()
	defer cancel()
	res, err := b.s.task.Delete(ctx, &taskapi.DeleteRequest{ID: b.id, ExecID: exec})
	if err != nil {
		return b.r.code(err)
	}
	if exec == "" {
		b.r.mu.Lock()
		b.deleted, b.over = true, true
		b.r.mu.Unlock()
	}
	out := fmt.Sprint(res.ExitStatus)
	if exec == "" && res.Pid != b.pid {
		out += " with another pid"
	}
	return out
}

// state is a process's state, with its exit status once it has one.
func (b *box) state(exec string) string {
	ctx, cancel := background()
	defer cancel()
	res, err := b.s.task.State(ctx, &taskapi.StateRequest{ID: b.id, ExecID: exec})
	if err != nil {
		return b.r.code(err)
	}
	out := strings.ToLower(res.Status.String())
	if out == "stopped" {
		out += fmt.Sprintf(" %d", res.ExitStatus)
	}
	return out
}

func (b *box) pause() string {
	ctx, cancel := background()
	defer cancel()
	_, err := b.s.task.Pause(ctx, &taskapi.PauseRequest{ID: b.id})
	return b.r.code(err)
}

func (b *box) resume() string {
	ctx, cancel := background()
	defer cancel()
	_, err := b.s.task.Resume(ctx, &taskapi.ResumeRequest{ID: b.id})
	return b.r.code(err)
}

func (b *box) update(json string) string {
	ctx, cancel := background()
	defer cancel()
	_, err := b.s.task.Update(ctx, &taskapi.UpdateTaskRequest{ID: b.id, Resources: &anypb.Any{
		TypeUrl: "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources", Value: []byte(json),
	}})
	return b.r.code(err)
}

func (b *box) stats() string {
	ctx, cancel := background()
	defer cancel()
	res, err := b.s.task.Stats(ctx, &taskapi.StatsRequest{ID: b.id})
	if err != nil {
		return b.r.code(err)
	}
	return res.GetStats().GetTypeUrl()
}

// pids are the container's processes, by the names that are known of them.
func (b *box) pids() string {
	ctx, cancel := background()
	defer cancel()
	res, err := b.s.task.Pids(ctx, &taskapi.PidsRequest{ID: b.id})
	if err != nil {
		return b.r.code(err)
	}
	var out []string
	b.r.mu.Lock()
	defer b.r.mu.Unlock()
	for _, p := range res.Processes {
		s := b.r.names[p.Pid]
		if s == "" {
			s = "another"
		}
		if u := p.GetInfo().GetTypeUrl(); u != "" {
			s += " (" + u + ")"
		}
		out = append(out, s)
	}
	return strings.Join(out, ", ")
}

func (b *box) resize(exec string, width, height uint32) string {
	ctx, cancel := background()
	defer cancel()
	_, err := b.s.task.ResizePty(ctx, &taskapi.ResizePtyRequest{ID: b.id, ExecID: exec, Width: width, Height: height})
	return b.r.code(err)
}

func (b *box) closeStdin(exec string) string {
	ctx, cancel := background()
	defer cancel()
	_, err := b.s.task.CloseIO(ctx, &taskapi.CloseIORequest{ID: b.id, ExecID: exec, Stdin: true})
	return b.r.code(err)
}

func (b *box) checkpoint() string {
	ctx, cancel := background()
	defer cancel()
	_, err := b.s.task.Checkpoint(ctx, &taskapi.CheckpointTaskRequest{ID: b.id, Path: filepath.Join(b.r.dir, "checkpoint")})
	return b.r.code(err)
}

func (b *box) shutdown() string {
	b.r.awaitDeletes()
	ctx, cancel := background()
	defer cancel()
	_, err := b.s.task.Shutdown(ctx, &taskapi.ShutdownRequest{ID: b.id})
	if err != nil && b.s.gone(time.Second) {
		return "ok" // runc's shim may have gone before its answer
	}
	return b.r.code(err)
}

// connect is the task service's Connect: whose pids it tells.
func (b *box) connect() string {
	ctx, cancel := background()
	defer cancel()
	res, err := b.s.task.Connect(ctx, &taskapi.ConnectRequest{ID: b.id})
	if err != nil {
		return b.r.code(err)
	}
	b.r.mu.Lock()
	defer b.r.mu.Unlock()
	out := b.r.names[res.TaskPid]
	if res.TaskPid == 0 {
		out = "no task"
	}
	if int(res.ShimPid) != b.s.pid {
		out += ", another shim"
	}
	return out
}

// eventually waits until f is so, and tells whether it came to be.
func eventually(f func() bool) bool {
	for deadline := time.Now().Add(20 * time.Second * pace.Patience()); ; time.Sleep(10 * time.Millisecond) {
		if f() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
	}
}

// mount mounts a rootfs as CRI-O does, before Create.
func (r *rig) mount(at string, options []string) {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.mounts {
		if m == filepath.Clean(at) {
			return
		}
	}
	r.must(os.MkdirAll(at, 0o755))
	r.must(unix.Mount("overlay", at, "overlay", 0, strings.Join(options, ",")))
	r.mounts = append(r.mounts, filepath.Clean(at))
}

func (r *rig) unmount() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.mounts {
		if err := unix.Unmount(m, unix.MNT_DETACH); err != nil {
			r.t.Errorf("unmount %s: %v", m, err)
		}
	}
	r.mounts = nil
}
