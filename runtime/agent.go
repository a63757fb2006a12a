package runtime

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"sysbox/runtime/process"
	"sysbox/runtime/program"
)

// agentDeadline bounds the delivery of a listener to its agent.
const agentDeadline = 10 * time.Second

// listens tells whether a profile's filter has a listener, which is an agent's.
func listens(f *process.Filter) bool {
	return f != nil && f.Flags&unix.SECCOMP_FILTER_FLAG_NEW_LISTENER != 0
}

// handOver gives the listener of a process's filter to the agent of the spec's
// linux.seccomp.listenerPath, while the process goes on to its execve: that may be the
// first call which waits for the agent. What is returned waits for the delivery and tells
// its error, after which the process is killed.
func (c *Container) handOver(f *process.Filter, socket *os.File, p *Process, status specs.ContainerState) (wait func() error) {
	if !listens(f) || socket == nil {
		return func() error { return nil }
	}
	done := make(chan error, 1)
	go func() {
		err := c.deliver(socket, p, status)
		if err != nil {
			p.Signal(int(unix.SIGKILL))
		}
		done <- err
	}()
	return func() error { return <-done }
}

func (c *Container) deliver(socket *os.File, p *Process, status specs.ContainerState) error {
	listener, err := awaitFile(socket, p)
	if listener == nil || err != nil {
		return err
	}
	defer listener.Close()
	s := c.plan.Seccomp
	state := specs.ContainerProcessState{
		Version: specs.Version, Fds: []string{specs.SeccompFdName}, Pid: p.Pid(), Metadata: s.ListenerMetadata, State: *c.rec.state(status),
	}
	if err := sendToAgent(s.ListenerPath, state, listener); err != nil {
		return fmt.Errorf("linux.seccomp.listenerPath: hand the listener to the agent: %w; start the agent first", err)
	}
	return nil
}

// awaitFile waits until a process has sent a file; nil if it ends without.
func awaitFile(socket *os.File, p *Process) (*os.File, error) {
	for deadline := time.Now().Add(stepDeadline); time.Now().Before(deadline); {
		poll := []unix.PollFd{{Fd: int32(socket.Fd()), Events: unix.POLLIN}}
		if _, err := unix.Poll(poll, 100); err != nil && err != unix.EINTR {
			return nil, err
		}
		if poll[0].Revents != 0 {
			fd, err := program.ReceiveFile(socket)
			if fd < 0 {
				return nil, err // it has failed, and says so elsewhere
			}
			return os.NewFile(uintptr(fd), "seccomp listener"), err
		}
		select {
		case <-p.done:
			return nil, nil
		default:
		}
	}
	return nil, fmt.Errorf("linux.seccomp: the process has not sent its listener for %v", stepDeadline)
}

// sendToAgent sends the state and the file in one message, and nothing else
// (runtime-spec, config-linux.md, "Container Process State").
func sendToAgent(path string, state specs.ContainerProcessState, listener *os.File) error {
	text, err := json.Marshal(state)
	if err != nil {
		return err
	}
	conn, err := net.DialTimeout("unix", path, agentDeadline)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(agentDeadline)); err != nil {
		return err
	}
	n, _, err := conn.(*net.UnixConn).WriteMsgUnix(text, unix.UnixRights(int(listener.Fd())), nil)
	if err != nil {
		return err
	}
	if n < len(text) { // a long state, on a socket with a small buffer
		_, err = conn.Write(text[n:])
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("it did not take it for %v", agentDeadline)
	}
	return err
}
