// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	taskv2 "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/containerd/containerd/api/types"

	"sysbox/tests/testhost"
)

// TestNamesInErrors: names of an image's files, which an error tells, may be no text, or
// what a terminal obeys. The caller gets one line of text: an answer that cannot be
// encoded ends the connection, and the caller takes the shim for dead.
func TestNamesInErrors(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("makes a container, which takes root")
	}
	c := newCaller(t)
	dir := c.bundle("pod")
	spec := fmt.Sprintf(`{"ociVersion":"1.3.0","process":{"args":["true"],"cwd":"/"},"root":{"path":"rootfs"},"linux":{"cgroupsPath":"/sysbox-shim-names-%d",
		"namespaces":[{"type":"pid"},{"type":"ipc"},{"type":"uts"},{"type":"mount"},{"type":"network"}]}}`, os.Getpid())
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(spec), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "rootfs"), 0o755); err != nil {
		t.Fatal(err)
	}
	layer := t.TempDir()
	if err := os.MkdirAll(layer+"/var/lib/docker", 0o755); err != nil {
		t.Fatal(err)
	}
	name := "\xff\n\x1b]0;evil\x07\u202e" + strings.Repeat("x", 230)
	testhost.Deep(t, layer+"/var/lib/docker", name, 20, nil)

	r := c.startNew("box", dir)
	client := v3Client{c.dial(r.Address)}
	err := client.call(t.Context(), "Create", &taskv2.CreateTaskRequest{ID: "box", Bundle: dir, Rootfs: []*types.Mount{
		{Type: "overlay", Source: "overlay", Options: []string{"lowerdir=" + layer + ":" + t.TempDir()}},
	}}, &taskv2.CreateTaskResponse{})
	if err == nil || !strings.Contains(err.Error(), "file name too long") {
		t.Errorf("create gave %.300v", err)
	} else if bad := strings.IndexFunc(err.Error(), func(r rune) bool { return !unicode.IsPrint(r) }); bad >= 0 {
		t.Errorf("the error has %+q", err.Error()[bad:bad+4])
	}
	if err := client.call(t.Context(), "Connect", &taskv2.ConnectRequest{ID: "box"}, &taskv2.ConnectResponse{}); err != nil {
		t.Errorf("the next call gave %.300v", err)
	}
}

// TestNoOtherSockets: the daemon can be reached by its path socket and by nothing that whoever
// shares its network namespace finds (CVE-2020-15257): no abstract name, no port.
func TestNoOtherSockets(t *testing.T) {
	c := newCaller(t)
	r := c.startNew("pod", c.bundle("pod"))
	pid := c.shimPid(r.Address)
	unixSockets, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/unix", pid))
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]string{} // by inode, proc_pid_net(5)
	for line := range strings.Lines(string(unixSockets)) {
		if f := strings.Fields(line); len(f) >= 7 {
			names[f[6]] = strings.Join(f[7:], " ")
		}
	}
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	own := strings.TrimPrefix(r.Address, "unix://")
	found := false
	for _, fd := range fds {
		target, err := os.Readlink(fd)
		inode, isSocket := strings.CutPrefix(target, "socket:[")
		if err != nil || !isSocket {
			continue
		}
		name, isUnix := names[strings.TrimSuffix(inode, "]")]
		found = found || name == own
		if !isUnix || name != own && name != "" {
			t.Errorf("the daemon has a socket %q (of unix: %v)", name, isUnix)
		}
	}
	if !found {
		t.Errorf("the daemon does not have its socket %s: %v", own, names)
	}
	if st, err := os.Stat(own); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the socket is %v, %v", st, err)
	}
}
