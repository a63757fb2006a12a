// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// agentDeadline bounds the delivery of a listener to its agent.
const agentDeadline = 10 * time.Second

// SendToAgent sends the state and the listener in one message, and nothing else
// (runtime-spec, config-linux.md, "Container Process State").
func SendToAgent(path string, state specs.ContainerProcessState, listener *os.File) error {
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
		return fmt.Errorf("the agent did not receive it within %v", agentDeadline)
	}
	return err
}
