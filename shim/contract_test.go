// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	bootapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	taskv2 "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

	"sysbox/shim/bundle"
	"sysbox/shim/version"
)

func TestNewStart(t *testing.T) {
	c := newCaller(t)
	dir := c.bundle("pod")
	r := c.startNew("pod", dir)
	if r.Version != 3 || r.Protocol != "ttrpc" || !strings.HasPrefix(r.Address, "unix://"+c.sockets+"/") {
		t.Errorf("answer is %v", r)
	}
	if a, err := bundle.ReadAddress(dir); err != nil || a != r.Address {
		t.Errorf("the bundle's address is %q, %v", a, err)
	}
	client := c.dial(r.Address)
	ctx := t.Context()
	v3 := v3Client{client}
	var cr taskv2.ConnectResponse
	err := v3.call(ctx, "Connect", &taskv2.ConnectRequest{ID: "pod"}, &cr)
	if err != nil || cr.TaskPid != 0 || cr.ShimPid == 0 {
		t.Fatalf("v3 connect gave %v, %v", &cr, err)
	}
	err = v3.call(ctx, "State", &taskv2.StateRequest{ID: "pod"}, &taskv2.StateResponse{})
	if !errdefs.IsNotFound(errgrpc.ToNative(err)) {
		t.Errorf("v3 state of an unknown container gave %v", err)
	}
	v2 := taskv2.NewTTRPCTaskClient(client)
	if r2, err := v2.Connect(ctx, &taskv2.ConnectRequest{ID: "pod"}); err != nil || r2.ShimPid != cr.ShimPid {
		t.Errorf("v2 connect gave %v, %v", r2, err)
	}
	_, err = v2.Pids(ctx, &taskv2.PidsRequest{ID: "pod"})
	if !errdefs.IsNotFound(errgrpc.ToNative(err)) {
		t.Errorf("v2 pids of an unknown container gave %v", err)
	}
	err = v3.call(ctx, "Create", &taskv2.CreateTaskRequest{ID: "pod", Bundle: dir, Checkpoint: "/x"}, &taskv2.CreateTaskResponse{})
	if !errdefs.IsInvalidArgument(errgrpc.ToNative(err)) {
		t.Errorf("restore gave %v", err)
	}

	if err := v3.call(ctx, "Shutdown", &taskv2.ShutdownRequest{ID: "pod"}, &emptypb.Empty{}); err != nil {
		t.Errorf("shutdown: %v", err)
	}
	gone(t, int(cr.ShimPid))
	if _, err := os.Stat(strings.TrimPrefix(r.Address, "unix://")); !os.IsNotExist(err) {
		t.Errorf("the socket was left: %v", err)
	}
}

// Containers of a pod that are started at once get one shim.
func TestStartsTogether(t *testing.T) {
	c := newCaller(t)
	const n = 8
	addresses := make([]string, n)
	var wg sync.WaitGroup
	for i := range n {
		id, dir := fmt.Sprintf("box%d", i), c.bundle("pod")
		wg.Go(func() {
			out, err := c.run(id, dir, c.params(id), "start")
			var r bootapi.BootstrapResult
			if err != nil || proto.Unmarshal(out, &r) != nil {
				t.Errorf("start: %v: %s", err, out)
			}
			addresses[i] = r.Address
		})
	}
	wg.Wait()
	c.killAfter(addresses[0])
	for _, a := range addresses {
		if a != addresses[0] {
			t.Errorf("addresses are %q", addresses)
		}
	}
}

// TestNobodyHears: containerd has ended before start could answer, or has removed the bundle
// as it came back. No daemon is left that nobody knows; one that serves others goes on.
func TestNobodyHears(t *testing.T) {
	for name, spoil := range map[string]func(dir string, cmd *exec.Cmd){
		"no reader": func(_ string, cmd *exec.Cmd) {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			r.Close()
			t.Cleanup(func() { w.Close() })
			cmd.Stdout = w
		},
		"no place for the address": func(dir string, _ *exec.Cmd) {
			if err := os.Mkdir(filepath.Join(dir, "address"), 0o700); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCaller(t)
			start := func(id string) {
				t.Helper()
				dir := c.bundle("pod")
				cmd := c.command(t.Context(), id, dir, c.params(id), "start")
				spoil(dir, cmd)
				if err := cmd.Run(); err == nil {
					t.Error("start has succeeded")
				}
			}
			start("pod")
			if left := c.daemons(); len(left) > 0 {
				t.Errorf("daemons are left: %v", left)
			}
			if left, err := filepath.Glob(c.sockets + "/*"); err != nil || slices.ContainsFunc(left, isSocket) {
				t.Errorf("a socket is left: %v, %v", left, err)
			}
			r := c.startNew("pod", c.bundle("pod"))
			before := c.shimPid(r.Address)
			start("box")
			if after := c.shimPid(r.Address); after != before {
				t.Errorf("the daemon is %d, and was %d", after, before)
			}
		})
	}
}

func isSocket(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.Mode().Type() == os.ModeSocket
}

// daemons are the processes that serve the caller's namespace.
func (c *caller) daemons() (pids []string) {
	c.t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		c.t.Fatal(err)
	}
	for _, p := range all {
		args, err := os.ReadFile(p + "/cmdline")
		if err == nil && bytes.Contains(args, []byte("-namespace\x00"+c.namespace+"\x00")) {
			pids = append(pids, filepath.Base(p))
		}
	}
	return pids
}

// What the daemon is like otherwise, package tests/contract sees.
func TestDaemon(t *testing.T) {
	c := newCaller(t)
	leak, err := os.Create(filepath.Join(c.sockets, "leak"))
	if err != nil {
		t.Fatal(err)
	}
	defer leak.Close()
	c.leak = leak
	r := c.startNew("pod", c.bundle("pod"))
	pid := c.shimPid(r.Address)
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil || len(fds) == 0 {
		t.Fatalf("open files are %q, %v", fds, err)
	}
	for _, fd := range fds {
		if target, err := os.Readlink(fd); err == nil && target == leak.Name() {
			t.Errorf("the daemon has the caller's file as %s", fd)
		}
	}
}

// ShimCgroup moves the daemon in every hierarchy before start answers.
func TestShimCgroup(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("makes cgroups, which takes root")
	}
	c := newCaller(t)
	name := fmt.Sprintf("sysbox-shim-cgroup-%d", os.Getpid())
	opts, err := proto.Marshal(&options.Options{ShimCgroup: "/" + name})
	if err != nil {
		t.Fatal(err)
	}
	in, err := proto.Marshal(&anypb.Any{TypeUrl: "containerd.runc.v1.Options", Value: opts})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // after the daemon's end
		dirs, _ := filepath.Glob("/sys/fs/cgroup/*/" + name)
		for _, d := range append(dirs, "/sys/fs/cgroup/"+name) {
			if err := os.Remove(d); err != nil && !os.IsNotExist(err) {
				t.Error(err)
			}
		}
	})
	out, err := c.run("pod", c.bundle(name), in, "start")
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	pid := c.shimPid(string(out))
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(strings.TrimSpace(string(b)), "\n") {
		if !strings.HasSuffix(line, ":/"+name) {
			t.Errorf("the daemon is in %s", line)
		}
	}
	if err := unix.Kill(pid, unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	gone(t, pid)
}

// Even where the socket's mode would let others in, the daemon does not.
func TestPeer(t *testing.T) {
	c := newCaller(t)
	r := c.startNew("pod", c.bundle("pod"))
	path := strings.TrimPrefix(r.Address, "unix://")
	for p, mode := range map[string]os.FileMode{c.sockets: 0o755, path: 0o666} {
		if err := os.Chmod(p, mode); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	exe := filepath.Join(c.sockets, "other") // where another user may execute it
	if err := os.WriteFile(exe, self, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, u := range []struct {
		id   uint32
		want int
	}{{0, connected}, {65534, refusedByPeer}} {
		cmd := exec.Command(exe)
		cmd.Env = []string{asOther + "=" + path}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: u.id, Gid: u.id}}
		out, _ := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != u.want {
			t.Errorf("uid %d: outcome %d, want %d: %s", u.id, got, u.want, out)
		}
	}
}

// v3Client calls version 3 of the API with the messages of version 2, whose
// bytes are the same. The tests with the real containerd use its own client.
type v3Client struct{ c *ttrpc.Client }

func (v v3Client) call(ctx context.Context, method string, req, res proto.Message) error {
	return v.c.Call(ctx, "containerd.task.v3.Task", method, req, res)
}

// Exit codes of connectAsOther.
const (
	connected = iota + 10
	refusedByPeer
	noConnection
)

func connectAsOther(path string) int {
	conn, err := net.Dial("unix", path)
	if err != nil {
		fmt.Println(err)
		return noConnection
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err = taskv2.NewTTRPCTaskClient(ttrpc.NewClient(conn)).Connect(ctx, &taskv2.ConnectRequest{ID: "x"})
	if err != nil {
		fmt.Println(err)
		return refusedByPeer
	}
	return connected
}

// The log FIFO gets the daemon's lines, and without a reader holds nobody up.
func TestLog(t *testing.T) {
	c := newCaller(t)
	dir := c.bundle("pod")
	fifo := filepath.Join(dir, "log")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	c.startNew("pod", dir, "-debug") // no reader
	f, err := os.OpenFile(fifo, os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(f).ReadString('\n')
	if err != nil || !strings.Contains(line, "level=DEBUG msg=serving") {
		t.Errorf("log has %q, %v", line, err)
	}
}

// A refused specification is InvalidArgument with the sentence, by either service.
func TestRefusal(t *testing.T) {
	c := newCaller(t)
	dir := c.bundle("pod")
	spec := `{"ociVersion":"1.3.0","process":{"args":["true"],"cwd":"/"},"root":{"path":"rootfs"},"linux":{"intelRdt":{"closID":"x"}}}`
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(spec), 0o600); err != nil {
		t.Fatal(err)
	}
	client := c.dial(c.startNew("box", dir).Address)
	req := &taskv2.CreateTaskRequest{ID: "box", Bundle: dir}
	_, v2 := taskv2.NewTTRPCTaskClient(client).Create(t.Context(), req)
	v3 := v3Client{client}.call(t.Context(), "Create", req, &taskv2.CreateTaskResponse{})
	for _, err := range []error{v2, v3} {
		if !errdefs.IsInvalidArgument(errgrpc.ToNative(err)) || !strings.Contains(err.Error(), "intelRdt") {
			t.Errorf("create gave %v", err)
		}
	}
}

func TestBadCommandLine(t *testing.T) {
	t.Chdir(t.TempDir())
	run := func(args ...string) (string, int) {
		var out bytes.Buffer
		args = append([]string{"shim", "-namespace", "ns", "-address", "/run/test.sock", "-publish-binary", "/bin/true", "-id", "x"}, args...)
		code := Main(args, strings.NewReader(""), &out, &out)
		return out.String(), code
	}
	for _, args := range [][]string{{"restart"}, {"-nonsense", "start"}, {"-namespace", "", "start"}, {"-id", "", "start"}, {"-id", "", "delete"}, {"check", "now"}} {
		if out, code := run(args...); code == 0 || out == "" {
			t.Errorf("%q: exit code %d: %q; want a failure with its reason", args, code, out)
		}
	}
	// What a person asks for first names what a person can run.
	for _, help := range []string{"-help", "--help", "help"} {
		out, code := run(help)
		for _, want := range []string{"check ", "reclaim ", "-bundle"} {
			if code != 0 || !strings.Contains(out, want) {
				t.Errorf("%s: exit code %d: %q does not have %q", help, code, out, want)
			}
		}
	}
	for _, ask := range []string{"-v", "-version", "--version", "version"} {
		if out, code := run(ask); code != 0 || !strings.Contains(out, "version:  "+version.Version+"\n") {
			t.Errorf("%s: exit code %d: %q", ask, code, out)
		}
	}
}
