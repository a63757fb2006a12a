package conformance

import (
	"encoding/json"
	"net"
	"path/filepath"
	"testing"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// listen starts a seccomp agent in the bundle that answers whatever it is asked with
// ENOTEMPTY; what it was told comes over the channel.
func (w *world) listen(t *testing.T) chan specs.ContainerProcessState {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(w.bundle, "agent"), Net: "unix"})
	must(t, err)
	t.Cleanup(func() { l.Close() })
	told := make(chan specs.ContainerProcessState, 1)
	go func() {
		conn, err := l.AcceptUnix()
		if err != nil {
			return
		}
		defer conn.Close()
		text, control := make([]byte, 64<<10), make([]byte, unix.CmsgSpace(4))
		n, oobn, _, _, err := conn.ReadMsgUnix(text, control)
		if err != nil {
			return
		}
		var state specs.ContainerProcessState
		_ = json.Unmarshal(text[:n], &state)
		told <- state
		if messages, err := unix.ParseSocketControlMessage(control[:oobn]); err == nil && len(messages) == 1 {
			if fds, err := unix.ParseUnixRights(&messages[0]); err == nil {
				answer(fds[0])
			}
		}
	}()
	return told
}

// answer answers notifications until nobody is left who could ask.
func answer(fd int) {
	defer unix.Close(fd)
	for {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(p, -1); err != nil && err != unix.EINTR || p[0].Revents&unix.POLLHUP != 0 {
			return
		}
		var asked [80]byte // struct seccomp_notif, its id first
		if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&asked))); e != 0 {
			continue
		}
		reply := struct { // struct seccomp_notif_resp
			id           [8]byte
			value        int64
			errno, flags int32
		}{id: [8]byte(asked[:8]), errno: -int32(unix.ENOTEMPTY)}
		_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&reply)))
	}
}
