// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sysbox/tests/harness"
	"sysbox/tests/images"
	"sysbox/tests/peers"
)

// dmaLatency is a character device that every kernel has and no container is given unasked.
const dmaLatency = "/dev/cpu_dma_latency"

// TestDevicesOfCDI: a device that a CDI specification adds, by ctr --device, is owned as it
// asks and can be opened wherever its node is, while one beside it that was not granted
// cannot; the mounts, hooks and variables of the specification are there, too.
func TestDevicesOfCDI(t *testing.T) {
	h := on(t, peers.Newest)
	var st unix.Stat_t
	if err := unix.Stat(dmaLatency, &st); err != nil {
		t.Skipf("this kernel has no device to try it with: %v", err)
	}
	dir := cdi(t)
	nodes := filepath.Join(dir, "nodes")
	if err := os.Mkdir(nodes, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, dev := range map[string]uint64{"granted": st.Rdev, "other": unix.Mkdev(10, 183)} {
		if err := unix.Mknod(filepath.Join(nodes, name), unix.S_IFCHR|0o666, int(dev)); err != nil {
			t.Fatal(err)
		}
	}
	spec := fmt.Sprintf(`{"cdiVersion": "0.6.0", "kind": "vendor.example/class", "devices": [{"name": "one", "containerEdits": {
		"env": ["VENDOR=yes"],
		"deviceNodes": [{"path": "/dev/vendor0", "hostPath": %q, "type": "c", "fileMode": 416, "uid": 1000, "gid": 5, "permissions": "rw"}],
		"mounts": [{"hostPath": %q, "containerPath": "/opt/nodes", "options": ["rbind", "ro"]}],
		"hooks": [{"hookName": "createRuntime", "path": "/bin/sh", "args": ["sh", "-c", "cat >%s/state"]}]}}]}`, dmaLatency, nodes, dir)
	if err := os.WriteFile(filepath.Join(dir, "vendor.json"), []byte(spec), 0o644); err != nil {
		t.Fatal(err)
	}
	run := func(device, script string) string {
		t.Helper()
		id := fmt.Sprintf("cdi%s-%d", session, count.Add(1))
		out, err := h.Ctr(background(t), "run", "--rm", "--runtime", harness.Runtime, "--device", device, images.BusyboxName, id, "sh", "-c", script).CombinedOutput()
		if err != nil {
			t.Fatalf("ctr run --device %s: %v\n%s", device, err, out)
		}
		return string(out)
	}
	const files = "FILES='/dev/vendor0 /opt/nodes/granted /opt/nodes/other'; echo $(stat -c '%a %u:%g' /dev/vendor0) $VENDOR; "
	const opens = `for f in $FILES; do if : <$f; then echo opens; fi; done 2>&1 | sed 's/.*: //'; `
	want := "640 1000:5 yes\nopens\nopens\nOperation not permitted\n"
	if got := run("vendor.example/class=one", files+opens); !strings.HasSuffix(got, want) { // ctr may warn of the host first
		t.Errorf("by a CDI name: %q, want %q", got, want)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "state")); err != nil || !strings.Contains(string(b), `"status":"creat`) {
		t.Errorf("the hook of the specification got %q, %v", b, err)
	}
	want = "0:0\nopens\n"
	if got := run(dmaLatency, "FILES="+dmaLatency+"; stat -c %u:%g $FILES; "+opens); !strings.HasSuffix(got, want) {
		t.Errorf("by its path: %q, want %q", got, want)
	}
}

// cdi returns a folder in which ctr looks for specifications, the test's own.
func cdi(t *testing.T) string {
	t.Helper()
	const dir = "/run/cdi"
	made := os.Mkdir(dir, 0o755) == nil
	onHost(t, "mount -t tmpfs cdi "+dir)
	t.Cleanup(func() {
		onHost(t, "umount "+dir)
		if made {
			_ = os.Remove(dir)
		}
	})
	return dir
}
