package seccomp_test

import (
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/runtime"
	"sysbox/tests/testcontainer"
)

// agent is a seccomp agent (runtime-spec, linux.seccomp.listenerPath) that answers mkdir
// with ENOTEMPTY, which nothing else does, and lets all else go on.
type agent struct {
	listener *net.UnixListener
	states   chan specs.ContainerProcessState
}

func newAgent(t *testing.T) *agent {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "agent"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	a := &agent{listener: l, states: make(chan specs.ContainerProcessState, 10)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.AcceptUnix()
			if err != nil {
				return
			}
			a.take(t, conn)
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return a
}

func (a *agent) take(t *testing.T, conn *net.UnixConn) {
	defer conn.Close()
	text, control := make([]byte, 64<<10), make([]byte, 256)
	n, oobn, _, _, err := conn.ReadMsgUnix(text, control)
	if err != nil {
		t.Error(err)
		return
	}
	var state specs.ContainerProcessState
	if err := json.Unmarshal(text[:n], &state); err != nil {
		t.Errorf("%v: %s", err, text[:n])
	}
	messages, err := unix.ParseSocketControlMessage(control[:oobn])
	if err != nil || len(messages) != 1 {
		t.Errorf("%d control messages, %v", len(messages), err)
		return
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != len(state.Fds) || len(fds) != 1 {
		t.Errorf("files %v, names %v, %v", fds, state.Fds, err)
		return
	}
	a.states <- state
	if n, err := conn.Read(text); n != 0 || err == nil {
		t.Errorf("the connection is not closed after the state: %d, %v", n, err)
	}
	go serveNotifications(fds[0])
}

// serveNotifications answers until the last process has ended.
func serveNotifications(fd int) {
	defer unix.Close(fd)
	for {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(p, -1); err == unix.EINTR {
			continue
		}
		if p[0].Revents&unix.POLLIN == 0 {
			return
		}
		var n struct { // struct seccomp_notif
			id       uint64
			pid, _   uint32
			nr, arch uint32
			ip       uint64
			args     [6]uint64
		}
		if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&n))); e != 0 {
			continue
		}
		r := struct { // struct seccomp_notif_resp
			id    uint64
			value int64
			errno int32
			flags uint32
		}{id: n.id}
		if mkdirs[int(n.nr)] {
			r.errno = -int32(unix.ENOTEMPTY)
		} else {
			r.flags = unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE
		}
		unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&r)))
	}
}

// asks makes a spec that of an ordinary container whose agent is asked for mkdir and
// execve.
func (a *agent) asks(noNewPrivileges bool) func(*specs.Spec) {
	return func(s *specs.Spec) {
		testcontainer.Ordinary(s)
		s.Process.NoNewPrivileges = noNewPrivileges
		s.Annotations = map[string]string{"a": strings.Repeat("long ", 1000)}
		s.Linux.Seccomp = &specs.LinuxSeccomp{
			DefaultAction: specs.ActAllow, ListenerPath: a.listener.Addr().String(), ListenerMetadata: "for the agent",
			Syscalls: []specs.LinuxSyscall{{Names: []string{"mkdir", "mkdirat", "execve"}, Action: specs.ActNotify}},
		}
	}
}

// TestSeccompAgent: an agent gets the listeners of init and of execs, with the state that
// the spec wants, and its answers count.
func TestSeccompAgent(t *testing.T) {
	for _, noNewPrivileges := range []bool{true, false} {
		a := newAgent(t)
		w, text := testcontainer.Pipe(t)
		const script = "mkdir /x; /bin/busybox true && echo on"
		const want = "mkdir: can't create directory '/x': Directory not empty\non\n"
		c := testcontainer.Create(t, testcontainer.NewPod(t), runtime.CreateRequest{ID: "c1", Bundle: testcontainer.Busybox(t, a.asks(noNewPrivileges), "sh", "-c", script+"; until [ -e /end ]; do sleep 0.1; done"), Stdio: runtime.Stdio{Stdout: w, Stderr: w}})
		if err := c.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		check := func(pid int, status specs.ContainerState) {
			t.Helper()
			s := <-a.states
			if s.Pid != pid || s.Version != specs.Version || s.Fds[0] != "seccompFd" || s.Metadata != "for the agent" || s.State.ID != "c1" || s.State.Status != status || s.State.Pid != c.Init().Pid() {
				t.Errorf("the agent was told %+v; pid %d, init %d", s, pid, c.Init().Pid())
			}
		}
		check(c.Init().Pid(), specs.StateCreated)
		ew, etext := testcontainer.Pipe(t)
		p, err := c.Exec(t.Context(), runtime.ExecRequest{Process: &specs.Process{Args: []string{"sh", "-c", script + "; touch /end"}, Cwd: "/", Env: []string{"PATH=/bin"}, NoNewPrivileges: noNewPrivileges}, Stdio: runtime.Stdio{Stdout: ew, Stderr: ew}})
		if err != nil {
			t.Fatal(err)
		}
		check(p.Pid(), specs.StateRunning)
		testcontainer.Wait(t, p)
		if out := etext(); out != want {
			t.Errorf("the exec says %q", out)
		}
		testcontainer.Wait(t, c.Init())
		if out := text(); out != want {
			t.Errorf("init says %q", out)
		}
	}
}

// TestSeccompAgentIsNotThere: without its agent nothing runs, and the error says so.
func TestSeccompAgentIsNotThere(t *testing.T) {
	a := newAgent(t)
	c := testcontainer.Create(t, testcontainer.NewPod(t), runtime.CreateRequest{ID: "c1", Bundle: testcontainer.Busybox(t, a.asks(true), "sleep", "1000")})
	a.listener.Close()
	err := c.Start(t.Context())
	if err == nil || !strings.Contains(err.Error(), "listenerPath") || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
	if exit := testcontainer.Wait(t, c.Init()); exit.Status != 137 {
		t.Errorf("init ended with %d", exit.Status)
	}
}
