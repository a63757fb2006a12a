package shim

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	bootapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	taskv2 "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/ttrpc"
	"github.com/opencontainers/runtime-spec/specs-go/features"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

	"sysbox/shim/bundle"
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

func TestOldStart(t *testing.T) {
	c := newCaller(t)
	var addresses []string
	for i, stdin := range [][]byte{nil, {0x0a, 0x01, 'x'}} { // CRI-O; an Any of an unknown type
		out, err := c.run("pod", c.bundle("pod-"+strconv.Itoa(os.Getpid())), stdin, "start")
		if err != nil {
			t.Fatalf("start %d: %v: %s", i, err, out)
		}
		if !strings.HasPrefix(string(out), "unix:///run/containerd/s/") || strings.ContainsAny(string(out), "\n{") {
			t.Errorf("answer is %q, want a bare address", out)
		}
		if i == 0 {
			c.killAfter(string(out))
		}
		addresses = append(addresses, string(out))
	}
	if addresses[0] != addresses[1] {
		t.Errorf("one pod has two addresses: %q", addresses)
	}
}

// Containers of one pod share a shim; a killed one is replaced.
func TestGrouping(t *testing.T) {
	c := newCaller(t)
	first := c.startNew("pod", c.bundle("pod"))
	second := c.startNew("box", c.bundle("pod"))
	if first.Address != second.Address {
		t.Fatalf("addresses are %s and %s", first.Address, second.Address)
	}
	pid := c.shimPid(first.Address)
	if other := c.startNew("x", c.bundle("other")); other.Address == first.Address {
		t.Error("two pods share a shim")
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	gone(t, pid)
	third := c.startNew("box2", c.bundle("pod"))
	if third.Address != first.Address || c.shimPid(third.Address) == pid {
		t.Errorf("after a kill the address is %s, pid %d", third.Address, c.shimPid(third.Address))
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
	proc := fmt.Sprintf("/proc/%d/", pid)
	if cwd, err := os.Readlink(proc + "cwd"); err != nil || cwd != "/" {
		t.Errorf("working directory is %s, %v", cwd, err)
	}
	if sid, err := unix.Getsid(pid); err != nil || sid != pid {
		t.Errorf("session is %d, %v; want its own", sid, err)
	}
	score := func(path string) int {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(strings.TrimSpace(string(b)))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if got, want := score(proc+"oom_score_adj"), min(score("/proc/self/oom_score_adj")+1, 1000); got != want {
		t.Errorf("oom_score_adj is %d, want %d", got, want)
	}
	st, err := os.Stat(strings.TrimPrefix(r.Address, "unix://"))
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("socket is %v, %v", st.Mode(), err)
	}
	// SIGTERM ends it, and its socket with it.
	if err := unix.Kill(pid, unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	gone(t, pid)
	if _, err := os.Stat(strings.TrimPrefix(r.Address, "unix://")); !os.IsNotExist(err) {
		t.Errorf("the socket was left: %v", err)
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

func TestInfo(t *testing.T) {
	c := newCaller(t)
	out, err := c.run("x", t.TempDir(), []byte{0x0a, 0x01, 'x'}, "-info")
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var info types.RuntimeInfo
	if err := proto.Unmarshal(out, &info); err != nil {
		t.Fatal(err)
	}
	var f features.Features
	if err := json.Unmarshal(info.GetFeatures().GetValue(), &f); err != nil {
		t.Fatal(err)
	}
	if info.Name != Name || info.Features.TypeUrl != featuresURL || !slices.Contains(f.Linux.Namespaces, "user") ||
		!*f.Linux.MountExtensions.IDMap.Enabled || !slices.Contains(f.MountOptions, "rro") {
		t.Errorf("info is %v", &info)
	}
}

func TestDelete(t *testing.T) {
	c := newCaller(t)
	dir := c.bundle("pod")
	call := func() *taskv2.DeleteResponse {
		t.Helper()
		out, err := c.run("pod", dir, nil, "-bundle", dir, "delete")
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		var r taskv2.DeleteResponse
		if err := proto.Unmarshal(out, &r); err != nil {
			t.Fatal(err)
		}
		return &r
	}
	if r := call(); r.ExitStatus != 137 || r.ExitedAt == nil {
		t.Errorf("without anything known the answer is %v", r)
	}
	at := time.Unix(1700000000, 5)
	if err := bundle.WriteExit(dir, bundle.Exit{Pid: 77, Status: 3, At: at}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if r := call(); r.ExitStatus != 3 || r.Pid != 77 || !r.ExitedAt.AsTime().Equal(at) {
			t.Errorf("with exit.json the answer is %v", r)
		}
	}

	// A killed shim's socket goes; a living one's stays.
	s := c.startNew("pod", dir)
	call()
	pid := c.shimPid(s.Address)
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	gone(t, pid)
	call()
	if _, err := os.Stat(strings.TrimPrefix(s.Address, "unix://")); !os.IsNotExist(err) {
		t.Errorf("the dead shim's socket was left: %v", err)
	}
}

func TestBadCommandLine(t *testing.T) {
	c := newCaller(t)
	for _, args := range [][]string{{"restart"}, {"-nonsense", "start"}, {"-namespace", "", "start"}, {"-id", "", "start"}, {"-id", "", "delete"}} {
		if out, err := c.run("x", t.TempDir(), nil, args...); err == nil || len(out) == 0 {
			t.Errorf("%q: %v: %q; want a failure with its reason", args, err, out)
		}
	}
}
