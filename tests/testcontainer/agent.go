// SPDX-License-Identifier: Apache-2.0

package testcontainer

import (
	"encoding/json"
	"net"
	"testing"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Agent is a seccomp agent (runtime-spec, linux.seccomp.listenerPath). It ends with the test.
type Agent struct {
	// Path is its socket's.
	Path string
	// States are those that it was told, with a listener each.
	States chan specs.ContainerProcessState

	listener *net.UnixListener
	refuses  func(nr int) bool
}

// Close removes the socket before the test ends.
func (a *Agent) Close() { a.listener.Close() }

// NewAgent starts an agent on a socket that it makes. It fails the calls whose numbers refuses
// returns true for with ENOTEMPTY, which nothing else does, and lets all others go on.
func NewAgent(t testing.TB, path string, refuses func(nr int) bool) *Agent {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	a := &Agent{Path: path, listener: l, States: make(chan specs.ContainerProcessState, 10), refuses: refuses}
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

func (a *Agent) take(t testing.TB, conn *net.UnixConn) {
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
	a.States <- state
	if n, err := conn.Read(text); n != 0 || err == nil {
		t.Errorf("the connection is not closed after the state: %d, %v", n, err)
	}
	go a.serve(fds[0])
}

// serve answers notifications until the last process that could ask has ended.
func (a *Agent) serve(fd int) {
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
		if a.refuses(int(n.nr)) {
			r.errno = -int32(unix.ENOTEMPTY)
		} else {
			r.flags = unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE
		}
		_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&r)))
	}
}
