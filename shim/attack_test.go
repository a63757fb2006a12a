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
	"golang.org/x/sys/unix"
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
	at, err := unix.Open(layer+"/var/lib/docker", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	name := "\xff\n\x1b]0;evil\x07\u202e" + strings.Repeat("x", 230)
	for range 20 {
		if err := unix.Mkdirat(at, name, 0o755); err != nil {
			t.Fatal(err)
		}
		next, err := unix.Openat(at, name, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(at)
		at = next
	}
	unix.Close(at)

	r := c.startNew("box", dir)
	client := v3Client{c.dial(r.Address)}
	err = client.call(t.Context(), "Create", &taskv2.CreateTaskRequest{ID: "box", Bundle: dir, Rootfs: []*types.Mount{
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
