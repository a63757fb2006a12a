// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bootapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	taskv2 "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"sysbox/tests/leak"
	"sysbox/tests/pace"
	"sysbox/tests/peers"
)

// patience ends a test that would hang; no outcome depends on it.
var patience = 30 * time.Second * pace.Patience()

// asOther is what the test binary does when it is run as another user: it
// connects to the socket, asks, and reports by its exit code.
const asOther = "SYSBOX_TEST_CONNECT"

func TestMain(m *testing.M) {
	if path := os.Getenv(asOther); path != "" {
		os.Exit(connectAsOther(path))
	}
	os.Exit(leak.Prepared(peers.PrepareShim, m, ""))
}

// caller runs the shim's command as a container manager does.
type caller struct {
	t         *testing.T
	bin       string
	namespace string
	sockets   string
	leak      *os.File // inherited by the command
}

// newCaller is a caller that starts daemons.
func newCaller(t *testing.T) *caller {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("starts the shim's daemon, which takes root")
	}
	shim, err := peers.Shim()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "s") // short: it becomes a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return &caller{t: t, bin: filepath.Join(shim, "containerd-shim-sysbox-v1"), namespace: fmt.Sprintf("sysbox-test-%d", os.Getpid()), sockets: dir}
}

// bundle makes a bundle for a container of a pod.
func (c *caller) bundle(pod string) string {
	c.t.Helper()
	dir := c.t.TempDir()
	spec := fmt.Sprintf(`{"ociVersion":"1.3.0","annotations":{"io.kubernetes.cri.sandbox-id":%q}}`, pod)
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(spec), 0o600); err != nil {
		c.t.Fatal(err)
	}
	return dir
}

// run executes an action with stdout and stderr together, as containerd does.
func (c *caller) run(id, dir string, stdin []byte, args ...string) ([]byte, error) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	return c.command(ctx, id, dir, stdin, args...).CombinedOutput()
}

func (c *caller) command(ctx context.Context, id, dir string, stdin []byte, args ...string) *exec.Cmd {
	args = append([]string{"-namespace", c.namespace, "-address", "/run/test.sock", "-publish-binary", "/bin/true", "-id", id}, args...)
	cmd := exec.CommandContext(ctx, c.bin, args...)
	cmd.Dir = dir
	cmd.Stdin = bytes.NewReader(stdin)
	if c.leak != nil {
		cmd.ExtraFiles = []*os.File{c.leak}
	}
	cmd.Env = append(os.Environ(), "TTRPC_ADDRESS=", "MAX_SHIM_VERSION=2")
	return cmd
}

// params is the stdin of containerd 2.3 and newer.
func (c *caller) params(id string) []byte {
	b, err := proto.Marshal(&bootapi.BootstrapParams{InstanceID: id, Namespace: c.namespace, SocketDir: &c.sockets})
	if err != nil {
		c.t.Fatal(err)
	}
	return b
}

// startNew starts as containerd 2.3 and newer does.
func (c *caller) startNew(id, dir string, args ...string) *bootapi.BootstrapResult {
	c.t.Helper()
	out, err := c.run(id, dir, c.params(id), append(args, "start")...)
	if err != nil {
		c.t.Fatalf("start: %v: %s", err, out)
	}
	var r bootapi.BootstrapResult
	if err := proto.Unmarshal(out, &r); err != nil {
		c.t.Fatalf("start answered %q: %v", out, err)
	}
	c.killAfter(r.Address)
	return &r
}

// killAfter ends the daemon behind an address with the test, if it is there.
func (c *caller) killAfter(address string) {
	c.t.Helper()
	pid := c.shimPid(address)
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		unix.Close(fd)
		os.Remove(strings.TrimPrefix(address, "unix://"))
	})
}

func (c *caller) dial(address string) *ttrpc.Client {
	c.t.Helper()
	conn, err := net.Dial("unix", strings.TrimPrefix(address, "unix://"))
	if err != nil {
		c.t.Fatal(err)
	}
	client := ttrpc.NewClient(conn)
	c.t.Cleanup(func() { client.Close() })
	return client
}

func (c *caller) shimPid(address string) int {
	c.t.Helper()
	client := c.dial(address)
	defer client.Close()
	r, err := taskv2.NewTTRPCTaskClient(client).Connect(c.t.Context(), &taskv2.ConnectRequest{ID: "any"})
	if err != nil {
		c.t.Fatal(err)
	}
	return int(r.ShimPid)
}

// gone waits for a process's end.
func gone(t *testing.T, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(patience/time.Millisecond))
	if err != nil || n != 1 {
		t.Fatalf("process %d is still there: %v", pid, err)
	}
}
