package shim

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/containerd/api/events"
	taskv2 "github.com/containerd/containerd/api/runtime/task/v2"
	ttrpcevents "github.com/containerd/containerd/api/services/ttrpc/events/v1"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/ttrpc"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"
)

// eventLog is containerd's event service for a test.
type eventLog struct {
	mu  sync.Mutex
	got []string
}

func (l *eventLog) Forward(_ context.Context, r *ttrpcevents.ForwardRequest) (*emptypb.Empty, error) {
	s := r.GetEnvelope().GetTopic()
	if s == "/tasks/exit" {
		var e events.TaskExit
		if err := proto.Unmarshal(r.GetEnvelope().GetEvent().GetValue(), &e); err != nil {
			return nil, err
		}
		s = fmt.Sprintf("%s %s %d", s, e.ID, e.ExitStatus)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.got = append(l.got, s)
	return &emptypb.Empty{}, nil
}

func (l *eventLog) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.got)
}

// life is a caller with a container of busybox.
type life struct {
	*caller
	log    *eventLog
	bundle string
	pid    int // the shim's
	task   taskv2.TTRPCTaskService
	addr   string
}

// newLife starts a shim whose state is the test's own.
func newLife(t *testing.T, args ...string) *life {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("makes containers, which takes root")
	}
	l := &life{caller: newCaller(t), log: &eventLog{}}
	dir := t.TempDir()
	conf := filepath.Join(dir, "config.toml")
	text := fmt.Sprintf("state_dir = %q\ndata_dir = %q\n", filepath.Join(dir, "state"), filepath.Join(dir, "data"))
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SYSBOX_CONFIG_FILE", conf)
	l.serveEvents(filepath.Join(l.sockets, "ttrpc"))
	l.bundle = busyboxBundle(t, args...)
	t.Cleanup(func() {
		parents, _ := filepath.Glob("/sys/fs/cgroup/*/sysbox-shim-test")
		for _, p := range append(parents, "/sys/fs/cgroup/sysbox-shim-test") {
			os.Remove(p) // the caller's, who named it in cgroupsPath
		}
	})
	l.begin()
	return l
}

func (l *life) serveEvents(path string) {
	lis, err := net.Listen("unix", path)
	if err != nil {
		l.t.Fatal(err)
	}
	srv, err := ttrpc.NewServer()
	if err != nil {
		l.t.Fatal(err)
	}
	ttrpcevents.RegisterTTRPCEventsService(srv, l.log)
	go srv.Serve(context.Background(), lis)
	l.t.Cleanup(func() { srv.Close() })
	l.events = path
}

// begin starts the shim.
func (l *life) begin() {
	l.addr = l.startNew("box", l.bundle).Address
	l.pid = l.shimPid(l.addr)
	l.task = taskv2.NewTTRPCTaskClient(l.dial(l.addr))
}

func busyboxBundle(t *testing.T, args ...string) string {
	t.Helper()
	bundle := t.TempDir()
	root := filepath.Join(bundle, "rootfs")
	for _, d := range []string{"bin", "etc", "proc", "sys", "dev", "tmp"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatalf("install busybox-static: %v", err)
	}
	if err := os.WriteFile(filepath.Join(root, "bin/busybox"), b, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, a := range []string{"sh", "cat", "sleep", "stty", "true", "echo", "kill"} {
		if err := os.Symlink("busybox", filepath.Join(root, "bin", a)); err != nil {
			t.Fatal(err)
		}
	}
	s := &specs.Spec{
		Version: specs.Version,
		Root:    &specs.Root{Path: "rootfs"},
		Process: &specs.Process{Args: args, Cwd: "/", Env: []string{"PATH=/bin"}, Capabilities: &specs.LinuxCapabilities{}},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		},
		Linux: &specs.Linux{
			CgroupsPath: "/sysbox-shim-test/" + filepath.Base(filepath.Dir(bundle)) + filepath.Base(bundle),
			Namespaces:  []specs.LinuxNamespace{{Type: "pid"}, {Type: "ipc"}, {Type: "uts"}, {Type: "mount"}, {Type: "network"}},
		},
	}
	j, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), j, 0o600); err != nil {
		t.Fatal(err)
	}
	return bundle
}

// fifo makes a FIFO and opens it as a client does.
func (l *life) fifo(name string) (string, *os.File) {
	l.t.Helper()
	p := filepath.Join(l.bundle, name)
	if err := unix.Mkfifo(p, 0o600); err != nil {
		l.t.Fatal(err)
	}
	f, err := os.OpenFile(p, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { f.Close() })
	if err := f.SetReadDeadline(time.Now().Add(patience)); err != nil {
		l.t.Fatal(err)
	}
	return p, f
}

func (l *life) ok(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func TestLife(t *testing.T) {
	l := newLife(t, "/bin/sh", "-c", "echo out; echo err >&2; read x; echo got $x; exit 5")
	ctx := t.Context()
	out, r := l.fifo("stdout")
	errs, re := l.fifo("stderr")
	in, w := l.fifo("stdin")
	w.Close()
	c, err := l.task.Create(ctx, &taskv2.CreateTaskRequest{ID: "box", Bundle: l.bundle, Stdin: in, Stdout: out, Stderr: errs})
	l.ok(err)
	if _, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", c.Pid)); err != nil {
		t.Errorf("between create and start: %v", err)
	}
	_, err = l.task.Start(ctx, &taskv2.StartRequest{ID: "box"})
	l.ok(err)

	spec, _ := json.Marshal(&specs.Process{Args: []string{"/bin/sh", "-c", "stty size; exit 9"}, Cwd: "/", Env: []string{"PATH=/bin"}, Terminal: true, Capabilities: &specs.LinuxCapabilities{}})
	tty, rt := l.fifo("tty")
	_, err = l.task.Exec(ctx, &taskv2.ExecProcessRequest{ID: "box", ExecID: "e", Terminal: true, Stdout: tty, Spec: &anypb.Any{Value: spec}})
	l.ok(err)
	_, err = l.task.Start(ctx, &taskv2.StartRequest{ID: "box", ExecID: "e"})
	l.ok(err)
	we, err := l.task.Wait(ctx, &taskv2.WaitRequest{ID: "box", ExecID: "e"})
	l.ok(err)
	if we.ExitStatus != 9 {
		t.Errorf("the exec's status is %d", we.ExitStatus)
	}
	_, err = l.task.Delete(ctx, &taskv2.DeleteRequest{ID: "box", ExecID: "e"})
	l.ok(err)
	if b, err := io.ReadAll(rt); err != nil || !strings.Contains(string(b), " ") {
		t.Errorf("the terminal showed %q, %v", b, err)
	}
	_, err = l.task.Stats(ctx, &taskv2.StatsRequest{ID: "box"})
	l.ok(err)
	_, err = l.task.Pause(ctx, &taskv2.PauseRequest{ID: "box"})
	l.ok(err)
	_, err = l.task.Resume(ctx, &taskv2.ResumeRequest{ID: "box"})
	l.ok(err)

	cw, err := os.OpenFile(in, os.O_WRONLY, 0)
	l.ok(err)
	fmt.Fprintln(cw, "hello")
	cw.Close()
	_, err = l.task.CloseIO(ctx, &taskv2.CloseIORequest{ID: "box", Stdin: true})
	l.ok(err)
	wi, err := l.task.Wait(ctx, &taskv2.WaitRequest{ID: "box"})
	l.ok(err)
	if wi.ExitStatus != 5 {
		t.Errorf("init's status is %d", wi.ExitStatus)
	}
	d, err := l.task.Delete(ctx, &taskv2.DeleteRequest{ID: "box"})
	l.ok(err)
	if d.ExitStatus != 5 || d.Pid != c.Pid {
		t.Errorf("delete gave %v", d)
	}
	for _, s := range []struct {
		r    io.Reader
		want string
	}{{r, "out\ngot hello\n"}, {re, "err\n"}} {
		if b, err := io.ReadAll(s.r); err != nil || string(b) != s.want {
			t.Errorf("read %q, %v; want %q", b, err, s.want)
		}
	}
	_, err = l.task.Delete(ctx, &taskv2.DeleteRequest{ID: "box"})
	if !errdefs.IsNotFound(errgrpc.ToNative(err)) {
		t.Errorf("second delete gave %v", err)
	}
	_, err = l.task.Shutdown(ctx, &taskv2.ShutdownRequest{ID: "box"})
	l.ok(err)
	gone(t, l.pid)
	l.deleteCommand(5)
	want := []string{"/tasks/create", "/tasks/start", "/tasks/exec-added", "/tasks/exec-started", "/tasks/exit e 9", "/tasks/paused", "/tasks/resumed", "/tasks/exit box 5", "/tasks/delete"}
	if got := l.log.all(); !slices.Equal(got, want) {
		t.Errorf("events are\n%q, want\n%q", got, want)
	}
}

// deleteCommand runs the delete action and checks the status it knows.
func (l *life) deleteCommand(status uint32) {
	l.t.Helper()
	out, err := l.run("box", l.bundle, nil, "-bundle", l.bundle, "delete")
	if err != nil {
		l.t.Fatalf("%v: %s", err, out)
	}
	var r taskv2.DeleteResponse
	if err := proto.Unmarshal(out, &r); err != nil || r.ExitStatus != status {
		l.t.Errorf("delete answered %v, %v; want status %d", &r, err, status)
	}
}

// A killed shim's container is removed by the delete command alone.
func TestKilledShim(t *testing.T) {
	for _, started := range []bool{false, true} {
		t.Run(fmt.Sprintf("started %v", started), func(t *testing.T) {
			l := newLife(t, "/bin/sleep", "1000")
			c, err := l.task.Create(t.Context(), &taskv2.CreateTaskRequest{ID: "box", Bundle: l.bundle})
			l.ok(err)
			if started {
				_, err = l.task.Start(t.Context(), &taskv2.StartRequest{ID: "box"})
				l.ok(err)
			}
			l.ok(unix.Kill(l.pid, unix.SIGKILL))
			gone(t, l.pid)
			l.deleteCommand(137)
			l.deleteCommand(137)
			gone(t, int(c.Pid))
			l.begin() // and the pod can come again
			_, err = l.task.Create(t.Context(), &taskv2.CreateTaskRequest{ID: "box", Bundle: l.bundle})
			l.ok(err)
			_, err = l.task.Delete(t.Context(), &taskv2.DeleteRequest{ID: "box"})
			l.ok(err)
		})
	}
}

// A refused specification is InvalidArgument with the sentence, and leaves nothing.
func TestRefusal(t *testing.T) {
	l := newLife(t, "/bin/true")
	b, err := os.ReadFile(filepath.Join(l.bundle, "config.json"))
	l.ok(err)
	b = []byte(strings.Replace(string(b), `"linux":{`, `"linux":{"intelRdt":{"closID":"x"},`, 1))
	l.ok(os.WriteFile(filepath.Join(l.bundle, "config.json"), b, 0o600))
	_, err = l.task.Create(t.Context(), &taskv2.CreateTaskRequest{ID: "box", Bundle: l.bundle})
	if !errdefs.IsInvalidArgument(errgrpc.ToNative(err)) || !strings.Contains(err.Error(), "intelRdt") {
		t.Errorf("create gave %v", err)
	}
}
