// SPDX-License-Identifier: Apache-2.0

package mount_test

import (
	"os"
	"strings"
	"testing"

	"sysbox/runtime"
	"sysbox/tests/testcontainer"
)

// TestBlockDevice: a block device that the configuration names is the container's to read
// and write; others are refused.
func TestBlockDevice(t *testing.T) {
	t.Parallel()
	path, rdev := testcontainer.LoopDevice(t, 1<<20)
	_, other := testcontainer.LoopDevice(t, 1<<20)
	p := testcontainer.NewPod(t)
	p.Config.BlockDevices = []string{path}
	w, text := testcontainer.Pipe(t)
	bundle := testcontainer.Busybox(t, testcontainer.WithBlock(rdev), "sh", "-c", "stat -c '%F %a %u:%g' /dev/disk; echo written >/dev/disk; head -c 8 /dev/disk")
	c := testcontainer.Create(t, p, runtime.CreateRequest{ID: "c1", Bundle: bundle, Stdio: runtime.Stdio{Stdout: w, Stderr: w}})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	testcontainer.Wait(t, c.Init())
	if out, want := text(), "block special file 660 0:0\nwritten\n"; out != want {
		t.Errorf("output %q, want %q", out, want)
	}
	if b, err := os.ReadFile(path); err != nil || !strings.HasPrefix(string(b), "written\n") {
		t.Errorf("the host reads %q, %v", b[:min(len(b), 10)], err)
	}
	bundle = testcontainer.Busybox(t, testcontainer.WithBlock(other), "true")
	if _, err := p.Create(t.Context(), runtime.CreateRequest{ID: "c2", Bundle: bundle}); err == nil || !strings.Contains(err.Error(), "block_devices") {
		t.Errorf("another device: %v", err)
	}
}
